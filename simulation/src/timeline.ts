/** Something that happens at a given moment, unless it is cancelled. */
export interface Event {
  readonly at: number
  readonly order: number
  run: (() => void) | undefined
}

/**
 * The time of a world, in whole microseconds, and its future events. Events of the same moment happen in the order in
 * which they were scheduled.
 */
export class Timeline {
  now = 0
  /** Events that have happened. */
  steps = 0
  private readonly heap: Array<Event> = []
  private order = 0

  at(time: number, run: () => void): Event {
    const event: Event = { at: Math.max(this.now, Math.round(time)), order: this.order++, run }
    this.heap.push(event)
    let slot = this.heap.length - 1
    while (slot > 0) {
      const parent = (slot - 1) >> 1
      if (!isBefore(event, this.heap[parent]!)) break
      this.heap[slot] = this.heap[parent]!
      slot = parent
    }
    this.heap[slot] = event
    return event
  }

  in(micros: number, run: () => void): Event {
    return this.at(this.now + micros, run)
  }

  cancel(event: Event): void {
    event.run = undefined
  }

  /** Runs all events until `goesOn` returns false, no event is left, or the time is over. */
  run(until: number, goesOn: () => boolean): void {
    while (this.heap.length > 0 && this.heap[0]!.at <= until && goesOn()) {
      const event = this.take()
      if (event.run === undefined) continue
      this.now = event.at
      this.steps++
      event.run()
    }
  }

  /** Runs all events up to that time. */
  pass(until: number): void {
    this.run(until, () => true)
    this.now = Math.max(this.now, until)
  }

  private take(): Event {
    const first = this.heap[0]!
    const last = this.heap.pop()!
    if (this.heap.length === 0) return first
    let slot = 0
    while (true) {
      const left = 2 * slot + 1
      if (left >= this.heap.length) break
      const right = left + 1
      const child = right < this.heap.length && isBefore(this.heap[right]!, this.heap[left]!) ? right : left
      if (!isBefore(this.heap[child]!, last)) break
      this.heap[slot] = this.heap[child]!
      slot = child
    }
    this.heap[slot] = last
    return first
  }
}

const isBefore = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

export const millis = (count: number): number => Math.round(count * 1_000)
