import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { fromClient, isReply, notSent, unusable } from "./failure.ts"
import type { Pending } from "./pending.ts"
import type { CallFailure, Port, Reply, Tally } from "./port.ts"
import type { Call, Script } from "./scripts.ts"

/** A client of Redis as far as a script goes: by its digest, or with its text where the server does not know it. */
export interface Client {
  /** Whether a request would be sent at once. */
  readonly ready: () => boolean
  readonly send: (command: "evalsha" | "eval", program: string, call: Call) => Promise<unknown>
}

/** How scripts run over a client. */
export const runner = (clock: Clock.Clock, { ready, send }: Client, pending: Pending): Port["run"] =>
<Args, A>(
  script: Script<Args, A>,
  args: Args,
  tally?: Tally,
  limit?: number
): Effect.Effect<Reply<A>, CallFailure> =>
  Effect.callback((resume) => {
    if (!ready()) return resume(Effect.fail(notSent))
    const queue = pending.within(limit)
    const call = script.encode(args)
    let sentAt = clock.monotonicTimeNanosUnsafe()
    if (tally !== undefined) tally.unanswered++
    const fail = (failure: CallFailure) => resume(Effect.fail(failure))
    const answered = () => {
      if (tally !== undefined) tally.unanswered--
    }
    const onReply = (raw: unknown): void => {
      pending.heard()
      answered()
      if (!queue.remove(sent)) return
      resume(decoded(script, raw, (value) => ({ sentAt, value })))
    }
    const onError = (error: unknown): void => {
      const failure = fromClient(error)
      if (isReply(failure.cause)) pending.heard()
      if (failure.notDone) answered()
      if (queue.remove(sent)) fail(withKeys(failure, call.keys))
    }
    const sent = queue.add(fail)
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

/** What a script's reply says, or that it says nothing we know. */
export const decoded = <A, B>(
  { decode }: Script<never, A>,
  raw: unknown,
  reply: (value: A) => B
): Exit.Exit<B, CallFailure> => {
  try {
    return Exit.succeed(reply(decode(raw)))
  } catch (error) {
    return Exit.fail(unusable(error))
  }
}
