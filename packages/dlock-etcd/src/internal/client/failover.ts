/** Chooses the host for each call, and the next host when one fails or hangs. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure, isOfMember, isUnsent } from "./failure.ts"
import type { Reply } from "./port.ts"
import { SingleFlight } from "./singleFlight.ts"

/** Makes a call on one host, within `limit` milliseconds. */
export type Ask<Host, A> = (host: Host, limit: number) => Effect.Effect<Reply<A>, CallFailure>

/** What the failover needs. */
export interface FailoverOptions<Host> {
  readonly hosts: ReadonlyArray<Host>
  readonly telemetry: StoreTelemetry
  readonly clock: Clock.Clock
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** How long one call may take, retries on other hosts included, in milliseconds. */
  readonly operationTimeout: number
  /** Sends a host an empty request, to find out whether it can be reached. */
  readonly probe: Ask<Host, unknown>
}

/** The options of one call. */
export interface CallOptions {
  /** How long the call may take, in milliseconds. */
  readonly limit?: number | undefined
  /** Called when the caller was interrupted before the request was sent, as in `Port`. */
  readonly onUnsent?: (() => void) | undefined
  /**
   * A held lock depends on the call. If there is only one host, a pressing call is sent again after half its time, in case the
   * connection is dead. Any other call has all its time for one sending: if many processes come at once and the server is slow,
   * they would send everything twice, and the server would never catch up.
   */
  readonly isPressing?: boolean | undefined
}

/** The hosts, with one of them current. */
export interface Failover<Host> {
  /** Returns the current host. */
  readonly host: () => Host
  /** Makes a call within its limit or `operationTimeout`, whichever is less. */
  readonly call: <A>(ask: Ask<Host, A>, options?: CallOptions) => Effect.Effect<Reply<A>, CallFailure>
  /** The `Clock.monotonicTimeNanos` of the latest answer from any host. */
  readonly heardAt: () => bigint | undefined
  /** Whether no host can be reached. Calls then wait until one can. */
  readonly isAway: () => boolean
  /** Fails all calls that wait for a host. */
  readonly abandon: () => void
}

export const make = <Host>(
  { operationTimeout, clock, fork, hosts, probe, telemetry }: FailoverOptions<Host>
): Failover<Host> => {
  const host = (): Host => hosts[current % hosts.length]!
  let current = 0

  /** The milliseconds that are left until a time. */
  const leftUntil = (time: bigint): number => Number(time - clock.monotonicTimeNanosUnsafe()) / 1_000_000

  const mostTries = Math.max(2, hosts.length)

  let heardAt: bigint | undefined
  /** Records the time of an answer. A refusal counts as an answer too. */
  const noteAnswer = <A>(said: A): A => {
    heardAt = clock.monotonicTimeNanosUnsafe()
    return said
  }
  const noteRefusal = (failure: CallFailure): CallFailure =>
    failure === closedFailure || isUnsent(failure.cause) || !failure.notDone ? failure : noteAnswer(failure)

  /** While no host can be reached, one search runs for all calls. Each call waits for the search within its own limit. */
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
   * Makes a call. If a host fails or hangs and time is left, the call is repeated on the next host, or on a new connection if
   * there is only one host. If the first request may have been executed, a later refusal does not change that.
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
          // The next call goes to another member than the one that failed or hung.
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

/** The pause between two probes, and how long each probe may take, in milliseconds. */
const probePause = 100
const probeLimit = 500

/** The shortest limit of a call and of one try, in milliseconds: with less time an answer is hopeless, whatever the ttl. */
const leastLimit = 50
const leastTry = 20
