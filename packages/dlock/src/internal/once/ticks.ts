import * as Cron from "effect/Cron"
import * as Effect from "effect/Effect"
import type { InvalidLockRequest } from "../../LockError.ts"
import { invalidRequest } from "../options/invalidRequest.ts"

/** The nominal times of a schedule, in milliseconds since 1970. All processes compute the same ones. */
export class Ticks {
  private readonly cron: Cron.Cron

  constructor(cron: Cron.Cron) {
    this.cron = cron
  }

  /**
   * The first tick after a time. It is found from the tick before: in the half hour after a clock change, `Cron.next` does
   * not know a tick that the change has moved.
   */
  after(time: number): number {
    let tick = this.atOrBefore(time)
    while (tick <= time) tick = Cron.next(this.cron, tick).getTime()
    return tick
  }

  /** The last tick at a time or before it. */
  atOrBefore(time: number): number {
    return Cron.prev(this.cron, time + 1).getTime()
  }
}

/** Checks that a schedule has ticks. */
export const make = (key: string, cron: unknown): Effect.Effect<Ticks, InvalidLockRequest> =>
  Effect.suspend(() => {
    const invalid = (problem: string) => Effect.fail(invalidRequest(key, "cron", problem))
    if (!Cron.isCron(cron)) return invalid("must be a Cron, as made by Cron.parse")
    return Effect.try({
      try: () => {
        const ticks = new Ticks(cron)
        ticks.after(0)
        return ticks
      },
      catch: () => invalidRequest(key, "cron", "must be a schedule that has a next time")
    })
  })
