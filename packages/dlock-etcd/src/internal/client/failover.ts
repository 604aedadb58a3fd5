/** Which host is asked, and which one when it fails or hangs. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure, isOfMember, isUnsent } from "./failure.ts"
import type { Reply } from "./port.ts"
import { SingleFlight } from "./singleFlight.ts"

/** Asks one host, within so many milliseconds. */
export type Ask<Host, A> = (host: Host, limit: number) => Effect.Effect<Reply<A>, CallFailure>

export interface FailoverOptions<Host> {
  readonly hosts: ReadonlyArray<Host>
  readonly telemetry: StoreTelemetry
  readonly clock: Clock.Clock
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Milliseconds that one call may take, other hosts included. */
  readonly operationTimeout: number
  /** Asks a host for nothing, to find out whether it can be reached. */
  readonly probe: Ask<Host, unknown>
}

export interface CallOptions {
  /** Milliseconds. */
  readonly limit?: number | undefined
  /** As in `Port`. */
  readonly onUnsent?: (() => void) | undefined
  /**
   * A lock that is held depends on it: of one host, it is sent once more at half its time, in case its connection is dead.
   * Anything else has all its time for one sending. A crowd of processes that come at once, and whose server is slow for that,
   * would ask it for everything twice, and it would never catch up.
   */
  readonly isPressing?: boolean | undefined
}

/** Which host is asked, and which one next. */
export interface Failover<Host> {
  /** The one that is asked now. */
  readonly host: () => Host
  /** Within its limit, or `operationTimeout` where that is less. */
  readonly call: <A>(ask: Ask<Host, A>, options?: CallOptions) => Effect.Effect<Reply<A>, CallFailure>
  /** `Clock.monotonicTimeNanos` of when one of them last answered. */
  readonly heardAt: () => bigint | undefined
  /** Can none be reached? Then calls wait for one. */
  readonly isAway: () => boolean
  /** Fails all that wait for a host to come back. */
  readonly abandon: () => void
}

export const make = <Host>(
  { operationTimeout, clock, fork, hosts, probe, telemetry }: FailoverOptions<Host>
): Failover<Host> => {
  const host = (): Host => hosts[current % hosts.length]!
  let current = 0

  /** Milliseconds until then. */
  const leftUntil = (time: bigint): number => Number(time - clock.monotonicTimeNanosUnsafe()) / 1_000_000

  const mostTries = Math.max(2, hosts.length)

  let heardAt: bigint | undefined
  /** Notes that a host has answered, whatever it said. */
  const noteAnswer = <A>(said: A): A => {
    heardAt = clock.monotonicTimeNanosUnsafe()
    return said
  }
  const noteRefusal = (failure: CallFailure): CallFailure =>
    failure === closedFailure || isUnsent(failure.cause) || !failure.notDone ? failure : noteAnswer(failure)

  /** While no host can be reached, one search goes on for all calls. They wait for it, within their time. */
  let away: { readonly until: SingleFlight<void, CallFailure>; readonly why: CallFailure } | undefined
  const searchHosts = (until: SingleFlight<void, CallFailure>): Effect.Effect<void> => {
    const askNextHost = Effect.suspend(() => {
      current++
      return probe(host(), probeLimit)
    })
    const findsHost = Effect.match(askNextHost, { onSuccess: () => true, onFailure: ({ cause }) => !isUnsent(cause) })
    return Effect.flatMap(Effect.delay(findsHost, probePause), (found) => {
      if (!found) return searchHosts(until)
      away = undefined
      telemetry.connectionBack(hosts)
      return Effect.sync(() => until.end(Exit.void))
    })
  }
  /** The store has closed. */
  let isAbandoned = false
  const beginSearch = (why: CallFailure): void => {
    if (away !== undefined) return
    away = { until: new SingleFlight(), why: { ...why, notDone: true } }
    telemetry.connectionLost(hosts)
    telemetry.connectionFailed(hosts, why.cause.message, false)
    fork(searchHosts(away.until))
  }

  /**
   * The same, on the next host when this one fails or hangs; of one host, on a new connection, where there is time left. What
   * was unknown before stays unknown.
   */
  const call = <A>(
    ask: Ask<Host, A>,
    { isPressing, limit = Infinity, onUnsent = () => {} }: CallOptions = {}
  ): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.suspend(() => {
      const within = Math.max(leastLimit, Math.min(limit, operationTimeout))
      const until = clock.monotonicTimeNanosUnsafe() + Duration.toNanosUnsafe(Duration.millis(within))
      if (away !== undefined) {
        const { until: found, why } = away
        if (isAbandoned) return Effect.fail(why)
        const back = Effect.timeoutOrElse(found.await, { duration: within, orElse: () => Effect.fail(why) })
        return Effect.flatMap(
          Effect.onInterrupt(back, () => Effect.sync(onUnsent)),
          () => call(ask, { isPressing, limit: leftUntil(until), onUnsent })
        )
      }
      const asked = current
      const tries = hosts.length === 1 && isPressing !== true ? 1 : mostTries
      return Effect.matchEffect(ask(host(), Math.max(leastTry, within / tries)), {
        onFailure: (failure) => retry(ask, until, noteRefusal(failure), asked),
        onSuccess: (reply) => Effect.succeed(noteAnswer(reply))
      })
    })

  const retry = <A>(
    ask: Ask<Host, A>,
    until: bigint,
    first: CallFailure,
    firstAsked: number
  ): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.gen(function*() {
      let failure = first
      let asked = firstAsked
      let unknown = false
      for (let tries = 2;; tries++) {
        unknown ||= !failure.notDone
        const isRefused = failure.notDone && !isOfMember(failure.cause) && !isUnsent(failure.cause)
        const left = leftUntil(until)
        if (failure === closedFailure || isRefused || tries > mostTries || left < leastTry) {
          // What one member refuses, or leaves unanswered, is not to be asked of it next.
          if (!isRefused && failure !== closedFailure && asked === current) current++
          if (isUnsent(failure.cause)) beginSearch(failure)
          return yield* Effect.fail({ ...failure, notDone: !unknown })
        }
        if (asked === current) current++
        asked = current
        const result = yield* Effect.result(ask(host(), Math.max(leastTry, left / (mostTries - tries + 1))))
        if (result._tag === "Success") return { ...noteAnswer(result.success), doubled: unknown }
        failure = noteRefusal(result.failure)
      }
    })

  return {
    host,
    call,
    heardAt: () => heardAt,
    isAway: (): boolean => away !== undefined,
    abandon: () => {
      isAbandoned = true
      away?.until.end(Exit.fail(closedFailure))
    }
  }
}

/** Milliseconds between two probes, and how long each may take. */
const probePause = 100
const probeLimit = 500

/** Below this a call is hopeless, whatever the time to live; the same for one try of several. */
const leastLimit = 50
const leastTry = 20
