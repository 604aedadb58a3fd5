interface Node<A> {
  readonly value: A
  before: Node<A> | undefined
  after: Node<A> | undefined
}

/**
 * In the order of arrival: the first of all and any by its id, each in a time that does not grow with the queue.
 *
 * A `Map` keeps that order too, but who asks it for its first steps over all that left before: a crowd that leaves from
 * the front pays for its square.
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

  get(id: string): A | undefined {
    return this.byId.get(id)?.value
  }

  /** At the end; its id must not be in the queue. */
  add(id: string, value: A): void {
    const node: Node<A> = { value, before: this.tail, after: undefined }
    if (this.tail === undefined) this.head = node
    else this.tail.after = node
    this.tail = node
    this.byId.set(id, node)
  }

  /** Does nothing for one that is not in the queue. */
  remove(id: string): void {
    const node = this.byId.get(id)
    if (node === undefined) return
    this.byId.delete(id)
    if (node.before === undefined) this.head = node.after
    else node.before.after = node.after
    if (node.after === undefined) this.tail = node.before
    else node.after.before = node.before
  }

  /** How many stand before it, counted one by one: all of them, where it is not in the queue. */
  placeOf(id: string): number {
    const node = this.byId.get(id)
    let place = 0
    for (let other = this.head; other !== node; other = other?.after) place++
    return place
  }
}
