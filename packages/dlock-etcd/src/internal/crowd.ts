import type { Seat } from "./seat.ts"

/**
 * Those of this process that wait for one mutex, in the order of the queue.
 *
 * Several of them ask at once, and a server takes what comes at once in any order. So that they come in in the order in which
 * they asked, those who came to stand the wrong way round exchange their seats: to the server they are the same but for the
 * id. That is told nobody, since nothing of either is under way.
 */
export class Crowd {
  first: Seat | undefined
  last: Seat | undefined
  private readonly byKey = new Map<string, Seat>()

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
    let previous = this.last
    while (previous !== undefined && previous.created! > seat.created!) previous = previous.previous
    const next = previous === undefined ? this.first : previous.next
    seat.previous = previous
    seat.next = next
    if (previous === undefined) this.first = seat
    else previous.next = seat
    if (next === undefined) this.last = seat
    else next.previous = seat
    this.order(seat)
  }

  /** Whether it was there. */
  leave(seat: Seat): boolean {
    if (!this.has(seat)) return false
    this.byKey.delete(seat.key)
    const { next, previous } = seat
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    seat.previous = undefined
    seat.next = undefined
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
