import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { Lease } from "../Lease.ts"
import { Leases } from "../Leases.ts"
import { LockAdmin } from "../LockAdmin.ts"
import {
  type AcquireError,
  InvalidLockRequest,
  LockAlreadyHeld,
  LockBackendError,
  type LockNotHeld,
  type OwnershipLost
} from "../LockError.ts"
import type { LockOptions } from "../LockOptions.ts"
import { type Claim, isExclusive, LockStore, type Renewal } from "../LockStore.ts"
import { SharedLease } from "../SharedLease.ts"
import { acquire, throughAdmission } from "./acquire.ts"
import { AdminCalls } from "./admin/calls.ts"
import { Admission } from "./admission.ts"
import * as Deadlock from "./deadlock.ts"
import { ExclusiveView } from "./lease/exclusiveView.ts"
import { type Enclosing, HeldLease, type LeaseHost } from "./lease/heldLease.ts"
import { HoldCaps } from "./lease/holdCaps.ts"
import { type GroupHost, LeaseGroup } from "./lease/leaseGroup.ts"
import { LeaseView } from "./lease/leaseView.ts"
import * as Nesting from "./lease/nesting.ts"
import { releaseLease, releaseLeases, Withdrawals } from "./lease/release.ts"
import { Renewals } from "./lease/renewals.ts"
import { Revocations } from "./lease/revocations.ts"
import { type Ending, type LeaseService, type Outside, reportLoss, runSection } from "./lease/section.ts"
import { RunRecords } from "./once/records.ts"
import { mostHeld } from "./options/owner.ts"
import * as Request from "./options/request.ts"
import type { Settings } from "./options/settings.ts"
import * as Wants from "./options/wants.ts"
import { CallTimeouts, type Restore } from "./scheduling/callTimeouts.ts"
import * as Time from "./scheduling/time.ts"
import { Several, type SeveralContext, type Wanted } from "./several.ts"
import { Events } from "./telemetry/events.ts"
import { Log } from "./telemetry/log.ts"
import type { Meter, Waiter } from "./telemetry/meter.ts"
import { type Candidate as MeasuredCandidate, Meters } from "./telemetry/meters.ts"
import { Outage } from "./telemetry/outage.ts"
import * as Spans from "./telemetry/spans.ts"
import { StillWaiting } from "./telemetry/stillWaiting.ts"
import { StoreRoom } from "./telemetry/storeRoom.ts"
import { longestRelease } from "./timing.ts"

export type Shape = Request.Shape

/**
 * The part that all kinds of lock share. It holds a claim of any shape, in a scope or for a section. In the mode `try`
 * it returns `undefined` or `Option.none` if there is no room.
 */
export interface Engine {
  readonly settings: Settings
  readonly time: Time.Time
  /** Whether the locker has closed, so that no later call can succeed. */
  readonly isClosed: () => boolean
  /** Sleeps for so many milliseconds, or until the locker closes. */
  readonly pause: (millis: number) => Effect.Effect<void>
  readonly scoped: (
    key: string,
    shape: Shape,
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<AnyLease | undefined, AcquireError, Scope.Scope>
  readonly section: <A, E, R>(
    key: string,
    shape: Shape,
    program: Program<A, E, R>,
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<Option.Option<A>, E | AcquireError | OwnershipLost, Outside<R>>
  /** Holds several locks at once, each as its want says. */
  readonly scopedAll: (
    wants: unknown,
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<LeaseGroup | undefined, AcquireError, Scope.Scope>
  readonly sectionAll: <A, E, R>(
    wants: unknown,
    program: Effect.Effect<A, E, R> | ((leases: Leases) => Effect.Effect<A, E, R>),
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<Option.Option<A>, E | AcquireError | OwnershipLost, Outside<R, Leases>>
  /** The records of the runs of a key, for a call with these options. */
  readonly records: (
    key: string,
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<RunRecords, InvalidLockRequest | LockBackendError>
  /** How many permits are held on a key. */
  readonly used: (key: string, shape: Shape) => Effect.Effect<number, LockBackendError>
  /** The calls about locks as seen from outside. */
  readonly admin: AdminCalls
  /** Lets metrics tell of a candidate for a leadership, until the returned function is called. */
  readonly stand: (name: string, candidate: MeasuredCandidate) => () => void
}

/** What the caller gets: a lease of its own, or a view of the one that it has. */
export type AnyLease = HeldLease | LeaseView

/** The program of a section: an effect, or a function that takes the lease. */
export type Program<A, E, R> = Effect.Effect<A, E, R> | ((lease: HeldLease) => Effect.Effect<A, E, R>)

/**
 * Makes an engine over the store in the context. It takes each claim through all its steps: request, grant, renewals,
 * release.
 */
export const make = (settings: Settings): Effect.Effect<Engine, never, LockStore | Scope.Scope> =>
  // What it does in the background belongs to no trace.
  Spans.untraced(build(settings))

const build = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  Engine,
  never,
  LockStore | Scope.Scope
> {
  const given = yield* LockStore
  // A member of the contract that is forgotten here is a compile error, also an optional one.
  const store: Omit<
    Required<LockStore["Service"]>,
    | "backend"
    | "bounded"
    | "telemetry"
    | "shrink"
    | "used"
    | "waiting"
    | "contended"
    | "runs"
    | "requestAll"
    | "withdrawAll"
    | "groupOf"
  > = {
    request: (claim, mode) => called(() => given.request(claim, mode)),
    renew: (held) => called(() => given.renew(held)),
    withdraw: (claim) => called(() => given.withdraw(claim)),
    heardAt: (claim) => given.heardAt?.(claim),
    losses: given.losses
  }
  const grouping = given.groupOf !== undefined && { groupOf: (claim: Claim) => given.groupOf!(claim) }
  const time = yield* Time.make
  const context = yield* Effect.context<never>()
  // These fibers outlive the locker, unlike those of `fork`.
  const run = Effect.runForkWith(context)
  const log = new Log(context)
  const timeouts = new CallTimeouts(time, given.bounded === true, run, log)
  // This finalizer is added first, so it runs last: until then the calls of the fibers below keep their timeouts.
  yield* Effect.addFinalizer(() => Effect.sync(() => timeouts.close()))
  const fork = yield* FiberSet.makeRuntime<never>()
  const outage = given.telemetry instanceof StoreRoom
    ? given.telemetry.outage
    : new Outage(log, time, "The lock store")
  const meters = new Meters(time, context, given.backend ?? "custom")
  const events = new Events(log, outage, time, meters, fork)
  yield* Effect.addFinalizer(() => Effect.sync(() => events.close()))
  const withdrawals = new Withdrawals({
    store: {
      withdraw: store.withdraw,
      ...(given.withdrawAll !== undefined && {
        withdrawAll: (claims: ReadonlyArray<Claim>) => called(() => given.withdrawAll!(claims))
      }),
      ...grouping
    },
    time,
    timeouts,
    events,
    fork: run
  })
  const admission = new Admission(time, events, fork)
  const stillWaiting = new StillWaiting(settings.warnAfter, time, log, fork)
  yield* Effect.addFinalizer(() => Effect.sync(() => stillWaiting.close()))
  const acquireContext = { store, time, timeouts, admission, withdrawals, events, stillWaiting }
  /** The same for candidates, who stand for as long as another one leads. */
  const standing = { ...acquireContext, stillWaiting: new StillWaiting(Infinity, time, log, fork) }
  const revocations = new Revocations(time, events, log, fork)
  const renewals = new Renewals(time, timeouts, store, events, log, admission, revocations, fork)
  const caps = new HoldCaps(time, events, log, fork)
  const usual = Request.usual(settings)
  const usualTry = { ...usual, timeout: Infinity }
  let closed = false
  /** Lost leases whose claims still have to be withdrawn. */
  const leftovers = new Set<HeldLease>()

  const host: LeaseHost = {
    time,
    events,
    fork: run,
    store: given,
    onLost: (lease, loss) => {
      events.lost(lease, loss)
      if (lease.isRunningOut) renewals.letRunOut(lease)
      else if (lease.isKept) fork(keepWhileEnding(lease))
      // The holder has the guard gap for its clean-up. After it others need not wait for the ttl.
      else letGo(lease, Duration.toMillis(lease.claim.guardGap))
    },
    onKeptNoLonger: (lease, reason) => {
      const gap = Duration.toMillis(lease.claim.guardGap)
      const expiry = Math.max(0, lease.deadline - time.now()) + gap
      const isRevoked = lease.loss?.reason === "Revoked"
      if (isRevoked && lease.hasLeftover) events.ranOut(lease.key, gap)
      else if (reason !== undefined) events.lostWhileEnding(lease.key, reason, isRevoked ? "revocation" : "maxHold")
      else events.overstayed(lease.key, gap, expiry)
      // A program may still be under way, so its claim stands for as long as it would by itself.
      letGo(lease, expiry)
    },
    letRunOut: (lease) => renewals.letRunOut(lease),
    releaseLease: (lease, now = time.now()) => {
      renewals.remove(lease)
      Nesting.leave(lease)
      const released = releaseLease(withdrawals, lease, now)
      const given = lease.trace === undefined ? released : Spans.untraced(released)
      // The release does not wait for this withdrawal: the backend was silent a moment ago and may still be.
      return lease.hasLeftover ? Effect.andThen(given, Effect.sync(() => void fork(withdrawLeftover(lease)))) : given
    },
    shrink: (lease, permits) => Effect.suspend(() => shrink(lease, permits)),
    contended: ({ claim, fencingToken, key }) =>
      given.contended === undefined ? Effect.never : Effect.catchDefect(
        called(() => given.contended!({ claim, fencingToken })),
        (defect) => {
          events.contentionBroke(defect, key)
          return Effect.never
        }
      )
  }

  /** The program under the lock has the guard gap to end, and the claim is renewed meanwhile. */
  const keepWhileEnding = (lease: HeldLease): Effect.Effect<void> =>
    Effect.andThen(
      time.sleep(Duration.toMillis(lease.claim.guardGap)),
      Effect.sync(() => lease.stopKeeping())
    )

  /**
   * Ends the renewals of a lost lease. If the backend has not said that the claim is gone, it may still have it. Then the
   * claim is withdrawn after `millis`. Otherwise yields once, so that the fibers that observe the loss run before the scope
   * closes.
   */
  const letGo = (lease: HeldLease, millis: number): void => {
    renewals.remove(lease)
    Nesting.leave(lease)
    if (lease.hasLeftover) leftovers.add(lease)
    const gap = lease.hasLeftover ? time.sleep(millis) : Effect.yieldNow
    fork(Effect.andThen(gap, closeAfterLoss(lease)))
  }

  /**
   * Asks until the backend has answered, as a renewal does. From the first request on the claim counts as shrunk, since
   * its answer may be lost.
   */
  const shrink = (lease: HeldLease, permits: number): Effect.Effect<void, OwnershipLost | LockNotHeld> => {
    if (!lease.check(time.now()) || lease.isShrunk) return lease.ensureHeld
    // A section that has entered a second time still relies on the lock's being exclusive.
    if (ExclusiveView.isOpenOn(lease)) return lease.ensureHeld
    const { claim, fencingToken } = lease
    // A claim that cannot shrink stays exclusive, which keeps out more than it must.
    const stays = Effect.sync(() => events.cannotShrink(lease.key))
    if (given.shrink === undefined) return stays
    const wallClockLead = time.wallClockLead()
    const sent = timeouts.limit<Renewal, never>(
      Effect.catchDefect(
        called(() => given.shrink!({ claim, fencingToken }, permits)),
        (defect) => Effect.succeed(refused(defect))
      ),
      lease.renewalTimeout,
      Effect.succeed(unansweredShrink)
    )
    lease.claim = { ...claim, permits }
    return Effect.flatMap(sent, (answer) => {
      if (!lease.check(time.now())) return lease.ensureHeld
      if (answer._tag === "Unknown") {
        events.renewalFailed(lease.key, answer.error, 1)
        return answer.error.retryable
          ? Effect.andThen(time.sleep(lease.retryAfter), host.shrink(lease, permits))
          : stays
      }
      lease.isShrunk = answer._tag === "Confirmed"
      renewals.take(lease, answer, wallClockLead)
      return lease.ensureHeld
    })
  }

  /** Withdraws a lost claim that the backend may still keep. Call it when the holder has had its time to clean up. */
  const withdrawLeftover = (lease: HeldLease): Effect.Effect<void> =>
    Effect.suspend(() => {
      // A locker that closes withdraws all leftovers itself.
      if (closed || !lease.takeLeftover()) return Effect.void
      leftovers.delete(lease)
      return withdrawals.release(lease.key, lease.claim)
    })

  /** Closes the lease's own scope after a loss. The caller's scope may stay open for long. */
  const closeAfterLoss = (lease: HeldLease): Effect.Effect<void> =>
    Effect.suspend(() =>
      Effect.andThen(
        withdrawLeftover(lease),
        lease.scope === undefined ? Effect.void : Scope.close(lease.scope, Exit.void)
      )
    )

  const gone = (key: string): LockBackendError => {
    const cause = new Error("the locker has been closed")
    return new LockBackendError({ operation: "acquire", key, retryable: false, cause })
  }

  /** One call: when it began, and where. */
  interface Call {
    readonly mode: "queue" | "try"
    readonly startedAt: number
    readonly context: Context.Context<never>
    /** What waits for the locks of the call, by their keys, if it had to wait for its turn to ask for them. */
    waiters: Map<string, Waiter> | undefined
    /** The sampled span of the caller. Absent if it is not traced. */
    readonly parent: Tracer.AnySpan | undefined
    /** Its span `dlock.acquire`, once it has begun. */
    trace: Spans.AcquireTrace | undefined
  }

  /** One lock of a call. */
  interface Asked {
    readonly key: string
    readonly shape: Shape
    readonly terms: Request.Terms
  }

  /**
   * Runs `inside` at once if the locker admits the call, or when its turn comes. Errors that need no backend are
   * reported before the wait. While a call waits, only its fiber and this record are kept.
   */
  const admitted = <A, E, R>(
    call: Call,
    locks: ReadonlyArray<Asked>,
    inside: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | AcquireError, R> => {
    const { context, mode, startedAt } = call
    const { key, terms: { timeout } } = locks[0]!
    if (admission.isOpen(startedAt, timeout)) return inside
    const parent = Nesting.innermost(context)
    const missing: Array<Asked> = []
    for (const asked of locks) {
      const found = findOwn(asked, parent, context)
      if (found !== undefined && !(found instanceof HeldLease)) return Effect.fail(found)
      if (found === undefined) missing.push(asked)
    }
    if (missing.length === 0) return inside
    const wanted = locks.length > 1 ? locks.length : undefined
    const waits = Effect.suspend(() => {
      call.waiters = new Map(missing.map((asked) => [asked.key, waiterOf(asked, startedAt)]))
      return throughAdmission(acquireContext, key, mode, startedAt, timeout, inside, wanted)
    })
    return traced(call, missing, () => untilEnd(call, waits))
  }

  /** Ends what still waits for a lock when the call ends, whatever ends it. */
  const untilEnd = <A, E, R>(call: Call, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.onExit(effect, (exit) =>
      Effect.sync(() => {
        call.trace?.notGranted(time.now())
        // Those that asked have ended.
        for (const waiter of call.waiters?.values() ?? []) {
          if (!waiter.isWaiting) continue
          if (Exit.isFailure(exit)) events.notGranted(waiter, exit.cause)
          else waiter.meter.forget(waiter)
        }
      }))

  /** Runs the acquire of these locks under its span, if its caller is traced. */
  const traced = <A, E, R>(
    call: Call,
    locks: ReadonlyArray<Asked>,
    run: () => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> => {
    const { parent, trace } = call
    if (parent === undefined || trace !== undefined) return run()
    const keys = locks.map(({ key }) => key)
    const [{ shape: { kind } }] = locks as readonly [Asked]
    const names = new Set(keys.map((key) => settings.prefix + key))
    const findLocalHolder = () =>
      renewals.all().find(({ claim, state, trace }) => state === "held" && trace !== undefined && names.has(claim.key))
        ?.trace?.traceparent
    const subject = { keys, kind: locks.every(({ shape }) => shape.kind === kind) ? kind : "several" }
    return Spans.acquiring({ ...call, parent }, subject, findLocalHolder, (trace) => {
      call.trace = trace
      return run()
    })
  }

  /** Begins the span of a hold, which ends with the lease. */
  const beginHold = <L extends HeldLease | LeaseGroup>(
    trace: Spans.AcquireTrace,
    lease: L,
    now: number
  ): Effect.Effect<L> =>
    Effect.map(trace.granted(now, lease instanceof HeldLease ? lease.fencingToken : undefined), (held) => {
      if (held === undefined) return lease
      lease.trace = held
      if (lease instanceof LeaseGroup) { for (const own of lease.own) own.trace = held }
      // It may have been lost while the tracer made the span, and tells nobody of its end again.
      if (lease.state === "held") lease.whenEnded(() => held.end(lease.loss))
      else held.end(lease.loss)
      return lease
    })

  /** What waits for each missing lock of a call. A call that asks anew waits since its beginning. */
  const waitersOf = (call: Call, missing: ReadonlyArray<Asked>): ReadonlyMap<string, Waiter> => {
    const before = call.waiters ?? new Map<string, Waiter>()
    call.waiters = new Map(
      missing.map((asked) => [asked.key, before.get(asked.key) ?? meterOf(asked).begin(call.startedAt)])
    )
    for (const [key, waiter] of before) if (!call.waiters.has(key)) waiter.meter.forget(waiter)
    return call.waiters
  }

  const meterOf = ({ shape, terms }: Asked): Meter => meters.of(shape.kind, terms.name)

  const waiterOf = (asked: Asked, startedAt: number): Waiter =>
    asked.shape.isLeadership ? meterOf(asked).stand(startedAt) : meterOf(asked).begin(startedAt)

  const callOf = (fiber: Fiber.Fiber<unknown, unknown>, mode: "queue" | "try"): Call => ({
    mode,
    startedAt: time.now(),
    context: fiber.context,
    waiters: undefined,
    parent: Spans.parentOf(fiber),
    trace: undefined
  })

  /** Checks the key and the options of a call, and runs `inside` when the locker admits it. */
  const ask = <A, E, R>(
    key: string,
    shape: Shape,
    options: LockOptions | undefined,
    mode: "queue" | "try",
    inside: (call: Call, asked: Asked) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | AcquireError, R> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | AcquireError, R> => {
      const call = callOf(fiber, mode)
      const defaults = mode === "queue" ? usual : usualTry
      const terms = Request.parse(settings, defaults, key, options, mode === "queue", shape.kind)
      if (terms instanceof InvalidLockRequest) return Effect.fail(terms)
      const asked = { key, shape, terms }
      return admitted(call, [asked], inside(call, asked))
    })

  /** The same for several locks. */
  const askAll = <A, E, R>(
    wants: unknown,
    options: LockOptions | undefined,
    mode: "queue" | "try",
    inside: (call: Call, locks: ReadonlyArray<Asked>) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | AcquireError, R> =>
    Effect.withFiber((fiber): Effect.Effect<A, E | AcquireError, R> => {
      const call = callOf(fiber, mode)
      const parsed = Wants.parse(engine, wants)
      if (parsed instanceof InvalidLockRequest) return Effect.fail(parsed)
      const defaults = mode === "queue" ? usual : usualTry
      const locks: Array<Asked> = []
      for (const { key, shape, ttl } of parsed) {
        // The options are for all locks, so they may have what only some of them use.
        const terms = Request.parse(settings, defaults, key, Request.withTtl(options, ttl), mode === "queue", "mutex")
        if (terms instanceof InvalidLockRequest) return Effect.fail(terms)
        locks.push({ key, shape, terms })
      }
      return admitted(call, locks, inside(call, locks))
    })

  /**
   * What the caller already holds of this lock: nothing, a lease that it re-enters, or the error of a claim that would
   * make the caller wait for itself.
   */
  const findOwn = (
    { key, shape, terms }: Asked,
    parent: Enclosing | undefined,
    context: Context.Context<never>
  ): HeldLease | LockBackendError | LockAlreadyHeld | undefined => {
    if (closed) return gone(key)
    const own = Nesting.alreadyHeld(parent, context, given, settings.prefix + key)
    if (own === undefined) return undefined
    if (Nesting.mayReenter(own, shape, terms.reentry !== undefined)) {
      if (own.check(time.now())) return own
      // Nothing enters a lease that has just ended, even if nobody has noticed yet. The caller holds nothing then, unless
      // the claim is kept while the program ends.
      if (!own.isKept) return undefined
    }
    if (own.claim.kind !== "readWrite") return new LockAlreadyHeld({ key, fencingToken: own.fencingToken })
    return new LockAlreadyHeld({ key, fencingToken: own.fencingToken, held: own.isExclusive ? "write" : "read" })
  }

  /** A view of what the caller holds. Of all terms of the call, only those of its own section count. */
  const reenter = (
    own: HeldLease,
    { shape }: Asked,
    parent: Enclosing | undefined,
    context: Context.Context<never>
  ): LeaseView => {
    const scope = Context.getOrUndefined(context, Scope.Scope)
    return isExclusive(shape) ? new ExclusiveView(own, parent, scope) : new LeaseView(own, parent, scope)
  }

  /**
   * Leases that the caller already holds, if others are to know them: a caller that does not wait is in nobody's way.
   */
  const heldBy = (
    context: Context.Context<never>,
    parent: Enclosing | undefined,
    mode: "queue" | "try"
  ): ReadonlyArray<HeldLease> | undefined =>
    mode === "try" || given.waiting === undefined ? undefined : Nesting.someHeld(parent, context, given, mostHeld)

  const findDeadlock = (
    awaited: ReadonlyArray<Deadlock.Awaited>,
    held: ReadonlyArray<HeldLease>
  ): Effect.Effect<Deadlock.Circle | undefined> =>
    Effect.suspend(() => {
      const claims = held.flatMap(({ claim, state }) => state === "held" ? claim : [])
      return Deadlock.find((on, most) => called(() => given.waiting!(on, most)), awaited, claims)
    })

  /**
   * Requests the claim and starts the renewal of its lease. It must run in an uninterruptible region, so that a granted
   * lease reaches its caller before an interruption can stop anything.
   */
  const hold = (
    call: Call,
    asked: Asked,
    restore: Restore
  ): Effect.Effect<AnyLease | undefined, AcquireError> => {
    const { context, mode, startedAt, trace, waiters } = call
    const { key, shape, terms } = asked
    const parent = Nesting.innermost(context)
    const own = findOwn(asked, parent, context)
    if (own instanceof HeldLease) {
      return terms.reentry instanceof InvalidLockRequest
        ? Effect.fail(terms.reentry)
        : Effect.succeed(cappedView(reenter(own, asked, parent, context), terms))
    }
    if (own !== undefined) return Effect.fail(own)
    if (call.parent !== undefined && trace === undefined) {
      return traced(call, [asked], () => hold(call, asked, restore))
    }
    if (Duration.toMillis(terms.ttl) < shortTtl) events.ttlTooShort(key, Duration.toMillis(terms.ttl))
    const held = heldBy(context, parent, mode)
    const told = trace === undefined ? terms : Request.traced(terms, trace.traceparent)
    const claim = Request.claimOf(
      settings,
      key,
      shape,
      held === undefined ? told : Request.holding(told, namesOf(held)),
      parent && Nesting.elsewhere(parent, given)
    )
    const waiter = waiters?.get(key) ?? waiterOf(asked, startedAt)
    const look = admission.enter()
    const goOut = (isAnswered: boolean) => admission.leave(look, isAnswered)
    const asAll = shape.isLeadership ? standing : acquireContext
    const means = held === undefined && trace === undefined ? asAll : {
      ...asAll,
      ...(trace !== undefined && { trace }),
      ...(held !== undefined && { findDeadlock: (awaited: Deadlock.Awaited) => findDeadlock([awaited], held) })
    }
    const granted = acquire(means, key, claim, terms.timeout, mode, startedAt, goOut, restore)
    return Effect.matchCauseEffect(trace === undefined ? granted : Spans.untraced(granted), {
      onSuccess: (acquired): Effect.Effect<HeldLease | undefined, AcquireError> => {
        if (acquired === undefined) {
          trace?.notGranted(time.now())
          events.foundHeld(waiter)
          return Effect.undefined
        }
        const { at, claim, granted, wallClockLead } = acquired
        // The locker's timers have stopped, so nothing would notice the end of this lease.
        if (closed) {
          const cause = Cause.fail(gone(key))
          events.notGranted(waiter, cause)
          return Effect.andThen(
            withdrawals.giveUp(claim, longestGivingUp(startedAt, terms.timeout)),
            Effect.failCause(cause)
          )
        }
        const lease = new HeldLease(host, key, claim, granted, wallClockLead, parent)
        lease.callersScope = Context.getOrUndefined(context, Scope.Scope)
        renewals.add(lease)
        events.granted(lease, waiter, at)
        capped(lease, terms)
        return trace === undefined ? Effect.succeed(lease) : beginHold(trace, lease, at)
      },
      onFailure: (cause) => {
        trace?.notGranted(time.now())
        events.notGranted(waiter, cause)
        return Effect.failCause(cause)
      }
    })
  }

  /** For how long the caller of a locker that has closed waits for the end of its claim: not longer than it has time. */
  const longestGivingUp = (startedAt: number, timeout: number): number =>
    Math.min(longestRelease, Math.max(0, startedAt + timeout - time.now()))

  /** Caps how long a lease is held from now on, if its caller wants that. */
  const capped = <L extends AnyLease | LeaseGroup>(lease: L, { maxHold }: Request.Terms): L => {
    if (maxHold !== Infinity) caps.add(lease, maxHold)
    return lease
  }

  /** The locker's own cap is that of the outer call, which may have lifted it. */
  const cappedView = (view: LeaseView, terms: Request.Terms): LeaseView =>
    terms.maxHold === usual.maxHold ? view : capped(view, terms)

  const severalContext: SeveralContext = {
    store: {
      request: store.request,
      ...(given.requestAll !== undefined && {
        requestAll: (claims: ReadonlyArray<Claim>, mode: "queue" | "try") =>
          called(() => given.requestAll!(claims, mode))
      }),
      ...grouping,
      heardAt: store.heardAt
    },
    time,
    events,
    withdrawals,
    closed: () => closed ? gone("") : undefined,
    hold: ({ key }, claim, granted, wallClockLead, onLost) => {
      // Nothing has run under such a lease yet, so its loss concerns nobody.
      const waiting: LeaseHost = {
        ...host,
        onLost: (lease) => {
          renewals.remove(lease)
          onLost()
        }
      }
      const lease = new HeldLease(waiting, key, claim, granted, wallClockLead)
      renewals.add(lease)
      return lease
    },
    drop: (lease) => {
      renewals.remove(lease)
      lease.endHold(time.now())
    }
  }

  const groupHost: GroupHost = {
    time,
    release: (leases) => {
      for (const lease of leases) {
        renewals.remove(lease)
        Nesting.leave(lease)
      }
      return Effect.andThen(
        releaseLeases(withdrawals, leases),
        Effect.sync(() => {
          for (const lease of leases) if (lease.hasLeftover) fork(withdrawLeftover(lease))
        })
      )
    }
  }

  /** Requests several claims as one, and starts the renewal of their leases. See `hold`. */
  const holdAll = (
    call: Call,
    locks: ReadonlyArray<Asked>,
    restore: Restore
  ): Effect.Effect<LeaseGroup | undefined, AcquireError> => {
    const { context, mode, startedAt, trace } = call
    const parent = Nesting.innermost(context)
    const inside = parent && Nesting.elsewhere(parent, given)
    const held = heldBy(context, parent, mode)
    const entered = new Map<string, HeldLease>()
    for (const asked of locks) {
      const own = findOwn(asked, parent, context)
      if (own instanceof HeldLease) entered.set(asked.key, own)
      else if (own !== undefined) return Effect.fail(own)
    }
    const missing = locks.filter((asked) => !entered.has(asked.key))
    const wanted = missing.map(({ key, shape, terms }): Wanted => {
      if (Duration.toMillis(terms.ttl) < shortTtl) events.ttlTooShort(key, Duration.toMillis(terms.ttl))
      const told = Request.traced(terms, trace?.traceparent)
      const holding = held === undefined ? told : Request.holding(told, namesOf(held))
      return {
        key,
        name: settings.prefix + key,
        claim: () => Request.claimOf(settings, key, shape, holding, inside)
      }
    })
    const group = (leases: ReadonlyArray<HeldLease>): LeaseGroup => {
      const members = locks.map((asked) => {
        const own = entered.get(asked.key)
        return own === undefined
          ? leases.find((lease) => lease.key === asked.key)!
          : reenter(own, asked, parent, context)
      })
      const outer = Context.getOrUndefined(context, Leases)
      return capped(new LeaseGroup(groupHost, members[0]!.holder, members, outer), locks[0]!.terms)
    }
    // Where all locks are there, an option of the claim would do nothing. Otherwise it is for the others.
    if (wanted.length === 0) {
      const { reentry } = locks[0]!.terms
      return reentry instanceof InvalidLockRequest ? Effect.fail(reentry) : Effect.succeed(group([]))
    }
    if (call.parent !== undefined && trace === undefined) {
      return traced(call, missing, () => holdAll(call, locks, restore))
    }
    const waiters = waitersOf(call, missing)
    const several = new Several(severalContext, wanted, entered.size)
    const look = admission.enter()
    const goOut = (isAnswered: boolean) => admission.leave(look, isAnswered)
    const { key, terms: { timeout } } = locks[0]!
    const asOne = wanted.map(({ claim }) => claim())
      .reduce((least, one) => Duration.isLessThan(one.ttl, least.ttl) ? one : least)
    const means = {
      ...acquireContext,
      store: several,
      withdrawals: several,
      ...(trace !== undefined && { trace }),
      // While it waits for some of the locks, it holds the others.
      ...(given.waiting !== undefined && {
        findDeadlock: () => {
          const { held: own, waiting } = several.parts()
          const all = [...own, ...held ?? []]
          return waiting.length === 0 || all.length === 0 ? Effect.undefined : findDeadlock(waiting, all)
        }
      })
    }
    const granted = acquire(means, key, asOne, timeout, mode, startedAt, goOut, restore)
    return Effect.matchCauseEffect(trace === undefined ? granted : Spans.untraced(granted), {
      onSuccess: (acquired): Effect.Effect<LeaseGroup | undefined, AcquireError> => {
        if (acquired === undefined) {
          trace?.notGranted(time.now())
          for (const [key, waiter] of waiters) {
            if (key === several.refusedKey) events.foundHeld(waiter)
            else waiter.meter.forget(waiter)
          }
          return Effect.undefined
        }
        if (closed) {
          const cause = Cause.fail(gone(key))
          for (const waiter of waiters.values()) events.notGranted(waiter, cause)
          return Effect.andThen(
            several.giveUp(asOne, longestGivingUp(startedAt, timeout)),
            Effect.failCause(cause)
          )
        }
        // A lock that the caller held before may have ended during the wait, or one of the others in this very moment. Then
        // nothing has run yet, so all are asked for anew.
        const now = time.now()
        const isStill = ({ key, shape }: Asked): boolean => {
          const own = entered.get(key)
          return own === undefined || (own.check(now) && Nesting.mayReenter(own, shape, true))
        }
        if (!several.isHeld() || !locks.every(isStill)) {
          const anew = Effect.suspend(() => holdAll(call, locks, restore))
          // What the caller holds now may refuse the call before it asks.
          return untilEnd(call, Effect.andThen(several.giveUp(asOne, longestRelease), anew))
        }
        const leases = several.takeLeases()
        let outer = parent
        for (const lease of leases) {
          lease.nestIn(outer)
          outer = lease
          lease.callersScope = Context.getOrUndefined(context, Scope.Scope)
          lease.host = host
          events.granted(lease, waiters.get(lease.key)!, now)
        }
        return trace === undefined ? Effect.succeed(group(leases)) : beginHold(trace, group(leases), now)
      },
      onFailure: (cause) => {
        trace?.notGranted(time.now())
        const explained = Cause.map(cause, (error) => several.explain(error))
        for (const waiter of waiters.values()) events.notGranted(waiter, explained)
        return Effect.failCause(explained)
      }
    })
  }

  const scoped: Engine["scoped"] = (key, shape, options, mode) =>
    ask(key, shape, options, mode, (call, asked) => holdInScope((restore) => hold(call, asked, restore)))

  const scopedAll: Engine["scopedAll"] = (wants, options, mode) =>
    askAll(wants, options, mode, (call, locks) => holdInScope((restore) => holdAll(call, locks, restore)))

  const holdInScope = <L extends AnyLease | LeaseGroup>(
    hold: (restore: Restore) => Effect.Effect<L | undefined, AcquireError>
  ): Effect.Effect<L | undefined, AcquireError, Scope.Scope> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        Effect.scope,
        (scope) =>
          Effect.flatMap(hold(restore), (lease): Effect.Effect<L | undefined> => {
            if (lease === undefined) return Effect.undefined
            if (lease instanceof HeldLease) Nesting.register(lease, scope)
            else if (lease instanceof LeaseGroup) { for (const own of lease.own) Nesting.register(own, scope) }
            return keepInScope(lease, scope)
          })
      )
    )

  /** Gives a lease its own scope, so that an early release leaves no finalizer in the caller's scope. */
  const keepInScope = <L extends AnyLease | LeaseGroup>(lease: L, scope: Scope.Scope): Effect.Effect<L> => {
    lease.scope = Scope.forkUnsafe(scope)
    return Effect.as(Scope.addFinalizer(lease.scope, endOf(lease)), lease)
  }

  const endOf = (lease: AnyLease | LeaseGroup): Effect.Effect<void> =>
    lease instanceof HeldLease
      ? Effect.suspend(() => host.releaseLease(lease))
      : lease.trace === undefined
      ? lease.ended
      : Spans.untraced(lease.ended)

  const section: Engine["section"] = (key, shape, program, options, mode) =>
    ask(key, shape, options, mode, (call, asked) => {
      const service = isExclusive(shape) ? Lease : SharedLease
      return underLock((restore) => hold(call, asked, restore), service, program as Body<any, any, any>)
    })

  const sectionAll: Engine["sectionAll"] = (wants, program, options, mode) =>
    askAll(
      wants,
      options,
      mode,
      (call, locks) => underLock((restore) => holdAll(call, locks, restore), Leases, program as Body<any, any, any>)
    )

  type Body<A, E, R> = Effect.Effect<A, E, R> | ((lease: Ending) => Effect.Effect<A, E, R>)

  /**
   * Runs the program in a scope inside the lock. After the program, its scope closes, then the lease is checked once
   * more, then the lock is released.
   */
  const underLock = <A, E, R>(
    hold: (restore: Restore) => Effect.Effect<AnyLease | LeaseGroup | undefined, AcquireError>,
    service: LeaseService,
    program: Body<A, E, R>
  ): Effect.Effect<Option.Option<A>, E | AcquireError | OwnershipLost, Outside<R>> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(hold(restore), (lease) => {
        if (lease === undefined) return Effect.succeedNone
        // A service such as `Lease` is an effect that is also a function, so `isEffect` must be asked first.
        const plain = Effect.suspend(() => Effect.isEffect(program) ? program : program(lease))
        const { trace } = lease
        const body = trace === undefined
          ? plain
          : Effect.withParentSpan(plain, trace.span, { captureStackTrace: false })
        return Effect.flatMap(runSection(lease, service, body, restore), (exit) => {
          const now = time.now()
          const settled = reportLoss(lease, exit, now)
          // The lease of a mutex ends without another step.
          if (trace !== undefined) trace.exit = exit
          const released = lease instanceof HeldLease ? host.releaseLease(lease, now) : endOf(lease)
          return Effect.asSome(Effect.andThen(released, settled))
        })
      })
    )

  const records: Engine["records"] = (key, options, mode) =>
    Effect.suspend((): ReturnType<Engine["records"]> => {
      const terms = Request.parse(settings, usual, key, options, mode === "queue", "mutex")
      if (terms instanceof InvalidLockRequest) return Effect.fail(terms)
      if (closed) return Effect.fail(gone(key))
      if (given.runs === undefined) return Effect.fail(notOffered(key, "does not record runs"))
      const claim = Request.claimOf(settings, key, Request.mutex, terms, undefined)
      return Effect.succeed(new RunRecords(key, claim, given.runs, timeouts, time))
    })

  const used: Engine["used"] = (key, shape) =>
    Effect.suspend(() => {
      if (closed) return Effect.fail(gone(key))
      if (given.used === undefined) return Effect.fail(notOffered(key, "cannot tell how many permits are held"))
      const claim = Request.claimOf(settings, key, shape, usual, undefined)
      return Effect.mapError(called(() => given.used!(claim)), Request.about(key))
    })

  yield* store.losses.pipe(
    Stream.runForEach((news) =>
      Effect.sync(() => {
        const lease = renewals.find(news.id)
        if (lease === undefined) return
        if ("reason" in news) lease.lose(news.reason, time.now(), news.isOwed)
        else revocations.ask(lease, news.revocation)
      })
    ),
    Effect.catchDefect((defect) => Effect.sync(() => events.lossesBroke(defect))),
    // At once, so that it hears of the first lock too.
    Effect.forkScoped({ startImmediately: true })
  )
  // After the locker has closed, nothing would tell a holder that its lock is lost. So every lease ends now. Its claim
  // is withdrawn when the program under it has ended, or after the guard gap.
  yield* Effect.addFinalizer(() => {
    closed = true
    admission.turnAway(gone(""))
    return Effect.forEach([...renewals.all(), ...leftovers], (lease) => {
      lease.lose("Revoked", time.now())
      // The loss of another lock of its group has just ended its section, which releases it.
      if (lease.state === "released") return Effect.void
      return Effect.andThen(
        timeouts.limit(lease.idle, Duration.toMillis(lease.claim.guardGap), Effect.void),
        withdrawals.release(lease.key, lease.claim)
      )
    }, { concurrency: "unbounded", discard: true }).pipe(Effect.andThen(withdrawals.close))
  })

  const admin = new AdminCalls({
    admin: Option.getOrUndefined(yield* Effect.serviceOption(LockAdmin)),
    settings,
    time,
    timeouts,
    isClosed: () => closed
  })

  const pause = (millis: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const sleeping = fork(time.sleep(millis))
      return Effect.onInterrupt(
        Effect.asVoid(Fiber.await(sleeping)),
        () => Effect.sync(() => sleeping.interruptUnsafe())
      )
    })

  const engine: Engine = {
    settings,
    time,
    isClosed: () => closed,
    pause,
    scoped,
    section,
    scopedAll,
    sectionAll,
    records,
    used,
    admin,
    stand: (name, candidate) => meters.stand(name, candidate)
  }
  return engine
})

const refused = (cause: unknown): Renewal => ({
  _tag: "Unknown",
  error: new LockBackendError({ operation: "renew", retryable: false, cause })
})

const unansweredShrink: Renewal = {
  _tag: "Unknown",
  error: new LockBackendError({ operation: "renew", retryable: true, cause: new Error("no answer in time") })
}

/** The error for what only some stores can do. */
const notOffered = (key: string, what: string): LockBackendError =>
  new LockBackendError({ operation: "acquire", key, retryable: false, cause: new Error(`this store ${what}`) })

/**
 * Turns an error that a store's function throws into a defect of the effect, so that it is handled like any other
 * failure.
 */
const called = <A, E>(call: () => Effect.Effect<A, E>): Effect.Effect<A, E> => {
  try {
    return call()
  } catch (defect) {
    return Effect.die(defect)
  }
}

const namesOf = (leases: ReadonlyArray<HeldLease>): ReadonlyArray<string> => leases.map(({ claim }) => claim.key)

/** Milliseconds. A lock with a shorter ttl can be lost by an ordinary pause of the process. */
const shortTtl = 1_000

const engines = new WeakMap<object, Engine>()

/** Remembers the engine of a locker, so that another kind of lock can be made from that locker with `of`. */
export const register = (locker: object, engine: Engine): void => void engines.set(locker, engine)

/** The engine of a locker. A locker that a test made by hand has none. */
export const of = (locker: object): Effect.Effect<Engine> => {
  const engine = engines.get(locker)
  return engine === undefined
    ? Effect.die(new Error("this Locker was not made by a layer of effect-dlock"))
    : Effect.succeed(engine)
}
