import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { connectionLost, fromClient, notSent, silent, unusable } from "./failure.ts"
import type { CallFailure, Port, Reply, Tally } from "./port.ts"
import type { Call, Script } from "./scripts.ts"

/** A client of Redis as far as a script goes: by its digest, or with its text where the server does not know it. */
export interface Client {
  /** Whether a request would be sent at once. */
  readonly ready: () => boolean
  readonly send: (command: "evalsha" | "eval", program: string, call: Call) => Promise<unknown>
}

/**
 * Calls without a reply, in the order in which they were sent. All have the same limit, so one timer looks after the
 * oldest: a timer for each would cost more than the call.
 */
export class Pending {
  private readonly calls = new Map<(failure: CallFailure) => void, number>()
  private readonly limit: number
  private timer: NodeJS.Timeout | undefined

  /** Milliseconds. */
  constructor(limit: number) {
    this.limit = limit
  }

  add(fail: (failure: CallFailure) => void): void {
    this.calls.set(fail, performance.now() + this.limit)
    this.timer ??= setTimeout(this.look, this.limit).unref()
  }

  /** False where it has failed meanwhile. */
  remove(fail: (failure: CallFailure) => void): boolean {
    return this.calls.delete(fail)
  }

  /** Nothing that was sent so far will be answered. */
  lost(): void {
    this.failWhile(() => true, connectionLost)
  }

  private readonly look = (): void => {
    const now = performance.now()
    this.failWhile((dueAt) => dueAt <= now, silent)
    const [dueAt] = this.calls.values()
    this.timer = dueAt === undefined ? undefined : setTimeout(this.look, Math.max(1, dueAt - now)).unref()
  }

  private failWhile(ends: (dueAt: number) => boolean, failure: CallFailure): void {
    for (const [fail, dueAt] of this.calls) {
      if (!ends(dueAt)) return
      this.calls.delete(fail)
      fail(failure)
    }
  }
}

/** How scripts run over a client. */
export const runner = (clock: Clock.Clock, { ready, send }: Client, pending: Pending): Port["run"] =>
<Args, A>(
  script: Script<Args, A>,
  args: Args,
  tally?: Tally
): Effect.Effect<Reply<A>, CallFailure> =>
  Effect.callback((resume) => {
    if (!ready()) return resume(Effect.fail(notSent))
    const call = script.encode(args)
    let sentAt = clock.monotonicTimeNanosUnsafe()
    if (tally !== undefined) tally.unanswered++
    const fail = (failure: CallFailure) => resume(Effect.fail(failure))
    const answered = () => {
      if (tally !== undefined) tally.unanswered--
    }
    const onReply = (raw: unknown): void => {
      answered()
      if (!pending.remove(fail)) return
      const decode = decoded(script, raw)
      resume(Exit.map(decode, (value) => ({ sentAt, value })))
    }
    const onError = (error: unknown): void => {
      const failure = fromClient(error)
      if (failure.notDone) answered()
      if (pending.remove(fail)) fail(withKeys(failure, call.keys))
    }
    pending.add(fail)
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

export const decoded = <Args, A>(script: Script<Args, A>, raw: unknown): Exit.Exit<A, CallFailure> => {
  try {
    return Exit.succeed(script.decode(raw))
  } catch (error) {
    return Exit.fail(unusable(error))
  }
}
