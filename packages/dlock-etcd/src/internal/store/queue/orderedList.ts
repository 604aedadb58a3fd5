/** A list of claims in queue order. */

/** An item of the list. Its create revision determines its position. */
export interface Linked<Self> {
  readonly created: bigint | undefined
  previous: Self | undefined
  next: Self | undefined
}

/** A linked list in queue order. Most new items belong at the end, so `insert` searches from there. */
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

  /** Removes an item and clears its links, so that it keeps no other item in memory. */
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
