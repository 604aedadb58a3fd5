import { Locker } from "effect-dlock/Locker"
import { LockTimeout } from "effect-dlock/LockError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../../backend.ts"
import { failBusy } from "../../holding/busy.ts"
import * as Handle from "../../holding/handle.ts"
import { leave } from "../../holding/leftLock.ts"
import { sayingFailures } from "../../holding/saying.ts"
import { timeoutOf } from "../../holding/terms.ts"
import { durationFlag } from "../../options/duration.ts"
import * as Holding from "../../options/holding.ts"
import { key } from "../../options/key.ts"
import { writeAtOnce } from "../../output.ts"
import { withSignals } from "../../process/signals.ts"
import { quietly } from "../../quiet.ts"

export const take = Command.make("take", {
  key,
  time: durationFlag("for").pipe(Flag.withDescription("How long the lock lasts. Nothing renews it")),
  ...Holding.waiting,
  metadata: Holding.lease.metadata
}, ({ conflict, isTry, key, metadata, time, wait }) =>
  sayingFailures(withSignals(() =>
    Effect.gen(function*() {
      const timeout = isTry
        ? yield* Effect.as(timeoutOf({ isTry, wait }), { maxQueue: 0 })
        : yield* timeoutOf({ isTry, wait })
      const taken = yield* leave(key, {
        ...timeout,
        ttl: time,
        guardGap: 0,
        ...(Option.isSome(metadata) && { metadata: metadata.value })
      }).pipe(
        Effect.catchIf(
          (error) => error instanceof LockTimeout,
          // What the library warns of was said by the first store.
          (timeout) => quietly(Effect.provide(failBusy([key], conflict, timeout), Backend.locker))
        )
      )
      yield* writeAtOnce(
        taken,
        ({ holder, key, token, until }) => ({
          handle: Handle.encode(taken),
          key,
          token: String(token),
          holder,
          expiresInMs: Duration.toMillis(time),
          expiresAt: DateTime.formatIso(until)
        }),
        Handle.encode
      ).pipe(
        // A lock whose handle nobody has would stand until its end.
        Effect.tapError(() =>
          Effect.ignore(Effect.provide(Locker.breakLock(key, { token: taken.token }), Backend.locker))
        )
      )
      // The end of the locker would release the lock.
      return yield* Effect.sync(() => process.exit(0))
    })
  ))).pipe(
    Command.withDescription("Take a lock for a fixed time, print its handle, and leave"),
    Command.withExamples([
      { command: "HANDLE=$(dlock take deploy --for 10m)", description: "In one step of a pipeline" },
      { command: "dlock take -w 1h deploy --for 10m", description: "Wait for it, one hour at most" }
    ])
  )
