import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { CapacityMismatch, LockAlreadyHeld, LockBackendError, LockTimeout } from "../LockError.ts"
import {
  type Answer,
  callLimit,
  type Claim,
  type Gone,
  type Granted,
  type LockStore,
  type Queued,
  type Withdrawn
} from "../LockStore.ts"
import type { Admission } from "./admission.ts"
import type { Withdrawals } from "./lease/release.ts"
import * as Owner from "./options/owner.ts"
import { about, renamed } from "./options/request.ts"
import type { CallTimeouts, Restore } from "./scheduling/callTimeouts.ts"
import { fromNanos, type Time } from "./scheduling/time.ts"
import type { Events } from "./telemetry/events.ts"
import * as Timing from "./timing.ts"

export interface Acquired {
  readonly claim: Claim
  readonly granted: Granted
  /** Read before the request was sent that `granted.confirmedAt` belongs to, or an earlier one. */
  readonly wallClockLead: number
}

/** What an acquire works with, the same for all of them. */
export interface AcquireContext {
  readonly store: LockStore["Service"]
  readonly time: Time
  readonly timeouts: CallTimeouts
  readonly admission: Admission
  readonly withdrawals: Withdrawals
  readonly events: Events
}

/** One acquire: what is asked for, until when, and how what may be interrupted is. */
interface Asking extends AcquireContext {
  readonly key: string
  readonly mode: "queue" | "try"
  readonly startedAt: number
  /** When the caller's time is over. */
  readonly until: number
  readonly restore: Restore
  /** The backend has just answered it. */
  readonly isAnswered?: boolean
}

type Failure = LockTimeout | LockAlreadyHeld | LockBackendError | CapacityMismatch

/** Waits outside until it is the turn of one that came at `startedAt`. Its caller's time runs there too. */
export const throughAdmission = <A, E, R>(
  { admission, timeouts, time }: AcquireContext,
  key: string,
  mode: "queue" | "try",
  startedAt: number,
  timeout: number,
  inside: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LockBackendError | LockTimeout, R> => {
  if (timeout === Infinity) return admission.wait(key, mode === "try", inside)
  const turn = admission.wait(key, mode === "try", Effect.void)
  const left = Math.max(0, startedAt + timeout - time.now())
  // Others may have been answered all the while: then it was they who took the time.
  const over = Effect.suspend((): Effect.Effect<never, LockBackendError | LockTimeout> => {
    if (admission.silence(timeouts.lookedAt) >= unanswered) return Effect.fail(about(key)(silent))
    return Effect.fail(crowded({ admission, key, startedAt, time }))
  })
  return Effect.andThen(timeouts.limit<void, LockBackendError | LockTimeout>(turn, left, over), inside)
}

/** The caller's time is over, and nobody has been asked who holds the lock. */
const crowded = (
  { admission, key, startedAt, time }: Pick<Asking, "admission" | "key" | "startedAt" | "time">
): LockTimeout =>
  new LockTimeout({ key, waited: Duration.millis(time.now() - startedAt), queueLength: Math.max(1, admission.waiting) })

/**
 * Milliseconds without an answer to anybody, after which the backend is to blame for a caller's time. The answers of one that
 * is far come together, a round trip apart.
 */
const unanswered = 500

/**
 * Asks until granted, for one that has been admitted, which its first answer ends. For an uninterruptible region,
 * whose `restore` it takes: the caller may leave at any moment, whether or not the backend answers, and what is handed over
 * is in the caller's hands. However it ends without a grant, the claim is withdrawn, so that nobody holds a lock they never
 * heard of: behind the caller's back, where that takes more than a moment.
 *
 * Without a value it is the answer to a `try` that found the key held.
 */
export const acquire = (
  means: AcquireContext,
  key: string,
  claim: Claim,
  timeout: number,
  mode: "queue" | "try",
  startedAt: number,
  goOut: (isAnswered: boolean) => void,
  restore: Restore
): Effect.Effect<Acquired | undefined, Failure> => {
  const { time, withdrawals } = means
  const asking = { ...means, key, mode, startedAt, until: startedAt + timeout, restore }
  const wallClockLead = time.wallClockLead()
  const asked = (asking: Asking) =>
    ask(asking, claim, (answer) =>
      answer._tag === "Granted" && isTimely(time, answer, wallClockLead)
        ? Effect.succeed<Acquired>({ claim, granted: answer, wallClockLead })
        : untilGranted(asking, claim, answer, wallClockLead), goOut)
  const before = withdrawals.before(claim.key)
  if (before === undefined) return asked(asking)
  return Effect.matchCauseEffect(behind(asking, claim, before), {
    onSuccess: () => asked(inAll(asking)),
    onFailure: (cause) => {
      goOut(false)
      return Effect.failCause(cause)
    }
  })
}

/** However often a try asks, it has one second. */
const inAll = (asking: Asking): Asking =>
  asking.mode === "try" ? { ...asking, until: asking.startedAt + Timing.tryPatience } : asking

/** What this locker withdraws of the same key goes first: it would find nothing but its own leavings there. */
const behind = (
  asking: Asking,
  claim: Claim,
  before: Effect.Effect<void>
): Effect.Effect<void, LockBackendError | LockTimeout> => {
  const { key, timeouts, mode, restore, time, until } = asking
  const most = mode === "try" ? Timing.tryPatience : patienceWith(claim)
  const left = until - time.now()
  const over = Effect.suspend((): Effect.Effect<never, LockBackendError | LockTimeout> =>
    mode === "queue" && left < most && hasAnsweredOthers(asking, claim)
      ? Effect.fail(crowded(asking))
      : Effect.fail(about(key)(silent))
  )
  return timeouts.limit<void, LockBackendError | LockTimeout>(before, Math.min(most, left), over, restore)
}

/** Heard of in time to believe in, and with no jump of the wall clock meanwhile. */
const isTimely = (time: Time, { confirmedAt, ttl }: Granted, wallClockLead: number): boolean => {
  const millis = Duration.toMillis(ttl)
  const now = time.now()
  return now < fromNanos(confirmedAt) + millis && time.wallClockLead(now) - wallClockLead <= millis
}

/** Goes on from a first answer that was not all. */
const untilGranted = Effect.fnUntraced(function*(
  first: Asking,
  claim: Claim,
  answer: Answer,
  wallClockLead: number
): Effect.fn.Return<Acquired | undefined, Failure> {
  const asking = inAll(first)
  const { key, mode, restore, time } = asking
  const pause = pauseOf(claim)
  const patient = () => mode === "try" ? asking.startedAt + Timing.tryPatience : time.now() + patienceWith(claim)
  let askedAt = asking.startedAt
  let until = Infinity
  let lost = 0
  let isLast = false
  while (true) {
    if (answer._tag === "Queued") {
      if (mode === "try") {
        yield* giveUp(asking, claim)
        return undefined
      }
      const since = time.now()
      answer = yield* wait(asking, claim, answer, askedAt)
      // A place that was kept for a while is not the next of a row of failures.
      if (time.now() - since > pause) {
        until = Infinity
        lost = 0
      }
    }
    switch (answer._tag) {
      case "Granted":
        if (isTimely(time, answer, wallClockLead)) return { claim, granted: answer, wallClockLead }
        // Asked for once more under the same id, it is ours anew or we are queued.
        if (time.now() - askedAt >= Duration.toMillis(answer.ttl)) isLast = false
        break
      case "Busy":
        if (mode === "queue") return yield* about(key)(unqueued)
        return undefined
      case "AlreadyHeld":
        return yield* new LockAlreadyHeld({ key, fencingToken: answer.fencingToken })
      case "Gone":
        // An id ends with its leave, and so may a hold under it, however late the leave arrives.
        claim = renamed(claim)
        // Once at once, where a place was lost. Whoever stands still loses some in a row; a store with a bug all.
        if (answer.error === undefined && ++lost === 1) break
        if (answer.error !== undefined || mode === "try" || lost > mostLost) until = Math.min(until, patient())
        if (time.now() + pause >= until) return yield* about(key)(answer.error ?? placeless)
        yield* restore(time.sleep(Math.max(0, Math.min(pause, asking.until - time.now()))))
        break
      case "CapacityMismatch":
        return yield* new CapacityMismatch({ key, requested: claim.capacity })
    }
    askedAt = time.now()
    // Whoever stood still past that time has not had it, and asks once more.
    if (isLast) {
      // A grant that came too late is one at the backend.
      if (answer._tag === "Granted") yield* giveUp(asking, claim)
      const known = answer._tag === "Gone" ? answer.error : undefined
      return yield* about(key)(known ?? (answer._tag === "Granted" || mode === "try" ? silent : placeless))
    }
    isLast = askedAt >= asking.until
    wallClockLead = time.wallClockLead(askedAt)
    answer = yield* ask({ ...asking, isAnswered: answer._tag !== "Gone" }, claim, Effect.succeed)
  }
})

/**
 * One request, repeated under the same id while the backend may yet be back in a moment: an answer that got lost, a
 * connection that is being made again. A repeat of a request that was executed is harmless. The first makes room for
 * another to be admitted.
 */
const ask = <A, E>(
  asking: Asking,
  claim: Claim,
  then: (answer: Answer) => Effect.Effect<A, E>,
  goOut?: (isAnswered: boolean) => void
): Effect.Effect<A, E | LockBackendError | LockTimeout> =>
  Effect.matchCauseEffect(send(asking, claim), {
    onSuccess: (answer) => {
      asking.events.answered(asking.key)
      goOut?.(true)
      return then(answer)
    },
    onFailure: (cause) => {
      goOut?.(false)
      return Effect.flatMap(askAgain(asking, claim, cause), then)
    }
  })

/** A call is the store's to limit, if it does. The caller's time is ours. */
const send = (asking: Asking, claim: Claim): Effect.Effect<Answer, LockBackendError> => {
  const { timeouts, mode, restore, store, time, until } = asking
  const call = store.request(claim, mode)
  const limit = mode === "try" ? Math.min(callLimit(claim), Timing.tryPatience) : patienceWith(claim)
  if (until === Infinity) return timeouts.limitUnlessBounded(call, limit, Effect.fail(silent), restore)
  const late = time.now() - until
  // One that stood still is late anyhow; any other is not to be.
  const left = Math.max(-late, late < mostLate ? Math.min(leeway, mostLate - late) : leeway)
  // That a caller had no time says nothing of the backend.
  if (timeouts.bounded || left < limit) {
    const over = Effect.suspend(() =>
      Effect.fail(hasAnsweredOthers(asking, claim) ? crowdedOut : left < leeway ? hadNoTime : outOfTime)
    )
    return timeouts.limit(call, left, over, restore)
  }
  return timeouts.limit(call, limit, Effect.fail(silent), restore)
}

/** Others were answered since it came, and lately: it was they who took its time. */
const hasAnsweredOthers = ({ timeouts, startedAt, store }: Asking, claim: Claim): boolean => {
  const heardAt = store.heardAt?.(claim)
  if (heardAt === undefined) return false
  const millis = fromNanos(heardAt)
  return millis >= startedAt && timeouts.lookedAt - millis < unanswered
}

const askAgain = Effect.fnUntraced(function*(
  asking: Asking,
  claim: Claim,
  cause: Cause.Cause<LockBackendError>
): Effect.fn.Return<Answer, LockBackendError | LockTimeout> {
  const { key, timeouts, mode, events, restore, startedAt, store, time } = asking
  const pause = pauseOf(claim)
  // From the first failure: before that the call may have waited for its turn. A try asks whether there is an answer now.
  const patience = mode === "try" ? startedAt + Timing.tryPatience : time.now() + patienceWith(claim)
  const until = Math.min(asking.until, patience)
  let told: LockBackendError | undefined
  while (true) {
    const error = Option.getOrUndefined(Cause.findErrorOption(cause))
    const again = error?.retryable === true && time.now() + pause < until
    if (error !== undefined && isOutage(error)) events.acquireUnanswered(key, error)
    // What it said before it fell silent says more than the silence.
    if (error !== undefined && error.cause !== silent.cause) told = error
    const ended = told === undefined || error === undefined ? Exit.failCause(cause) : Exit.fail(told)
    const paused = again ? yield* Effect.exit(restore(time.sleep(pause))) : ended
    if (Exit.isFailure(paused)) {
      if (error !== undefined && isOutage(error)) events.acquireFailed(key, told ?? error)
      yield* giveUp(asking, claim)
      // Neither says anything of the backend: that others were answered, nor that it was asked at the last moment.
      const isLate = error === hadNoTime && asking.isAnswered === true
      if (mode === "queue" && (error === crowdedOut || isLate)) return yield* crowded(asking)
      return yield* Effect.failCause(Cause.map(paused.cause, about(key)))
    }
    const answer = yield* Effect.exit(
      timeouts.limit(store.request(claim, mode), Math.max(0, until - time.now()), Effect.fail(silent), restore)
    )
    if (Exit.isSuccess(answer)) {
      events.answered(key)
      return answer.value
    }
    cause = answer.cause
  }
})

/** What the backend has answered within what is left of the leeway. */
const giveUp = ({ time, until, withdrawals }: Asking, claim: Claim): Effect.Effect<Withdrawn | undefined> =>
  withdrawals.giveUp(claim, Math.min(leeway, until + mostLate - time.now()))

const patienceWith = ({ ttl }: Claim): number => Timing.acquirePatience(Duration.toMillis(ttl))

/** How many places may be lost in a row before that is a failure. */
const mostLost = 10

/** Milliseconds after which a backend that is well has answered: by so much a caller's time may be passed for its word. */
const leeway = 50
const mostLate = 75

const pauseOf = ({ ttl }: Claim): number => Timing.acquireRetryAfter(Duration.toMillis(ttl))

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("the backend did not answer in time")
})

const outOfTime = new LockBackendError({ operation: "acquire", retryable: true, cause: silent.cause })

/** The same where there was less time than a backend needs that is well. */
const hadNoTime = new LockBackendError({ operation: "acquire", retryable: true, cause: silent.cause })

/** The same where the backend has answered others. */
const crowdedOut = new LockBackendError({ operation: "acquire", retryable: true, cause: silent.cause })

const ofCaller = new Set([outOfTime, hadNoTime, crowdedOut])

/** Whether an error says that the backend is away, rather than what it has answered. */
const isOutage = (error: LockBackendError): boolean => error.retryable && !ofCaller.has(error)

const fellSilent = new LockBackendError({ operation: "wait", retryable: true, cause: silent.cause })

const unqueued = new LockBackendError({
  operation: "acquire",
  retryable: false,
  cause: new Error("the store answered Busy to a request that may wait, which is a bug in the store")
})

const placeless = new LockBackendError({
  operation: "wait",
  retryable: true,
  cause: new Error("the place in the queue was lost, as happens when this process is paused for long")
})

/** Waits for a queued claim until it is granted, gone, or out of time; everything else withdraws it. */
const wait = Effect.fnUntraced(function*(
  asking: Asking,
  claim: Claim,
  queued: Queued,
  askedAt: number
): Effect.fn.Return<Granted | Gone, LockTimeout | LockBackendError> {
  const { key, timeouts, events, restore, startedAt, time, until } = asking
  const heardAt = time.now()
  const granted = Effect.asSome(queued.granted)
  const waited = yield* Effect.exit(
    until === Infinity
      ? restore(granted)
      : timeouts.limit(granted, Math.max(0, until - heardAt), Effect.succeedNone, restore)
  )
  if (Exit.isSuccess(waited) && Option.isSome(waited.value)) return waited.value.value
  // Whoever stood still, and is late, has no time left to hear whether the backend is well.
  const hasTime = time.now() <= until + mostLate - leeway
  const answered = (yield* giveUp(asking, claim)) !== undefined
  if (Exit.isFailure(waited)) {
    const failed = Cause.findErrorOption(waited.cause)
    if (Option.isSome(failed) && failed.value.retryable) events.acquireFailed(key, failed.value)
    return yield* Effect.failCause(Cause.map(waited.cause, about(key)))
  }
  // One that answers in a moment and now does not has gone meanwhile. Of a far one nothing is known so soon.
  if (!answered && hasTime && heardAt - askedAt < leeway / 2 && time.now() - heardAt > answersWithin) {
    events.acquireFailed(key, fellSilent)
    return yield* about(key)(fellSilent)
  }
  const ahead = queued.ahead()
  const holder = ahead.holder === undefined ? undefined : Owner.decode(ahead.holder)
  return yield* new LockTimeout({
    key,
    waited: Duration.millis(time.now() - startedAt),
    queueLength: ahead.waiting,
    ...(holder && { holder: holder.name }),
    ...(holder?.metadata && { metadata: holder.metadata })
  })
})

/** Milliseconds: a backend that was heard of within them is not taken for one that has gone. */
const answersWithin = 2_000
