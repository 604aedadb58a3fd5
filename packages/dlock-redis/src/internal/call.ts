import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { fromClient, notSent, unusable } from "./failure.ts"
import type { CallFailure, Port, Reply } from "./port.ts"
import type { Call, Script } from "./scripts.ts"

/** A client of Redis as far as a script goes: by its digest, or with its text where the server does not know it. */
export interface Client {
  /** Whether a request would be sent at once. */
  readonly ready: () => boolean
  readonly send: (command: "evalsha" | "eval", program: string, call: Call) => Promise<unknown>
}

/** How scripts run over a client. */
export const runner = (clock: Clock.Clock, { ready, send }: Client): Port["run"] =>
<Args, A>(
  script: Script<Args, A>,
  args: Args,
  tally?: { unanswered: number }
): Effect.Effect<Reply<A>, CallFailure> =>
  Effect.callback((resume) => {
    if (!ready()) return resume(Effect.fail(notSent))
    const call = script.encode(args)
    let sentAt = clock.monotonicTimeNanosUnsafe()
    if (tally !== undefined) tally.unanswered++
    const answered = () => {
      if (tally !== undefined) tally.unanswered--
    }
    const onReply = (raw: unknown): void => {
      answered()
      resume(Effect.map(decoded(script, raw), (value) => ({ sentAt, value })))
    }
    const onError = (error: unknown): void => {
      const failure = fromClient(error)
      if (failure.notDone) answered()
      resume(Effect.fail(withKeys(failure, call.keys)))
    }
    send("evalsha", script.sha, call).then(onReply, (error: unknown) => {
      if (!isUnknownScript(error)) return onError(error)
      sentAt = clock.monotonicTimeNanosUnsafe()
      send("eval", script.lua, call).then(onReply, onError)
    })
  })

/** The server does not say which keys it refuses. */
const withKeys = (failure: CallFailure, keys: ReadonlyArray<string>): CallFailure => {
  const { message } = failure.cause
  if (!/^NOPERM .*\bkeys?\b/.test(message)) return failure
  const patterns = new Set(keys.map((key) => `~${key.replace(/\0.*/s, "*")}`))
  return { ...failure, cause: new Error(`${message}: the user needs ${Array.from(patterns).join(" ")}`) }
}

/** The server does not know the script by its digest, so it has not run. */
const isUnknownScript = (error: unknown): boolean => fromClient(error).cause.message.startsWith("NOSCRIPT")

export const decoded = <Args, A>(script: Script<Args, A>, raw: unknown): Effect.Effect<A, CallFailure> => {
  try {
    return Effect.succeed(script.decode(raw))
  } catch (error) {
    return Effect.fail(unusable(error))
  }
}
