import { Locker } from "effect-dlock/Locker"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Backend from "../../backend.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import * as Handle from "../../holding/handle.ts"
import { sayingFailures } from "../../holding/saying.ts"
import { usage } from "../../holding/terms.ts"
import { write } from "../../output.ts"
import { shown } from "../../shown.ts"

export const give = Command.make("give", {
  handle: Argument.String("handle").pipe(Argument.withDescription("The handle that dlock take printed"))
}, ({ handle }) =>
  sayingFailures(
    Effect.gen(function*() {
      const hold = Handle.decode(handle)
      if (hold === undefined) return yield* usage("this is no handle of dlock take: is it whole?")
      const { key, token } = hold
      const isGiven = yield* Effect.gen(function*() {
        const { holders } = yield* Locker.inspect(key)
        const isHeld = holders.some((one) => one.token === token && Handle.isOf(hold, { key, ...one }))
        return isHeld && (yield* Locker.breakLock(key, { token }))
      }).pipe(Effect.provide(Backend.locker))
      if (!isGiven) {
        return yield* Effect.fail(
          new Failure({
            message: `${
              shown(key)
            } is not held any more with token ${token}: its time was over, it was given before, or it is of another server or prefix`,
            exitCode: exitCodes.no
          })
        )
      }
      return yield* write(hold, () => ({ key, token: String(token), released: true }), () => `released ${shown(key)}`)
    })
  )).pipe(
    Command.withDescription("Release a lock that dlock take has taken"),
    Command.withExamples([{ command: "dlock give \"$HANDLE\"", description: "In a later step of the pipeline" }])
  )
