/** The places of this process in one queue, in order. */

import type { Place } from "../trackedClaim.ts"
import { OrderedList } from "./orderedList.ts"

/**
 * The places of this process that wait for one mutex, in the order of the queue.
 *
 * Several claims ask at once, and a server takes what comes at once in any order. So that they are granted in the order in which
 * they asked, two that came to stand the wrong way round exchange their places: to the server they are the same but for the id.
 * The server need not be told, since nothing of either is under way.
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

  /** Adds a place where it belongs: if an answer was lost, others may stand behind it already. */
  add(place: Place): void {
    this.remove(place)
    this.byKey.set(place.key, place)
    this.list.insert(place)
    this.order(place)
  }

  /** Removes a place, and tells whether it was there. */
  remove(place: Place): boolean {
    if (!this.has(place)) return false
    this.byKey.delete(place.key)
    this.list.remove(place)
    return true
  }

  /** Moves the claim of a place to where it belongs. All others are in order, as far as they can be. */
  private order(place: Place): void {
    for (let one = place; one.previous !== undefined && mayExchange(one.previous, one); one = one.previous) {
      one.tracked.exchangePlaces(one.previous.tracked)
    }
    for (let one = place; one.next !== undefined && mayExchange(one, one.next); one = one.next) {
      one.tracked.exchangePlaces(one.next.tracked)
    }
  }
}

/** Has the claim before asked after the one behind it, and are they the same to the server? */
const mayExchange = ({ tracked: before }: Place, { tracked: behind }: Place): boolean =>
  (before.number ?? -1) > (behind.number ?? Infinity) && before.isAtRest && behind.isAtRest &&
  before.kind === behind.kind
