/** One of a chain: it is there by the revision that created it. */
export interface Link<Self> {
  readonly created: bigint | undefined
  previous: Self | undefined
  next: Self | undefined
}

/** Claims in the order of a queue. Most that come are the last, so whoever comes is looked for a place from there. */
export class Chain<One extends Link<One>> {
  first: One | undefined
  last: One | undefined

  insert(one: One): void {
    let previous = this.last
    while (previous !== undefined && previous.created! > one.created!) previous = previous.previous
    const next = previous === undefined ? this.first : previous.next
    one.previous = previous
    one.next = next
    if (previous === undefined) this.first = one
    else previous.next = one
    if (next === undefined) this.last = one
    else next.previous = one
  }

  /** It keeps none of the others alive. */
  remove(one: One): void {
    const { next, previous } = one
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    one.previous = undefined
    one.next = undefined
  }

  clear(): void {
    this.first = undefined
    this.last = undefined
  }
}
