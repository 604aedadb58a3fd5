/** The waiting places of this process in one queue, in order. */

import type { Place } from "../trackedClaim.ts"
import { OrderedList } from "./orderedList.ts"

/**
 * The places of this process that wait for one mutex, in queue order.
 *
 * Several claims request places at the same time, and the server executes concurrent requests in any order. Claims must be
 * granted in the order of their requests, so two claims in the wrong order exchange their places: to the server they differ
 * only in their ids. The server does not need to know, because neither claim has a pending request.
 */
export class WaitingPlaces {
  private readonly list = new OrderedList<Place>()
  private readonly byKey = new Map<string, Place>()

  get first(): Place | undefined {
    return this.list.first
  }

  get last(): Place | undefined {
    return this.list.last
  }

  get size(): number {
    return this.byKey.size
  }

  get(key: string): Place | undefined {
    return this.byKey.get(key)
  }

  has(place: Place): boolean {
    return this.byKey.get(place.key) === place
  }

  *[Symbol.iterator](): Generator<Place> {
    let place = this.first
    while (place !== undefined) {
      const { next } = place
      yield place
      place = next
    }
  }

  /** Adds a place at its position. If its answer was lost before, there may be places behind it already. */
  add(place: Place): void {
    this.remove(place)
    this.byKey.set(place.key, place)
    this.list.insert(place)
    this.order(place)
  }

  /** Removes a place and returns whether it was there. */
  remove(place: Place): boolean {
    if (!this.has(place)) return false
    this.byKey.delete(place.key)
    this.list.remove(place)
    return true
  }

  /** Moves the claim of a place to the right place. The other claims are in order already, as far as they may be exchanged. */
  private order(place: Place): void {
    for (let one = place; one.previous !== undefined && mayExchange(one.previous, one); one = one.previous) {
      one.tracked.exchangePlaces(one.previous.tracked)
    }
    for (let one = place; one.next !== undefined && mayExchange(one, one.next); one = one.next) {
      one.tracked.exchangePlaces(one.next.tracked)
    }
  }
}

/** Whether the claim before was requested after the claim behind, and the two are the same to the server. */
const mayExchange = ({ tracked: before }: Place, { tracked: behind }: Place): boolean =>
  (before.number ?? -1) > (behind.number ?? Infinity) && before.isAtRest && behind.isAtRest &&
  before.kind === behind.kind
