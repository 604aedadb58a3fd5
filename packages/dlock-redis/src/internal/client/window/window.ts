/** Limits how many calls are under way to a server, and how long each of them may take. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Call, Script } from "../../protocol/index.ts"
import { closed, connectionLost, fromClient, isReply, notSent, silent } from "../failure.ts"
import type { CallFailure, Reply, Tally } from "../port.ts"
import { decoded, isUnknownScript, withKeys } from "../reply.ts"
import { Lane, Request } from "./request.ts"

/** A client of Redis as far as a script goes: by its digest, or with its text where the server does not know it. */
export interface Client {
  /** Whether a request would be sent at once. */
  readonly isReady: () => boolean
  /** Why it is not. */
  readonly whyNotReady: () => CallFailure
  readonly send: (command: "evalsha" | "eval", program: string, call: Call) => Promise<unknown>
}

/** Time as a window needs it, in milliseconds. */
export interface Timers {
  readonly now: () => number
  /** Returns the way to stop it, as the next does. */
  readonly after: (millis: number, run: () => void) => () => void
  /** Once what lies in the sockets has been read: a timer that is late runs before the replies that came in time. */
  readonly afterReading: (run: () => void) => () => void
}

const realTimers: Timers = {
  now: () => performance.now(),
  after: (millis, run) => {
    const timer = setTimeout(run, millis).unref()
    return () => clearTimeout(timer)
  },
  afterReading: (run) => {
    const immediate = setImmediate(run)
    return () => clearImmediate(immediate)
  }
}

export interface WindowOptions {
  readonly telemetry: StoreTelemetry
  readonly clock: Clock.Clock
  /** Milliseconds beyond which no call goes. */
  readonly longest: number
  /** The connection may be dead without knowing: something is under way, and nothing at all has been heard for long. */
  readonly onSilence?: () => void
  /** A server may have been replaced: something has been under way for some time, or has failed without a reply. */
  readonly onDoubt?: () => void
  readonly timers?: Timers
}

/**
 * The calls that are under way to a server, and behind them those that wait: releases before refreshes before acquires,
 * each kind in its order. Renewals wait for nothing but what is under way, so a crowd of acquires costs time, and no
 * lock that is held.
 *
 * A limit counts from the sending; what waits does not fail, as long as there is a connection and its caller waits.
 * Without a connection it waits for one, and that counts too; but there are always some milliseconds for the answer.
 */
export class Window {
  private readonly client: Client
  private readonly options: WindowOptions
  private readonly timers: Timers
  /** In no order; each knows its place. */
  private readonly underWay: Array<Request> = []
  private readonly lanes = byUrgency.map(() => new Lane())
  /** Since when something is under way and nothing has been heard. */
  private quietSince = Infinity
  /** `Clock.monotonicTimeNanos` of the latest reply. */
  heardAt: bigint | undefined
  /** Somebody may wait. */
  private isCrowded = false
  private isLost = false
  private isClosed = false
  private replyCount = 0
  private checksAt = Infinity
  private stopTimer = () => {}
  /** Milliseconds after which something under way is checked, whatever its limit. */
  private readonly firstCheck: number

  constructor(client: Client, options: WindowOptions) {
    const { longest, onDoubt, onSilence, timers } = options
    this.client = client
    this.options = options
    this.timers = timers ?? realTimers
    this.firstCheck = onSilence ? silenceOf(longest) : onDoubt ? doubt : Infinity
  }

  get isBusy(): boolean {
    return this.underWay.length > 1
  }

  /** What is interrupted before it is sent never is. What is under way goes on, and its tally is kept right. */
  readonly run = <Args, A>(
    script: Script<Args, A>,
    args: Args,
    tally?: Tally,
    limit = Infinity
  ): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.callback((resume) => {
      const { longest, telemetry } = this.options
      const request = new Request(script, args, tally, Math.min(limit, longest), telemetry, resume)
      this.submit(request)
      // What has been sent needs nobody to tell that its caller has gone, and most is sent at once.
      return request.slot === -1 ? Effect.sync(() => request.abandon()) : undefined
    })

  /** Takes note that there is a connection. */
  open(): void {
    this.isLost = false
    this.sendNext()
    // They wait for their turn again.
    for (const request of this.lanes.flatMap((lane) => lane.all())) request.limitedAt = Infinity
  }

  /** Takes note that there is none, or another reason why: what was under way will not be answered. */
  lose(): void {
    const wasLost = this.isLost
    this.isLost = true
    this.quietSince = Infinity
    const why = this.client.whyNotReady()
    const refused = why.retryable ? [] : this.lanes.flatMap((lane) => lane.remove(() => true))
    // However often the client tries meanwhile, they have waited since it was lost.
    if (!wasLost) this.lanes.flatMap((lane) => lane.all()).forEach((request) => this.limit(request))
    this.failUnderWay(connectionLost)
    for (const request of refused) request.fail(why)
  }

  /** Fails all that goes on and all that comes, and leaves no timer behind. */
  close(): void {
    this.isClosed = true
    this.stopTimer()
    this.checksAt = -Infinity
    this.failUnderWay(closed)
    for (const request of this.lanes.flatMap((lane) => lane.remove(() => true))) request.fail(closed)
  }

  /** Fails what is under way: none of it will be answered. */
  private failUnderWay(failure: CallFailure): void {
    const all = this.underWay.splice(0)
    for (const request of all) request.slot = -1
    for (const request of all) {
      request.tally?.noteEnded()
      request.fail(failure)
    }
  }

  private submit(request: Request): void {
    const lane = laneOf(request)
    if (this.isClosed) request.fail(closed)
    else if (!this.client.isReady()) {
      const why = this.client.whyNotReady()
      // The holder renews again, more often than there would be time to wait.
      if (!why.retryable || lane === atOnce) return request.fail(why)
      this.limit(request)
      this.queue(request, lane)
    } else if (lane === atOnce || this.underWay.length < width) this.send(request)
    else this.queue(request, lane)
  }

  private queue(request: Request, lane: number): void {
    this.lanes[lane]!.push(request)
    this.isCrowded = true
  }

  /** Sends what there is room for, so that nobody who asks later comes before those who wait. */
  private sendNext(): void {
    if (!this.isCrowded || !this.client.isReady()) return
    for (let lane = 0; lane < this.lanes.length; lane++) {
      while (lane === atOnce || this.underWay.length < width) {
        const next = this.lanes[lane]!.shift()
        if (next === undefined) break
        if (next.tally?.isWithdrawn === true) next.fail(notSent)
        else this.send(next)
      }
    }
    this.isCrowded = this.lanes.some((lane) => !lane.isEmpty)
  }

  private send(request: Request): void {
    const { script, tally } = request
    const call = script.encode(request.args)
    const onReply = (raw: unknown) => this.takeReply(request, raw)
    const onError = (error: unknown) => this.takeError(request, call, error)
    request.slot = this.underWay.push(request) - 1
    const sent = this.transmit(request, "evalsha", script.sha, call)
    tally?.noteSent(request.sentAt)
    sent.then(onReply, (error: unknown) => {
      // What is of no use any more has not run, and is not to run late.
      if (!isUnknownScript(error) || tally?.isWithdrawn === true) return onError(error)
      this.transmit(request, "eval", script.lua, call).then(onReply, onError)
    })
  }

  /** A reply proves something of the time before its request was given to the socket, and of no later one. */
  private transmit(request: Request, command: "evalsha" | "eval", program: string, call: Call): Promise<unknown> {
    const now = this.timers.now()
    if (request.limitedAt === Infinity) this.limit(request)
    else if (request.endsAt < now + leastLeft) {
      request.limitedAt = now + Math.min(leastLeft, request.limit) - request.limit
    }
    this.checkBy(request.endsAt, now)
    this.quietSince = Math.min(this.quietSince, now)
    request.sentAt = this.options.clock.monotonicTimeNanosUnsafe()
    return this.client.send(command, program, call)
  }

  private takeReply(request: Request, raw: unknown): void {
    request.tally?.noteAnswered(true)
    this.noteReply(request)
    const { script, sentAt } = request
    request.end(decoded(script, raw, (value) => ({ sentAt, value })) as Exit.Exit<Reply<never>, CallFailure>)
  }

  private takeError(request: Request, call: Call, error: unknown): void {
    const failure = fromClient(error)
    if (failure.notDone) request.tally?.noteAnswered(false)
    if (isReply(failure.cause)) this.noteReply(request)
    else this.remove(request)
    // One that was taken out of a cluster, or is cut off from it, says that all of it is down.
    if (!isReply(failure.cause) || failure.cause.message.startsWith("CLUSTERDOWN")) this.options.onDoubt?.()
    request.fail(withKeys(failure, call.keys))
  }

  private noteReply(request: Request): void {
    this.replyCount++
    this.remove(request)
    this.heardAt = this.options.clock.monotonicTimeNanosUnsafe()
    this.quietSince = this.underWay.length === 0 ? Infinity : this.timers.now()
  }

  /** Removes a request that is not under way any more. */
  private remove(request: Request): void {
    if (request.slot === -1) return
    const last = this.underWay.pop()!
    if (last !== request) {
      last.slot = request.slot
      this.underWay[request.slot] = last
    }
    request.slot = -1
    request.tally?.noteEnded()
    this.sendNext()
  }

  private limit(request: Request): void {
    request.limitedAt = this.timers.now()
    this.checkBy(request.limitedAt + Math.min(request.limit, this.firstCheck), request.limitedAt)
  }

  private checkBy(at: number, now: number): void {
    if (at >= this.checksAt) return
    this.stopTimer()
    this.checksAt = at
    this.stopTimer = this.timers.after(Math.max(1, Math.ceil(at - now)), () => this.checkAfterReading(mostReadings))
  }

  /** Nothing is called silent before its socket has been read; while replies come in, there may be more. */
  private checkAfterReading(readings: number): void {
    const { replyCount } = this
    // What comes to be over while the thread is busy has not been read either.
    const now = this.timers.now()
    this.stopTimer = this.timers.afterReading(() => {
      if (readings > 1 && this.replyCount !== replyCount) return this.checkAfterReading(readings - 1)
      this.checksAt = Infinity
      this.check(now)
    })
  }

  private check(now: number): void {
    const isOver = ({ endsAt }: Request): boolean => endsAt <= now
    const waitsForConnection = this.client.isReady() ? [] : this.lanes
    for (const request of this.underWay.filter(isOver)) {
      this.remove(request)
      request.fail(silent)
    }
    for (const request of waitsForConnection.flatMap((lane) => lane.remove(isOver))) {
      request.fail(this.client.whyNotReady())
    }
    const { longest, onDoubt, onSilence } = this.options
    let next = Infinity
    for (const { endsAt } of this.underWay) next = Math.min(next, endsAt)
    // A crowd that waits is not to be looked through at every millisecond.
    for (const { endsAt } of waitsForConnection.flatMap((lane) => lane.all())) next = Math.min(next, endsAt + 20)
    if (onDoubt !== undefined && this.underWay.length > 0) {
      const oldest = this.underWay.reduce((least, { limitedAt }) => Math.min(least, limitedAt), now)
      if (now - oldest >= doubt) onDoubt()
      next = Math.min(next, Math.max(oldest + doubt, now + doubt / 2))
    }
    if (onSilence !== undefined && this.quietSince !== Infinity) {
      const silentAt = this.quietSince + silenceOf(longest)
      if (silentAt > now) next = Math.min(next, silentAt)
      else {
        this.quietSince = Infinity
        onSilence()
      }
    }
    this.checkBy(next, this.timers.now())
  }
}

/** The kinds of calls, the most urgent first; any other goes as the last. */
const byUrgency = ["renew", "release", "refresh", "peek", "acquire"]
const atOnce = 0

const laneOf = ({ script }: Request): number => {
  const lane = byUrgency.indexOf(script.name)
  return lane === -1 ? byUrgency.length - 1 : lane
}

/** How many calls are under way at most: enough to keep a server busy, and few enough for a renewal behind them. */
const width = 256

/** Milliseconds of silence after which a connection is replaced, so that there is time to ask on the new one. */
export const silenceOf = (longest: number): number => Math.max(longest / 2, longest - 500)

/** Milliseconds after which a server that does not answer may have been replaced. */
const doubt = 500

const mostReadings = 8

/** Milliseconds that are left to what has waited for a connection for all of its limit, or stood still meanwhile. */
const leastLeft = 50
