/** Limits how many calls are in flight to a server, and how long each may take. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Call, Script, ScriptName } from "../../protocol/index.ts"
import { closed, connectionLost, fromClient, isReply, notSent, silent } from "../failure.ts"
import type { CallFailure, Reply, Tally } from "../port.ts"
import { decoded, isUnknownScript, withKeys } from "../reply.ts"
import { Lane, Request } from "./request.ts"

/** The part of a Redis client that runs scripts: by digest, or by text if the server does not know the digest. */
export interface Client {
  /** Whether a request would be sent at once. */
  readonly isReady: () => boolean
  /** Why it would not be sent. */
  readonly whyNotReady: () => CallFailure
  readonly send: (command: "evalsha" | "eval", program: string, call: Call) => Promise<unknown>
}

/** The timers of a window. Times are in milliseconds. */
export interface Timers {
  readonly now: () => number
  /** Returns a function that stops the timer. `afterReading` does too. */
  readonly after: (millis: number, run: () => void) => () => void
  /**
   * Runs after the sockets have been read, because a late timer fires before the replies that arrived in time are read.
   */
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
  /** The longest time that a call may take, in milliseconds. */
  readonly longest: number
  /**
   * Called when the connection may be dead without an error: a call is in flight, and no reply of any call has come for
   * long.
   */
  readonly onSilence?: () => void
  /**
   * Called when a server may have been replaced: a call has been in flight for some time, or failed without a reply.
   */
  readonly onDoubt?: () => void
  readonly timers?: Timers
}

/**
 * The calls in flight to a server, and the calls that wait behind them. Waiting calls are sent by kind: releases before
 * refreshes before acquires, and each kind in order. Renewals never wait for other calls to be answered. So many
 * acquires cost time, but not a held lock.
 *
 * The time limit of a call starts when the call is sent. A waiting call does not fail while there is a connection and
 * its caller waits. Without a connection, the time that a call waits for one counts too, but a sent call always has at
 * least 50 milliseconds for its answer.
 */
export class Window {
  private readonly client: Client
  private readonly options: WindowOptions
  private readonly timers: Timers
  /** In no order. Each request knows its index. */
  private readonly inFlight: Array<Request> = []
  private readonly lanes = Array.from({ length: laneOfScript.acquire + 1 }, () => new Lane())
  /** Since when a call is in flight and no reply has come. */
  private quietSince = Infinity
  /** `Clock.monotonicTimeNanos` of the latest reply. */
  heardAt: bigint | undefined
  /** Whether calls may be waiting. */
  private isCrowded = false
  private isLost = false
  private isClosed = false
  private replyCount = 0
  private checksAt = Infinity
  private stopTimer = () => {}
  /** Milliseconds after which a call in flight is checked, even if its limit is longer. */
  private readonly firstCheck: number

  constructor(client: Client, options: WindowOptions) {
    const { longest, onDoubt, onSilence, timers } = options
    this.client = client
    this.options = options
    this.timers = timers ?? realTimers
    this.firstCheck = onSilence ? silenceOf(longest) : onDoubt ? doubt : Infinity
  }

  get isBusy(): boolean {
    return this.inFlight.length > 1
  }

  /**
   * Runs a script. An interrupted call that is not yet sent will not be sent. A call in flight continues, and its tally
   * is still updated.
   */
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
      // A sent request does not need to know that its caller is gone, and most requests are sent at once.
      return request.slot === -1 ? Effect.sync(() => request.abandon()) : undefined
    })

  /** Records that there is a connection. */
  open(): void {
    this.isLost = false
    this.sendNext()
    // Waiting calls no longer wait for a connection, so their limit does not run.
    for (const request of this.lanes.flatMap((lane) => lane.all())) request.limitedAt = Infinity
  }

  /** Records that there is no connection, or that the reason has changed. The calls in flight will not be answered. */
  lose(): void {
    const wasLost = this.isLost
    this.isLost = true
    this.quietSince = Infinity
    const why = this.client.whyNotReady()
    const refused = why.retryable ? [] : this.lanes.flatMap((lane) => lane.remove(() => true))
    // Waiting calls have waited since the connection was lost, however often the client tries to connect meanwhile.
    if (!wasLost) this.lanes.flatMap((lane) => lane.all()).forEach((request) => this.limit(request))
    this.failInFlight(connectionLost)
    for (const request of refused) request.fail(why)
  }

  /** Fails all current and later calls, and stops the timer. */
  close(): void {
    this.isClosed = true
    this.stopTimer()
    this.checksAt = -Infinity
    this.failInFlight(closed)
    for (const request of this.lanes.flatMap((lane) => lane.remove(() => true))) request.fail(closed)
  }

  /** Fails the calls in flight, because none of them will be answered. */
  private failInFlight(failure: CallFailure): void {
    const all = this.inFlight.splice(0)
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
      // The holder repeats a failed renewal more often than a renewal could wait here.
      if (!why.retryable || lane === atOnce) return request.fail(why)
      this.limit(request)
      this.queue(request, lane)
    } else if (lane === atOnce || this.inFlight.length < width) this.send(request)
    else this.queue(request, lane)
  }

  private queue(request: Request, lane: number): void {
    this.lanes[lane]!.push(request)
    this.isCrowded = true
  }

  /** Sends waiting calls while there is room, so that a later call never overtakes them. */
  private sendNext(): void {
    if (!this.isCrowded || !this.client.isReady()) return
    for (let lane = 0; lane < this.lanes.length; lane++) {
      while (lane === atOnce || this.inFlight.length < width) {
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
    request.slot = this.inFlight.push(request) - 1
    const sent = this.transmit(request, "evalsha", script.sha, call)
    tally?.noteSent(request.sentAt)
    sent.then(onReply, (error: unknown) => {
      // A withdrawn claim's request has not run, and must not run late.
      if (!isUnknownScript(error) || tally?.isWithdrawn === true) return onError(error)
      this.transmit(request, "eval", script.lua, call).then(onReply, onError)
    })
  }

  /** Takes the time before writing to the socket, because a reply proves nothing about any later moment. */
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
    // A node that was removed from a cluster, or is cut off from it, reports that the whole cluster is down.
    if (!isReply(failure.cause) || failure.cause.message.startsWith("CLUSTERDOWN")) this.options.onDoubt?.()
    request.fail(withKeys(failure, call.keys))
  }

  private noteReply(request: Request): void {
    this.replyCount++
    this.remove(request)
    this.heardAt = this.options.clock.monotonicTimeNanosUnsafe()
    this.quietSince = this.inFlight.length === 0 ? Infinity : this.timers.now()
  }

  /** Removes a request that is no longer in flight. */
  private remove(request: Request): void {
    if (request.slot === -1) return
    const last = this.inFlight.pop()!
    if (last !== request) {
      last.slot = request.slot
      this.inFlight[request.slot] = last
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

  /** Checks for silence only after the sockets have been read, and reads again while replies keep coming in. */
  private checkAfterReading(readings: number): void {
    const { replyCount } = this
    // Replies that arrive while the thread is busy are unread too, so limits are compared with the time before the
    // reading.
    const now = this.timers.now()
    this.stopTimer = this.timers.afterReading(() => {
      if (readings > 1 && this.replyCount !== replyCount) return this.checkAfterReading(readings - 1)
      this.checksAt = Infinity
      this.check(now)
    })
  }

  private check(now: number): void {
    const hasTimedOut = ({ endsAt }: Request): boolean => endsAt <= now
    const waitsForConnection = this.client.isReady() ? [] : this.lanes
    for (const request of this.inFlight.filter(hasTimedOut)) {
      this.remove(request)
      request.fail(silent)
    }
    for (const request of waitsForConnection.flatMap((lane) => lane.remove(hasTimedOut))) {
      request.fail(this.client.whyNotReady())
    }
    const { longest, onDoubt, onSilence } = this.options
    let next = Infinity
    for (const { endsAt } of this.inFlight) next = Math.min(next, endsAt)
    // Waiting calls are checked at most every 20 milliseconds, because there may be many.
    for (const { endsAt } of waitsForConnection.flatMap((lane) => lane.all())) next = Math.min(next, endsAt + 20)
    if (onDoubt !== undefined && this.inFlight.length > 0) {
      const oldest = this.inFlight.reduce((least, { limitedAt }) => Math.min(least, limitedAt), now)
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

/** The lane of each script: the first ones are sent first. */
const laneOfScript = {
  renew: 0,
  shrink: 0,
  run: 1,
  release: 1,
  releaseAll: 1,
  // It is asked right before a release that nobody may delay.
  waiting: 1,
  refresh: 2,
  peek: 3,
  count: 3,
  // What people ask waits for what holders need, and not for the acquires that keep them waiting.
  revoke: 1,
  breakHold: 1,
  findHold: 3,
  inspect: 3,
  observe: 3,
  acquire: 4,
  acquireAll: 4,
  confirm: 4
} as const satisfies { readonly [name in ScriptName]: number }
const atOnce = laneOfScript.renew

const laneOf = ({ script }: Request): number => laneOfScript[script.name]

/** How many calls may be in flight: enough to keep a server busy, and few enough for a renewal behind them. */
const width = 256

/**
 * How many milliseconds of silence until a connection is replaced. There must be time left to ask again on the new one.
 */
export const silenceOf = (longest: number): number => Math.max(longest / 2, longest - 500)

/** How many milliseconds until a server that does not answer may have been replaced. */
const doubt = 500

const mostReadings = 8

/**
 * How many milliseconds a sent call has at least, even if it spent its whole limit waiting for a connection or the
 * process was suspended.
 */
const leastLeft = 50
