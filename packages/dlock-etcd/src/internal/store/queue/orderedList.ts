/** A list of claims in the order of their queue. */

/** An item of the list. The revision that created it says where it belongs. */
export interface Linked<Self> {
  readonly created: bigint | undefined
  previous: Self | undefined
  next: Self | undefined
}

/** A linked list in the order of a queue. Most new items are the last, so the search for where an item belongs starts there. */
export class OrderedList<Item extends Linked<Item>> {
  first: Item | undefined
  last: Item | undefined

  insert(one: Item): void {
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

  /** Removes an item, which then keeps none of the others alive. */
  remove(one: Item): void {
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
