import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { DeadlineHeap, type Item } from "../scheduling/deadlineHeap.ts"
import type { Time } from "../scheduling/time.ts"
import { callBack } from "../telemetry/callBack.ts"
import type { Events } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"
import * as Timing from "../timing.ts"

/** What can be held for too long: a lease, a view of one, or the leases of several locks. */
export interface Capped {
  /** The key for the log. Of several locks, the first. */
  readonly key: string
  /** Whether it is held at this time. A loss that came first is noticed here. */
  readonly check: (now: number) => boolean
  /** Whether some of several locks are held, where that is not the same. */
  readonly isAnyHeld?: (now: number) => boolean
  /** Ends it as lost because of its cap. */
  readonly outstay: (now: number) => void
  /** Calls back when it ends before its cap. */
  readonly whenEnded: (observer: () => void) => unknown
}

class Cap implements Item {
  index = -1
  dueAt = 0
  readonly lease: Capped
  readonly maxHold: number
  readonly endsAt: number
  constructor(lease: Capped, maxHold: number, endsAt: number) {
    this.lease = lease
    this.maxHold = maxHold
    this.endsAt = endsAt
  }
}

/**
 * The caps on how long locks are held (`maxHold`), behind one timer of a locker. A section without a cap is not in here.
 *
 * A cap is only about the holder: its claim stays held, so a program that ends before its interruption keeps its result,
 * however late the timer was.
 */
export class HoldCaps {
  private readonly heap: DeadlineHeap<Cap>
  private readonly time: Time
  private readonly events: Events

  constructor(
    time: Time,
    events: Events,
    log: Log,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.time = time
    this.events = events
    this.heap = new DeadlineHeap(time, fork, log, (now) => this.endDue(now))
  }

  /** Caps what was granted just now at `maxHold` milliseconds. */
  add(lease: Capped, maxHold: number): void {
    const now = this.time.now()
    const cap = new Cap(lease, maxHold, now + maxHold)
    this.heap.schedule(cap, now + Timing.holdWarningAfter(maxHold))
    lease.whenEnded(() => this.heap.remove(cap))
  }

  private endDue(now: number): void {
    for (let cap = this.heap.peek(); cap !== undefined && cap.dueAt <= now; cap = this.heap.peek()) {
      const { endsAt, lease, maxHold } = cap
      this.heap.remove(cap)
      if (!(lease.isAnyHeld?.(now) ?? lease.check(now))) continue
      if (now >= endsAt) {
        // Interrupted programs run within this call, and may throw.
        callBack(this.events, () => lease.outstay(now), lease.key)
        continue
      }
      this.events.nearMaxHold(lease.key, maxHold, endsAt - now)
      this.heap.schedule(cap, endsAt)
    }
  }
}
