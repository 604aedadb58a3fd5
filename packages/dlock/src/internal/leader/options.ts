import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { InvalidLockRequest } from "../../LockError.ts"
import type { TryLockOptions } from "../../LockOptions.ts"
import { duration, year } from "../../StoreOptions.ts"
import { invalidRequest } from "../options/invalidRequest.ts"
import * as Request from "../options/request.ts"
import * as Rules from "../options/rules.ts"
import type { Settings } from "../options/settings.ts"
import type { Check } from "./health.ts"

/** The options of a candidate, before they are parsed. */
export interface Given extends Omit<TryLockOptions, "reentrant"> {
  readonly restart?: "always" | "never" | undefined
  readonly cooldown?: Duration.Input | undefined
  readonly healthy?: Check | undefined
}

/** The options of a candidate, after parsing. Times are milliseconds. */
export interface Terms {
  readonly isRestarted: boolean
  readonly cooldown: number
  readonly healthy: Check | undefined
  readonly ttl: number
  /** The options of the lock. */
  readonly lock: TryLockOptions
}

/** Checks the name and the options, before anything is sent. */
export const parse = (
  settings: Settings,
  name: string,
  options: Given | undefined
): Effect.Effect<Terms, InvalidLockRequest> =>
  Effect.suspend(() => {
    const invalid = (parameter: string, problem: string) => Effect.fail(invalidRequest(name, parameter, problem))
    if (options !== undefined && (typeof options !== "object" || options === null)) {
      return invalid("options", "must be an object")
    }
    const { cooldown, healthy, restart, ...given } = options ?? {}
    // It is counted under its own name, as the metric of who leads has it. A key that is no such name is counted under none.
    const lock = given.name !== undefined || Result.isFailure(Rules.name(name)) ? given : { ...given, name }
    if ("reentrant" in lock) return invalid("reentrant", "is not an option of a leader")
    const parsed = Request.parse(settings, Request.usual(settings), name, lock, false, "mutex")
    if (parsed instanceof InvalidLockRequest) return Effect.fail(parsed)
    if (restart !== undefined && restart !== "always" && restart !== "never") {
      return invalid("restart", "must be \"always\" or \"never\"")
    }
    if (healthy !== undefined && !Effect.isEffect(healthy)) return invalid("healthy", "must be an effect")
    const pause = cooldown === undefined ? undefined : duration(0, year)(cooldown)
    if (pause !== undefined && Result.isFailure(pause)) return invalid("cooldown", pause.failure)
    const ttl = Duration.toMillis(parsed.ttl)
    return Effect.succeed({ isRestarted: restart !== "never", cooldown: pause?.success ?? ttl, healthy, ttl, lock })
  })
