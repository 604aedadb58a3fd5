import * as Effect from "effect/Effect"
import type { OwnershipLost } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"
import { logged } from "./log.ts"

/**
 * Tells of lost locks: of those that go together, or soon after others, in one line. A backend that goes away takes all
 * locks of a process with it, each at its own deadline.
 */
export class LossLog {
  private untold: Array<OwnershipLost> = []
  private telling = false
  private readonly time: Time
  private readonly fork: (effect: Effect.Effect<void>) => unknown

  constructor(time: Time, fork: (effect: Effect.Effect<void>) => unknown) {
    this.time = time
    this.fork = fork
  }

  add(loss: OwnershipLost): void {
    this.untold.push(loss)
    if (this.telling) return
    this.telling = true
    this.fork(Effect.andThen(Effect.yieldNow, this.tell))
  }

  /** What is left to tell when the locker goes. */
  readonly rest: Effect.Effect<void> = Effect.suspend(() => this.untold.length === 0 ? Effect.void : this.line())

  private readonly tell: Effect.Effect<void> = Effect.suspend(() => {
    if (this.untold.length === 0) {
      this.telling = false
      return Effect.void
    }
    return Effect.andThen(this.line(), Effect.andThen(this.time.sleep(pause), this.tell))
  })

  private line(): Effect.Effect<void> {
    const [first, ...others] = this.untold
    this.untold = []
    if (others.length === 0) return logged(Effect.logWarning(first!.message), first!.key)
    const keys = others.slice(0, 4).map(({ key }) => JSON.stringify(key)).join(", ")
    const more = others.length > 4 ? ` and ${others.length - 4} others` : ""
    return logged(Effect.logWarning(`${first!.message}; with it ${keys}${more}`), first!.key)
  }
}

const pause = 1_000
