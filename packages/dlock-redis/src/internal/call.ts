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

/** Time as `Pending` needs it, in milliseconds. */
export interface Timers {
  readonly now: () => number
  /** Returns the way to stop it. */
  readonly after: (millis: number, run: () => void) => () => void
}

const timers: Timers = {
  now: () => performance.now(),
  after: (millis, run) => {
    const timer = setTimeout(run, millis).unref()
    return () => clearTimeout(timer)
  }
}

/**
 * Calls without a reply. Those of one limit end in the order in which they were sent, so one timer looks after the
 * oldest of them: a timer for each would cost more than the call.
 */
export class Pending {
  private readonly queues = new Map<number, Queue>()
  private readonly longest: number
  private readonly time: Timers

  /** Milliseconds, beyond which no call goes. */
  constructor(longest: number, time: Timers = timers) {
    this.longest = longest
    this.time = time
  }

  /** The calls that may take so long. */
  within(limit: number | undefined): Queue {
    const millis = limit === undefined ? this.longest : Math.min(Math.ceil(limit), this.longest)
    let queue = this.queues.get(millis)
    if (queue === undefined) {
      if (this.queues.size >= mostQueues) this.forgetIdle()
      queue = new Queue(millis, this.time)
      this.queues.set(millis, queue)
    }
    return queue
  }

  /** Nothing that was sent so far will be answered. */
  lost(): void {
    for (const queue of this.queues.values()) queue.lost()
  }

  /** Leaves no timer behind. */
  close(): void {
    for (const queue of this.queues.values()) queue.close()
  }

  private forgetIdle(): void {
    for (const [limit, queue] of this.queues) {
      if (queue.size > 0) continue
      queue.close()
      this.queues.delete(limit)
    }
  }
}

/** Programs have a few times to live; one that makes up a new one for each call must not grow without end. */
const mostQueues = 100

/** A call whose reply has not come: without `fail` it is over. */
interface Sent {
  readonly dueAt: number
  fail: ((failure: CallFailure) => void) | undefined
}

class Queue {
  // No map: what its table has lost stays reachable from older tables, and outlives the young generation with all it
  // leads to. At a section's pace that is most of the collector's work.
  private calls: Array<Sent> = []
  private first = 0
  private readonly limit: number
  private readonly time: Timers
  private stop: (() => void) | undefined

  constructor(limit: number, time: Timers) {
    this.limit = limit
    this.time = time
  }

  get size(): number {
    return this.calls.length - this.first
  }

  add(fail: (failure: CallFailure) => void): Sent {
    const sent = { dueAt: this.time.now() + this.limit, fail }
    this.calls.push(sent)
    this.stop ??= this.time.after(this.limit, this.look)
    return sent
  }

  /** False where it has failed meanwhile. */
  remove(sent: Sent): boolean {
    if (sent.fail === undefined) return false
    sent.fail = undefined
    this.forget()
    return true
  }

  close(): void {
    this.stop?.()
    this.stop = undefined
  }

  lost(): void {
    this.failWhile(() => true, connectionLost)
  }

  private readonly look = (): void => {
    const now = this.time.now()
    this.failWhile((dueAt) => dueAt <= now, silent)
    const next = this.calls[this.first]
    this.stop = next && this.time.after(Math.max(1, next.dueAt - now), this.look)
  }

  private failWhile(ends: (dueAt: number) => boolean, failure: CallFailure): void {
    for (let next = this.calls[this.first]; next !== undefined && ends(next.dueAt); next = this.calls[this.first]) {
      const { fail } = next
      next.fail = undefined
      this.forget()
      fail?.(failure)
    }
  }

  private forget(): void {
    while (this.first < this.calls.length && this.calls[this.first]!.fail === undefined) this.first++
    if (this.first !== this.calls.length && this.first <= 1_000) return
    this.calls.splice(0, this.first)
    this.first = 0
  }
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
      answered()
      if (!queue.remove(sent)) return
      const decode = decoded(script, raw)
      resume(Exit.map(decode, (value) => ({ sentAt, value })))
    }
    const onError = (error: unknown): void => {
      const failure = fromClient(error)
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

export const decoded = <Args, A>(script: Script<Args, A>, raw: unknown): Exit.Exit<A, CallFailure> => {
  try {
    return Exit.succeed(script.decode(raw))
  } catch (error) {
    return Exit.fail(unusable(error))
  }
}
