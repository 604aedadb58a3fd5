import { Chain } from "./orderedList.ts"
import type { Seat } from "./place.ts"

/**
 * Those of this process that wait for one mutex, in the order of the queue.
 *
 * Several of them ask at once, and a server takes what comes at once in any order. So that they come in in the order in which
 * they asked, those who came to stand the wrong way round exchange their seats: to the server they are the same but for the
 * id. That is told nobody, since nothing of either is under way.
 */
export class Crowd {
  private readonly chain = new Chain<Seat>()
  private readonly byKey = new Map<string, Seat>()

  get first(): Seat | undefined {
    return this.chain.first
  }

  get last(): Seat | undefined {
    return this.chain.last
  }

  get size(): number {
    return this.byKey.size
  }

  get(key: string): Seat | undefined {
    return this.byKey.get(key)
  }

  has(seat: Seat): boolean {
    return this.byKey.get(seat.key) === seat
  }

  *[Symbol.iterator](): Generator<Seat> {
    let seat = this.first
    while (seat !== undefined) {
      const { next } = seat
      yield seat
      seat = next
    }
  }

  /** An answer that was lost is heard of late: others may stand behind it by then. */
  join(seat: Seat): void {
    this.leave(seat)
    this.byKey.set(seat.key, seat)
    this.chain.insert(seat)
    this.order(seat)
  }

  /** Whether it was there. */
  leave(seat: Seat): boolean {
    if (!this.has(seat)) return false
    this.byKey.delete(seat.key)
    this.chain.remove(seat)
    return true
  }

  /** All others are in order, as far as they can be. */
  private order(seat: Seat): void {
    for (let one = seat; one.previous !== undefined && mayExchange(one.previous, one); one = one.previous) {
      one.entry.exchangeSeats(one.previous.entry)
    }
    for (let one = seat; one.next !== undefined && mayExchange(one, one.next); one = one.next) {
      one.entry.exchangeSeats(one.next.entry)
    }
  }
}

/** Who stands before has asked after the one behind it, and nothing but that tells one from the other. */
const mayExchange = ({ entry: before }: Seat, { entry: behind }: Seat): boolean =>
  (before.number ?? -1) > (behind.number ?? Infinity) && before.isAtRest && behind.isAtRest &&
  before.kind === behind.kind
