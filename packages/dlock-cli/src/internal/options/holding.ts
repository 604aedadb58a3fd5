/** The flags of the commands that hold a lock. */
import * as Flag from "effect/cli/Flag"
import { durationFlag } from "./duration.ts"

/** How the lock is held. */
export const lease = {
  ttl: durationFlag("ttl").pipe(
    Flag.withDescription("How long the lock lasts if dlock dies or is cut off. Default: DLOCK_DEFAULT_TTL, or 30s"),
    Flag.optional
  ),
  guard: durationFlag("guard").pipe(
    Flag.withDescription(
      "How long the server keeps the lock after that. In this time the command is ended. Default: DLOCK_GUARD_GAP, or a tenth of the ttl"
    ),
    Flag.optional
  ),
  metadata: Flag.KeyValuePair("metadata").pipe(
    Flag.withDescription("Tell others who wait, as name=value. May be repeated. No secrets"),
    Flag.optional
  )
}

export const maxHold = durationFlag("max-hold").pipe(
  Flag.withDescription("End the command after this time. Default: DLOCK_MAX_HOLD, or no limit"),
  Flag.optional
)

/** How a call waits for a lock that another has. */
export const waiting = {
  isTry: Flag.Boolean("try").pipe(
    Flag.withAlias("n"),
    Flag.withDescription("Do not wait: exit with 75 if another has the lock"),
    Flag.withDefault(false)
  ),
  wait: durationFlag("wait").pipe(
    Flag.withAlias("w"),
    Flag.withDescription("Wait at most this long, then exit with 75. Default: DLOCK_DEFAULT_TIMEOUT, or no limit"),
    Flag.optional
  ),
  conflict: Flag.Int("conflict-exit-code").pipe(
    Flag.withAlias("E"),
    Flag.withDescription("Exit with this code instead of 75 if another has the lock"),
    Flag.filter((code) => code >= 0 && code <= 255, () => "--conflict-exit-code must be a number from 0 to 255"),
    Flag.optional
  )
}

/** The command, if it is not behind `--`. */
export const shell = Flag.String("command").pipe(
  Flag.withAlias("c"),
  Flag.withMetavar("script"),
  Flag.withDescription("Run this through sh -c, instead of a command behind --"),
  Flag.optional
)
