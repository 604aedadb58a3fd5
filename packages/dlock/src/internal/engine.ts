import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  type AcquireError,
  type CapacityMismatch,
  InvalidLockRequest,
  LockAlreadyHeld,
  LockBackendError,
  type OwnershipLost
} from "../LockError.ts"
import type { LockOptions } from "../LockOptions.ts"
import { LockStore } from "../LockStore.ts"
import { acquire, throughAdmission } from "./acquire.ts"
import { Admission } from "./admission.ts"
import { HeldLease, type LeaseHost } from "./lease/heldLease.ts"
import * as Nesting from "./lease/nesting.ts"
import { releaseLease, Withdrawals } from "./lease/release.ts"
import { Renewals } from "./lease/renewals.ts"
import { type Outside, reportLoss, runSection } from "./lease/section.ts"
import * as Request from "./options/request.ts"
import type { Settings } from "./options/settings.ts"
import { CallTimeouts, type Restore } from "./scheduling/callTimeouts.ts"
import * as Time from "./scheduling/time.ts"
import { Events } from "./telemetry/events.ts"
import { Log } from "./telemetry/log.ts"
import { Outage } from "./telemetry/outage.ts"
import { StoreRoom } from "./telemetry/storeRoom.ts"
import { longestRelease } from "./timing.ts"

/** How many permits a claim needs, and how many its key has. */
export interface Shape {
  readonly kind: "mutex" | "semaphore" | "readWrite"
  readonly permits: number
  readonly capacity: number
}

type Failure = AcquireError | CapacityMismatch

/**
 * The part that all kinds of lock share. It holds a claim of any shape, in a scope or for a section. In the mode `try`
 * it returns `undefined` or `Option.none` if there is no room.
 */
export interface Engine {
  readonly scoped: (
    key: string,
    shape: Shape,
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<HeldLease | undefined, Failure, Scope.Scope>
  readonly section: <A, E, R>(
    key: string,
    shape: Shape,
    program: Program<A, E, R>,
    options: LockOptions | undefined,
    mode: "queue" | "try"
  ) => Effect.Effect<Option.Option<A>, E | Failure | OwnershipLost, Outside<R>>
}

/** The program of a section: an effect, or a function that takes the lease. */
export type Program<A, E, R> = Effect.Effect<A, E, R> | ((lease: HeldLease) => Effect.Effect<A, E, R>)

/**
 * Makes an engine over the store in the context. It takes each claim through all its steps: request, grant, renewals,
 * release.
 */
export const make = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<
  Engine,
  never,
  LockStore | Scope.Scope
> {
  const given = yield* LockStore
  // A member of the contract that is forgotten here is a compile error, also an optional one.
  const store: Omit<Required<LockStore["Service"]>, "bounded" | "telemetry"> = {
    request: (claim, mode) => called(() => given.request(claim, mode)),
    renew: (held) => called(() => given.renew(held)),
    withdraw: (claim) => called(() => given.withdraw(claim)),
    heardAt: (claim) => given.heardAt?.(claim),
    losses: given.losses
  }
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
  const events = new Events(log, outage, time, fork)
  yield* Effect.addFinalizer(() => Effect.sync(() => events.close()))
  const withdrawals = new Withdrawals({ store, time, timeouts, events, fork: run })
  const admission = new Admission(time, events, fork)
  const acquireContext = { store, time, timeouts, admission, withdrawals, events }
  const renewals = new Renewals(time, timeouts, store, events, log, admission, fork)
  const usual = Request.usual(settings)
  let closed = false
  /** Lost leases whose claims still have to be withdrawn. */
  const leftovers = new Set<HeldLease>()

  const host: LeaseHost = {
    time,
    events,
    fork: run,
    store: given,
    onLost: (lease, loss) => {
      renewals.remove(lease)
      Nesting.leave(lease)
      events.lost(loss)
      if (lease.hasLeftover) leftovers.add(lease)
      // If the backend has not said that the claim is gone, it may still keep it. Withdraw the claim after the guard
      // gap, which the holder has for its clean-up, so that others need not wait for the ttl. Otherwise yield once, so
      // that the fibers that observe the loss run before the scope closes.
      const gap = lease.hasLeftover ? time.sleep(Duration.toMillis(lease.claim.guardGap)) : Effect.yieldNow
      fork(Effect.andThen(gap, closeAfterLoss(lease)))
    },
    releaseLease: (lease) => {
      renewals.remove(lease)
      Nesting.leave(lease)
      const given = releaseLease(withdrawals, lease)
      // The release does not wait for this withdrawal: the backend was silent a moment ago and may still be.
      return lease.hasLeftover ? Effect.andThen(given, Effect.sync(() => void fork(withdrawLeftover(lease)))) : given
    }
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

  /** One call: the key, the options, and when it began. */
  interface Asked {
    readonly key: string
    readonly mode: "queue" | "try"
    readonly terms: Request.Terms
    readonly startedAt: number
    readonly context: Context.Context<never>
  }

  /**
   * Runs `inside` at once if the locker admits the call, or when its turn comes. Errors that need no backend are
   * reported before the wait. While a call waits, only its fiber and this record are kept.
   */
  const ask = <A, E, R>(
    key: string,
    options: LockOptions | undefined,
    mode: "queue" | "try",
    inside: (asked: Asked) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | Failure, R> =>
    Effect.withFiber(({ context }): Effect.Effect<A, E | Failure, R> => {
      const startedAt = time.now()
      const terms = Request.parse(settings, usual, key, options, mode === "queue")
      if (terms instanceof InvalidLockRequest) return Effect.fail(terms)
      const asked = { key, mode, terms, startedAt, context }
      if (admission.isOpen(startedAt, terms.timeout)) return inside(asked)
      const refusal = refuse(key, Nesting.innermost(context), context)
      if (refusal !== undefined) return Effect.fail(refusal)
      return throughAdmission(acquireContext, key, mode, startedAt, terms.timeout, inside(asked))
    })

  const refuse = (
    key: string,
    parent: HeldLease | undefined,
    context: Context.Context<never>
  ): LockBackendError | LockAlreadyHeld | undefined => {
    if (closed) return gone(key)
    const already = Nesting.alreadyHeld(parent, context, given, settings.prefix + key)
    return already && new LockAlreadyHeld({ key, fencingToken: already.fencingToken })
  }

  /**
   * Requests the claim and starts the renewal of its lease. It must run in an uninterruptible region, so that a granted
   * lease reaches its caller before an interruption can stop anything.
   */
  const hold = (
    { context, key, mode, startedAt, terms }: Asked,
    shape: Shape,
    restore: Restore
  ): Effect.Effect<HeldLease | undefined, Failure> => {
    const parent = Nesting.innermost(context)
    const refusal = refuse(key, parent, context)
    if (refusal !== undefined) return Effect.fail(refusal)
    if (Duration.toMillis(terms.ttl) < shortTtl) events.ttlTooShort(key, Duration.toMillis(terms.ttl))
    const claim = Request.claimOf(settings, key, shape, terms, parent && Nesting.elsewhere(parent, given))
    const look = admission.enter()
    const goOut = (isAnswered: boolean) => admission.leave(look, isAnswered)
    const granted = acquire(acquireContext, key, claim, terms.timeout, mode, startedAt, goOut, restore)
    return Effect.matchCauseEffect(granted, {
      onSuccess: (acquired): Effect.Effect<HeldLease | undefined, Failure> => {
        if (acquired === undefined) {
          events.foundHeld(key, startedAt)
          return Effect.undefined
        }
        const { claim, granted, wallClockLead } = acquired
        // The locker's timers have stopped, so nothing would notice the end of this lease.
        if (closed) return Effect.andThen(withdrawals.giveUp(claim, longestRelease), Effect.fail(gone(key)))
        const lease = new HeldLease(host, key, claim, granted, wallClockLead, parent)
        renewals.add(lease)
        events.granted(key, lease.fencingToken, startedAt, lease.grantedAt)
        return Effect.succeed(lease)
      },
      onFailure: (cause) => {
        events.notGranted(key, Option.getOrUndefined(Cause.findErrorOption(cause)), startedAt)
        return Effect.failCause(cause)
      }
    })
  }

  const scoped: Engine["scoped"] = (key, shape, options, mode) =>
    ask(key, options, mode, (asked) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          Effect.scope,
          (scope) =>
            Effect.flatMap(hold(asked, shape, restore), (lease) => {
              if (lease === undefined) return Effect.undefined
              Nesting.register(lease, scope)
              // The lease gets its own scope, so that an early release leaves no finalizer in the caller's scope.
              lease.scope = Scope.forkUnsafe(scope)
              return Effect.as(
                Scope.addFinalizer(lease.scope, Effect.suspend(() => host.releaseLease(lease))),
                lease
              )
            })
        )
      ))

  /**
   * Runs the program in a scope inside the lock. After the program, its scope closes, then the lease is checked once
   * more, then the lock is released.
   */
  const section: Engine["section"] = (key, shape, program, options, mode) =>
    ask(
      key,
      options,
      mode,
      (asked) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(hold(asked, shape, restore), (lease) => {
            if (lease === undefined) return Effect.succeedNone
            // A service such as `Lease` is an effect that is also a function, so `isEffect` must be asked first.
            const body = Effect.suspend(() => Effect.isEffect(program) ? program : program(lease))
            return Effect.flatMap(runSection(lease, body, restore), (exit) => {
              const settled = reportLoss(lease, exit)
              return Effect.asSome(Effect.andThen(host.releaseLease(lease), settled))
            })
          })
        )
    )

  yield* store.losses.pipe(
    Stream.runForEach((loss) => Effect.sync(() => renewals.find(loss.id)?.lose(loss.reason, time.now(), loss.isOwed))),
    Effect.catchDefect((defect) => Effect.sync(() => events.lossesBroke(defect))),
    Effect.forkScoped
  )
  // After the locker has closed, nothing would tell a holder that its lock is lost. So every lease ends now. Its claim
  // is withdrawn when the program under it has ended, or after the guard gap.
  yield* Effect.addFinalizer(() => {
    closed = true
    admission.turnAway(gone(""))
    return Effect.forEach([...renewals.all(), ...leftovers], (lease) => {
      lease.lose("Revoked", time.now())
      return Effect.andThen(
        timeouts.limit(lease.idle, Duration.toMillis(lease.claim.guardGap), Effect.void),
        withdrawals.release(lease.key, lease.claim)
      )
    }, { concurrency: "unbounded", discard: true }).pipe(Effect.andThen(withdrawals.close))
  })

  return { scoped, section }
})

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

/** Milliseconds. A lock with a shorter ttl can be lost by an ordinary pause of the process. */
const shortTtl = 1_000

const engines = new WeakMap<object, Engine>()

/** Remembers the engine of a locker, so that another kind of lock can be made from that locker with `of`. */
export const register = (locker: object, engine: Engine): void => void engines.set(locker, engine)

/** The engine of a locker. `undefined` for a locker that a test made by hand. */
export const of = (locker: object): Engine | undefined => engines.get(locker)
