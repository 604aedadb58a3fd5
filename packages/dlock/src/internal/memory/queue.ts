interface Node<A> {
  readonly value: A
  before: Node<A> | undefined
  after: Node<A> | undefined
}

/**
 * A queue in the order of arrival. Reading the first entry, and reading or removing any entry by its id, takes constant
 * time.
 *
 * A `Map` also keeps that order, but V8 reads its first entry by stepping over all deleted entries. If n waiters leave
 * from the front, that costs n² steps.
 */
export class Queue<A> {
  private readonly byId = new Map<string, Node<A>>()
  private head: Node<A> | undefined
  private tail: Node<A> | undefined

  get size(): number {
    return this.byId.size
  }

  get first(): A | undefined {
    return this.head?.value
  }

  *[Symbol.iterator](): Generator<A> {
    for (let node = this.head; node !== undefined; node = node.after) yield node.value
  }

  get(id: string): A | undefined {
    return this.byId.get(id)?.value
  }

  /** Adds an entry at the end. Its id must not be in the queue. */
  add(id: string, value: A): void {
    const node: Node<A> = { value, before: this.tail, after: undefined }
    if (this.tail === undefined) this.head = node
    else this.tail.after = node
    this.tail = node
    this.byId.set(id, node)
  }

  /** Removes an entry. Does nothing if the id is not in the queue. */
  remove(id: string): void {
    const node = this.byId.get(id)
    if (node === undefined) return
    this.byId.delete(id)
    if (node.before === undefined) this.head = node.after
    else node.before.after = node.after
    if (node.after === undefined) this.tail = node.before
    else node.after.before = node.before
  }

  /** Counts the entries before this one, one by one. If the id is not in the queue, it counts all entries. */
  placeOf(id: string): number {
    const node = this.byId.get(id)
    let place = 0
    for (let other = this.head; other !== node; other = other?.after) place++
    return place
  }
}
