import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import {
  type AcquireError,
  CapacityMismatch,
  type InvalidLockRequest,
  LockAlreadyHeld,
  LockBackendError,
  LockTimeout
} from "../LockError.ts"
import {
  type Answer,
  callLimit,
  type Claim,
  type Full,
  type Gone,
  type Granted,
  isExclusive,
  type Queued,
  type Withdrawn
} from "../LockStore.ts"
import type { Admission } from "./admission.ts"
import * as Deadlock from "./deadlock.ts"
import type { Withdrawals } from "./lease/release.ts"
import * as Owner from "./options/owner.ts"
import { about, renamed } from "./options/request.ts"
import type { CallTimeouts, Restore } from "./scheduling/callTimeouts.ts"
import { fromNanos, type Time } from "./scheduling/time.ts"
import type { Events } from "./telemetry/events.ts"
import { type CallOutcome, outcomeOf } from "./telemetry/meters.ts"
import type { AcquireTrace } from "./telemetry/spans.ts"
import type { Reminder, StillWaiting } from "./telemetry/stillWaiting.ts"
import * as Timing from "./timing.ts"

export interface Acquired {
  readonly claim: Claim
  readonly granted: Granted
  /** Read before the request of `granted.confirmedAt` was sent. */
  readonly wallClockLead: number
  /** When the grant was there. */
  readonly at: number
}

/**
 * The answer to a request for several locks of which some are granted now: the next request, under the same id, asks for
 * more of them.
 */
export interface Further {
  readonly _tag: "Further"
}

export interface Waiting extends Omit<Queued, "granted"> {
  /** The key that is waited for, if it is one of several. */
  readonly key?: string
  /** Whether nobody may hold that lock beside the caller. Absent if it is not one of several: then the claim tells. */
  readonly isExclusive?: boolean
  readonly granted: Effect.Effect<Granted | Gone | Further, LockBackendError>
}

export type Reply = Exclude<Answer, Queued> | Waiting | Further

/** Where an acquire sends its requests: a store, or several locks that are acquired as one. */
export interface Requests {
  readonly request: (claim: Claim, mode: "queue" | "try") => Effect.Effect<Reply, LockBackendError>
  readonly heardAt: (claim: Claim) => bigint | undefined
  /** Whether it reports its calls to the store itself, as several locks do. */
  readonly isMeasured?: boolean
}

/** What all acquires of a locker share. */
export interface AcquireContext {
  readonly store: Requests
  readonly time: Time
  readonly timeouts: CallTimeouts
  readonly admission: Admission
  readonly withdrawals: Pick<Withdrawals, "before" | "giveUp">
  readonly events: Events
  readonly stillWaiting: StillWaiting
  /** Absent if the caller is not traced. */
  readonly trace?: AcquireTrace
  /** Looks for a deadlock when a claim has timed out. Absent if the caller holds nothing. */
  readonly findDeadlock?: (awaited: Deadlock.Awaited) => Effect.Effect<Deadlock.Circle | undefined>
}

/** One acquire: its key, its times, and the `restore` of its uninterruptible region. */
interface Asking extends AcquireContext {
  readonly key: string
  readonly mode: "queue" | "try"
  readonly startedAt: number
  /** When the caller's timeout ends. */
  readonly until: number
  readonly restore: Restore
  /** Whether the backend has just answered this acquire. */
  readonly isAnswered?: boolean
}

type Failure = Exclude<AcquireError, InvalidLockRequest>

/**
 * Waits in front of the admission until the turn of a call that came at `startedAt`. The caller's timeout runs during
 * this wait.
 */
export const throughAdmission = <A, E, R>(
  { admission, timeouts, time }: AcquireContext,
  key: string,
  mode: "queue" | "try",
  startedAt: number,
  timeout: number,
  inside: Effect.Effect<A, E, R>,
  /** How many locks the caller wants, if it wants several. */
  wanted?: number
): Effect.Effect<A, E | LockBackendError | LockTimeout, R> => {
  if (timeout === Infinity) return admission.wait(key, mode === "try", inside)
  const turn = admission.wait(key, mode === "try", Effect.void)
  const left = Math.max(0, startedAt + timeout - time.now())
  // If others were answered during the wait, the load took the caller's time, so it is a `LockTimeout`.
  const over = Effect.suspend((): Effect.Effect<never, LockBackendError | LockTimeout> => {
    if (admission.silence(timeouts.lookedAt) >= unanswered) return Effect.fail(about(key)(silent))
    return Effect.fail(crowded({ admission, key, startedAt, time }, wanted))
  })
  return Effect.andThen(timeouts.limit<void, LockBackendError | LockTimeout>(turn, left, over), inside)
}

/** The error of a caller whose time ended before any store was asked about the holder. */
const crowded = (
  { admission, key, startedAt, time }: Pick<Asking, "admission" | "key" | "startedAt" | "time">,
  wanted?: number
): LockTimeout =>
  new LockTimeout({
    key,
    waited: Duration.millis(time.now() - startedAt),
    queueLength: Math.max(1, admission.waiting),
    ...(wanted !== undefined && { acquired: 0, wanted })
  })

/**
 * Milliseconds without an answer to any caller, after which the backend is the reason for a caller's timeout. The
 * answers of a far backend arrive in groups, one round trip apart.
 */
const unanswered = 500

/**
 * Asks until the claim is granted, for an admitted caller. The first answer ends its admission. It must run in an
 * uninterruptible region and takes that region's `restore`: the caller can be interrupted at any moment, whether or not
 * the backend answers, but a granted claim always reaches the caller.
 *
 * If it ends without a grant, it withdraws the claim, so that no claim holds a lock that its caller does not know of. A
 * withdrawal that takes more than a moment continues in the background.
 *
 * It returns `undefined` if a `try` found the key held.
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
  const now = time.now()
  const wallClockLead = time.wallClockLead(now)
  const asked = (asking: Asking, sentAt: number) =>
    ask(asking, claim, sentAt, (answer, at) =>
      answer._tag === "Granted" && isTimely(time, answer, wallClockLead, at)
        ? Effect.succeed<Acquired>({ claim, granted: answer, wallClockLead, at })
        : untilGranted(asking, claim, answer, wallClockLead), goOut)
  const before = withdrawals.before(claim.key)
  if (before === undefined) return asked(now - startedAt > leeway ? inAll(asking) : asking, now)
  return Effect.matchCauseEffect(behind(asking, claim, before), {
    onSuccess: () => asked(inAll(asking), time.now()),
    onFailure: (cause) => {
      goOut(false)
      return Effect.failCause(cause)
    }
  })
}

/** A `try` has 1 second in all, however often it asks and however long it waited before. */
const inAll = (asking: Asking): Asking =>
  asking.mode === "try" ? { ...asking, until: asking.startedAt + Timing.tryPatience } : asking

/**
 * Waits for this locker's own withdrawals of the same key. Otherwise the request would only find the claim that is
 * being withdrawn.
 */
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

/** Whether the grant arrived before its deadline, and the wall clock did not jump meanwhile. */
const isTimely = (time: Time, { confirmedAt, ttl }: Granted, wallClockLead: number, now: number): boolean => {
  const millis = Duration.toMillis(ttl)
  return now < fromNanos(confirmedAt) + millis && time.wallClockLead(now) - wallClockLead <= millis
}

/** Continues after a first answer that was not a usable grant. */
const untilGranted = Effect.fnUntraced(function*(
  first: Asking,
  claim: Claim,
  answer: Reply,
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
  let reminder: Reminder | undefined
  /** The id that has its place. Its place is not counted again, because claims before it may come back to life. */
  let placed: string | undefined
  while (true) {
    if (answer._tag === "Queued") {
      if (mode === "try") {
        yield* giveUp(asking, claim)
        return undefined
      }
      const full = claim.id === placed ? undefined : fullQueue(claim, answer)
      if (full !== undefined) {
        yield* giveUp(asking, claim)
        return yield* tooMany(asking, claim, full)
      }
      placed = claim.id
      const since = time.now()
      const queued: Waiting = answer
      asking.trace?.queued(queued)
      reminder = asking.stillWaiting.begin(reminder, queued.key ?? key, asking.startedAt, queued.ahead)
      answer = yield* Effect.ensuring(
        wait(asking, claim, queued, askedAt),
        Effect.sync(() => asking.stillWaiting.end(reminder))
      )
      // Of a lock that others may hold too, those who hold it now may have come in with this caller.
      const isAlone = queued.isExclusive ?? isExclusive(claim)
      if (answer._tag === "Granted" && isAlone) asking.trace?.waited(queued.ahead())
      // The claim kept its place for a while, so an earlier failure and this one are not in a row.
      if (time.now() - since > pause) {
        until = Infinity
        lost = 0
      }
    }
    switch (answer._tag) {
      case "Granted": {
        const at = time.now()
        if (isTimely(time, answer, wallClockLead, at)) return { claim, granted: answer, wallClockLead, at }
        // The grant came too late. A repeat under the same id either extends it or finds the claim queued.
        if (at - askedAt >= Duration.toMillis(answer.ttl)) isLast = false
        break
      }
      case "Further":
        break
      case "Busy":
        if (mode === "queue") return yield* about(key)(unqueued)
        return undefined
      case "Full":
        return yield* tooMany(asking, claim, answer)
      case "AlreadyHeld":
        return yield* new LockAlreadyHeld({ key, fencingToken: answer.fencingToken })
      case "Gone":
        // The withdrawal of an id may arrive late and would then end a later grant under it. So a new attempt needs a
        // new id.
        claim = renamed(claim)
        // After the first lost place it asks again at once. A process that was paused loses several places in a row,
        // and a store with a bug loses every place.
        if (answer.error === undefined && ++lost === 1) break
        if (answer.error !== undefined || mode === "try" || lost > mostLost) until = Math.min(until, patient())
        if (time.now() + pause >= until) return yield* about(key)(answer.error ?? placeless)
        yield* restore(time.sleep(Math.max(0, Math.min(pause, asking.until - time.now()))))
        break
      case "CapacityMismatch":
        return yield* new CapacityMismatch({
          key,
          requested: claim.capacity,
          inUse: answer.inUse,
          kind: answer.kind
        })
    }
    askedAt = time.now()
    // A process that was paused past the end of its timeout had no chance to use it, so it asks once more.
    if (isLast) {
      // A grant that came too late is still held at the backend, and so are the locks that are there.
      if (answer._tag === "Granted" || answer._tag === "Further") yield* giveUp(asking, claim)
      if (answer._tag === "Further" && mode === "queue") {
        return yield* new LockTimeout({ key, waited: Duration.millis(time.now() - asking.startedAt), queueLength: 1 })
      }
      const known = answer._tag === "Gone" ? answer.error : undefined
      return yield* about(key)(known ?? (answer._tag === "Granted" || mode === "try" ? silent : placeless))
    }
    isLast = askedAt >= asking.until
    wallClockLead = time.wallClockLead(askedAt)
    answer = yield* ask({ ...asking, isAnswered: answer._tag !== "Gone" }, claim, askedAt, Effect.succeed)
  }
})

/** What a store would answer that counts before it lets a claim wait. `undefined` if the claim may wait. */
export const fullQueue = (
  { maxQueue }: Claim,
  { ahead, place }: Pick<Queued, "ahead" | "place">
): Full | undefined =>
  maxQueue !== undefined && place >= maxQueue
    ? { _tag: "Full", waiting: place, holder: ahead().holder }
    : undefined

const tooMany = ({ key, startedAt, time }: Asking, { maxQueue }: Claim, { holder, waiting }: Full): LockTimeout =>
  new LockTimeout({
    key,
    waited: Duration.millis(time.now() - startedAt),
    queueLength: waiting,
    ...named(holder),
    ...(maxQueue !== undefined && { maxQueue })
  })

/** The holder as a `LockTimeout` names it. */
const named = (holder: string | undefined): Pick<LockTimeout, "holder" | "metadata"> => {
  if (holder === undefined) return {}
  const { metadata, name } = Owner.decode(holder)
  return { holder: name, ...(metadata && { metadata }) }
}

/**
 * Sends one request, and repeats it under the same id while the backend may come back soon: an answer was lost, or a
 * connection is being made again. Repeating a request that was executed is harmless. The first answer lets the
 * admission admit another caller.
 */
const ask = <A, E>(
  asking: Asking,
  claim: Claim,
  sentAt: number,
  then: (answer: Reply, now: number) => Effect.Effect<A, E>,
  goOut?: (isAnswered: boolean) => void
): Effect.Effect<A, E | LockBackendError | LockTimeout> => {
  const { events, key, time } = asking
  return Effect.matchCauseEffect(send(asking, claim, sentAt), {
    onSuccess: (answer) => {
      const now = time.now()
      noteCall(asking, now - sentAt, "answered")
      events.answered(key)
      if ("capacityInUse" in answer) tellOfCapacity(asking, claim, answer.capacityInUse)
      goOut?.(true)
      return then(answer, now)
    },
    onFailure: (cause) => {
      noteCall(asking, time.now() - sentAt, outcomeOf(cause))
      goOut?.(false)
      return Effect.flatMap(askAgain(asking, claim, cause), (answer) => then(answer, time.now()))
    }
  })
}

const noteCall = ({ events, store }: Asking, millis: number, outcome: CallOutcome): void => {
  if (store.isMeasured !== true) events.called("acquire", millis, outcome)
}

const tellOfCapacity = ({ events, key }: Asking, { capacity }: Claim, inUse: number | undefined): void => {
  if (inUse !== undefined) events.capacityDiffers(key, capacity, inUse)
}

/**
 * Limits a call by the caller's time. The time limit of the call itself belongs to the store, if the store is
 * `bounded`.
 */
const send = (asking: Asking, claim: Claim, now: number): Effect.Effect<Reply, LockBackendError> => {
  const { timeouts, mode, restore, store, until } = asking
  const call = store.request(claim, mode)
  const limit = mode === "try" ? Math.min(callLimit(claim), Timing.tryPatience) : patienceWith(claim)
  if (until === Infinity) return timeouts.limitUnlessBounded(call, limit, Effect.fail(silent), restore)
  const late = now - until
  // A caller that was paused is late in any case. Any other caller must not be.
  const left = Math.max(-late, late < mostLate ? Math.min(leeway, mostLate - late) : leeway)
  // A caller that ran out of time says nothing about the backend.
  if (timeouts.bounded || left < limit) {
    const over = Effect.suspend(() =>
      Effect.fail(hasAnsweredOthers(asking, claim) ? crowdedOut : left < leeway ? hadNoTime : outOfTime)
    )
    return timeouts.limit(call, left, over, restore)
  }
  return timeouts.limit(call, limit, Effect.fail(silent), restore)
}

/** Whether the backend recently answered a caller, after this one came. Then the load took this caller's time. */
const hasAnsweredOthers = ({ timeouts, startedAt, store }: Asking, claim: Claim): boolean => {
  const heardAt = store.heardAt(claim)
  if (heardAt === undefined) return false
  const millis = fromNanos(heardAt)
  return millis >= startedAt && timeouts.lookedAt - millis < unanswered
}

const askAgain = Effect.fnUntraced(function*(
  asking: Asking,
  claim: Claim,
  cause: Cause.Cause<LockBackendError>
): Effect.fn.Return<Reply, LockBackendError | LockTimeout> {
  const { key, timeouts, mode, events, restore, startedAt, store, time } = asking
  const pause = pauseOf(claim)
  // Counted from the first failure, because the call may have waited for its turn before it. A `try` counts from its
  // start, because its caller wants an answer now.
  const patience = mode === "try" ? startedAt + Timing.tryPatience : time.now() + patienceWith(claim)
  const until = Math.min(asking.until, patience)
  let told: LockBackendError | undefined
  while (true) {
    const error = Option.getOrUndefined(Cause.findErrorOption(cause))
    const again = error?.retryable === true && time.now() + pause < until
    if (error !== undefined && isOutage(error)) events.acquireUnanswered(key, error)
    // An error that came before the silence says more than the silence.
    if (error !== undefined && error.cause !== silent.cause) told = error
    const ended = told === undefined || error === undefined ? Exit.failCause(cause) : Exit.fail(told)
    const paused = again ? yield* Effect.exit(restore(time.sleep(pause))) : ended
    if (Exit.isFailure(paused)) {
      if (error !== undefined && isOutage(error)) events.acquireFailed(key, told ?? error)
      yield* giveUp(asking, claim)
      // Neither case says anything about the backend: it answered others, or it was asked at the last moment.
      const isLate = error === hadNoTime && asking.isAnswered === true
      if (mode === "queue" && (error === crowdedOut || isLate)) return yield* crowded(asking)
      return yield* Effect.failCause(Cause.map(paused.cause, about(key)))
    }
    const sentAt = time.now()
    const answer = yield* Effect.exit(
      timeouts.limit(store.request(claim, mode), Math.max(0, until - sentAt), Effect.fail(silent), restore)
    )
    noteCall(asking, time.now() - sentAt, Exit.isSuccess(answer) ? "answered" : outcomeOf(answer.cause))
    if (Exit.isSuccess(answer)) {
      events.answered(key)
      return answer.value
    }
    cause = answer.cause
  }
})

/** Withdraws the claim, and returns what the backend answers within the rest of the leeway. */
const giveUp = ({ time, until, withdrawals }: Asking, claim: Claim): Effect.Effect<Withdrawn | undefined> =>
  withdrawals.giveUp(claim, Math.min(leeway, until + mostLate - time.now()))

/**
 * Withdraws a claim that has timed out. A caller that holds other locks looks for a deadlock at the same time. That is
 * sent before the withdrawal: if two callers that wait for each other time out together, one of them finds the other.
 */
const giveUpInVain = (
  asking: Asking,
  claim: Claim,
  { ahead }: Waiting
): Effect.Effect<readonly [Deadlock.Circle | undefined, Withdrawn | undefined]> => {
  const { findDeadlock, time, timeouts, until } = asking
  const withdrawn = giveUp(asking, claim)
  if (findDeadlock === undefined) return Effect.map(withdrawn, (answer) => [undefined, answer])
  const found = timeouts.limit(
    findDeadlock({ claim, ahead }),
    Math.min(leeway, until + mostLate - time.now()),
    Effect.undefined
  )
  return Effect.all([found, withdrawn], { concurrency: "unbounded" })
}

const patienceWith = ({ ttl }: Claim): number => Timing.acquirePatience(Duration.toMillis(ttl))

/** How many places in a row may be lost before the acquire fails. */
const mostLost = 10

/**
 * Milliseconds. A healthy backend answers within `leeway`, so a call may exceed its caller's timeout by that much to
 * get the answer, and by `mostLate` in all.
 */
const leeway = 50
const mostLate = 75

const pauseOf = ({ ttl }: Claim): number => Timing.acquireRetryAfter(Duration.toMillis(ttl))

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("the backend did not answer in time")
})

const outOfTime = new LockBackendError({ operation: "acquire", retryable: true, cause: silent.cause })

/** The same error if the caller had less time left than a healthy backend needs. */
const hadNoTime = new LockBackendError({ operation: "acquire", retryable: true, cause: silent.cause })

/** The same error if the backend answered other callers. */
const crowdedOut = new LockBackendError({ operation: "acquire", retryable: true, cause: silent.cause })

const ofCaller = new Set([outOfTime, hadNoTime, crowdedOut])

/**
 * Whether an error says that the backend is away. Other errors are answers, or they come from the caller's own timeout.
 */
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
  cause: new Error("the place in the queue was lost, which happens after a long pause of this process")
})

/**
 * Waits until a queued claim is granted or gone, or the caller's time ends. Any end other than a grant or `Gone`
 * withdraws the claim.
 */
const wait = Effect.fnUntraced(function*(
  asking: Asking,
  claim: Claim,
  queued: Waiting,
  askedAt: number
): Effect.fn.Return<Granted | Gone | Further, LockTimeout | LockBackendError> {
  const { key, timeouts, events, restore, startedAt, time, until } = asking
  const heardAt = time.now()
  const granted = Effect.asSome(queued.granted)
  const waited = yield* Effect.exit(
    until === Infinity
      ? restore(granted)
      : timeouts.limit(granted, Math.max(0, until - heardAt), Effect.succeedNone, restore)
  )
  if (Exit.isSuccess(waited) && Option.isSome(waited.value)) return waited.value.value
  // A process that was paused and is late has no time left to find out whether the backend is well.
  const hasTime = time.now() <= until + mostLate - leeway
  if (Exit.isFailure(waited)) {
    yield* giveUp(asking, claim)
    const failed = Cause.findErrorOption(waited.cause)
    if (Option.isSome(failed) && failed.value.retryable) events.acquireFailed(key, failed.value)
    return yield* Effect.failCause(Cause.map(waited.cause, about(key)))
  }
  const [circle, withdrawn] = hasTime
    ? yield* giveUpInVain(asking, claim, queued)
    : [undefined, yield* giveUp(asking, claim)]
  const answered = withdrawn !== undefined
  // A backend that answered within milliseconds before and does not answer now has probably gone. For a far backend it
  // is too early to know.
  if (!answered && hasTime && heardAt - askedAt < leeway / 2 && time.now() - heardAt > answersWithin) {
    events.acquireFailed(key, fellSilent)
    return yield* about(key)(fellSilent)
  }
  const ahead = queued.ahead()
  const deadlock = circle && Deadlock.told(circle)
  return yield* new LockTimeout({
    key,
    waited: Duration.millis(time.now() - startedAt),
    queueLength: ahead.waiting,
    ...named(ahead.holder),
    ...(deadlock && { deadlock })
  })
})

/** Milliseconds. A backend that answered within this time is not considered gone. */
const answersWithin = 2_000
