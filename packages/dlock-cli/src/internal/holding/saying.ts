/** What a command that holds a lock says of itself: on stderr, since stdout belongs to the user's command. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { root } from "../commands/root.ts"
import { Failure, fromError } from "../failure.ts"

/** Says something, in words or as a line of JSON. */
export const say = (text: string, json: Readonly<Record<string, unknown>>) =>
  Effect.flatMap(root, (flags) => Console.error(flags.json ? JSON.stringify(json) : `dlock: ${text}`))

/** With `--json`, says a failure as a line of JSON too. */
export const sayingFailures = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catch(effect, (error) =>
    Effect.flatMap(root, (flags) => {
      const failure = fromError(error)
      if (!flags.json || failure.message === "") return Effect.fail(failure)
      const outcome = Predicate.hasProperty(error, "_tag") ? error._tag : "Failure"
      const line = JSON.stringify({ outcome, message: failure.message, exitCode: failure.exitCode })
      return Effect.andThen(
        Console.error(line),
        Effect.fail(new Failure({ message: "", exitCode: failure.exitCode }))
      )
    }))
