/**
 * A `LockStore` that misbehaves when a test tells it to.
 *
 * **When to use**
 *
 * Use to test what a program does when its lock is lost, or when the backend is slow, silent or gone.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Function from "effect/Function"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { LockAdmin } from "../LockAdmin.ts"
import { LockBackendError, type LossReason } from "../LockError.ts"
import {
  type Answer,
  type Claim,
  type Gone,
  type Held,
  LockStore,
  type Loss,
  type Renewal,
  type Revocation,
  type RevocationNotice,
  type RunStore
} from "../LockStore.ts"

/**
 * The operations that a test can disturb: the calls of a store, and `wait`, in which a queued claim waits for its grant. A
 * `request` may be a `requestAll`, and a `withdraw` a `withdrawAll`. A `run` is a call of `LockStore.runs`,
 * and an `inspect`, a `revoke` or a `breakLock` one of the `LockAdmin`. They have no claims.
 *
 * @category models
 * @since 0.1.0
 */
export type Operation =
  | "request"
  | "wait"
  | "renew"
  | "withdraw"
  | "shrink"
  | "run"
  | "inspect"
  | "revoke"
  | "breakLock"

/**
 * A call that reached the store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  /** The operation of the call. */
  readonly operation: Operation
  /** The claims of the call. A `renew` has all claims that are due together, and a `request` or a `withdraw` those of one `requestAll` or `withdrawAll`. */
  readonly claims: ReadonlyArray<Claim>
  /** What the caller received: the tag of the answer, or `failed`. `undefined` if the caller has received nothing. */
  answer: string | undefined
}

/**
 * Calls or answers that the store keeps back.
 *
 * @category models
 * @since 0.1.0
 */
export interface Hold {
  /** Waits until the store keeps back the first call or answer. */
  readonly caught: Effect.Effect<void>
  /** Lets the kept calls or answers continue, and stops keeping back later ones. */
  readonly release: Effect.Effect<void>
}

/**
 * A store that a test controls.
 *
 * **Details**
 *
 * Each method decides how the later calls of an operation behave, and replaces the earlier decision for that operation.
 * With `times`, the decision counts for that many calls only.
 *
 * @category models
 * @since 0.1.0
 */
export interface FaultyLockStore {
  /** The store to give to a locker. */
  readonly store: LockStore["Service"]
  /** The `LockAdmin` to give to a locker. Absent if none was given. */
  readonly admin: LockAdmin["Service"] | undefined
  /** All calls so far, in order. The array grows. */
  readonly calls: ReadonlyArray<Call>
  /**
   * Keeps calls back before they are sent, like a network that delivers late. After the release the store executes
   * them, even if the caller has given up meanwhile. It does not execute the request of a claim that has been
   * withdrawn.
   */
  readonly holdCalls: (operation: Operation) => Effect.Effect<Hold>
  /** Executes calls and keeps their answers back. */
  readonly holdReplies: (operation: Operation) => Effect.Effect<Hold>
  /** Executes calls and loses their answers. The caller fails with a `LockBackendError` whose `retryable` is true. */
  readonly dropReplies: (operation: Operation, times?: number) => Effect.Effect<void>
  /** Fails calls with an error and does not execute them. */
  readonly fail: (operation: Operation, error?: LockBackendError, times?: number) => Effect.Effect<void>
  /** Never answers calls and does not execute them. */
  readonly hang: (operation: Operation, times?: number) => Effect.Effect<void>
  /** Answers renewals with the given answer and does not execute them. */
  readonly answerRenewals: (answer: Renewal, times?: number) => Effect.Effect<void>
  /** Sends a hint on `losses`, as a backend that pushes losses does. */
  readonly lose: (id: string, reason: LossReason) => Effect.Effect<void>
  /** Sends a notice on `losses` that the holder of a claim was asked to leave. The wrapped store knows nothing of it. */
  readonly revoke: (id: string, revocation: Revocation) => Effect.Effect<void>
  /**
   * Ends the misbehaviour of one operation, or of all operations. What `holdCalls` and `holdReplies` keep back is kept
   * until its release.
   */
  readonly heal: (operation?: Operation) => Effect.Effect<void>
}

interface Holding extends Hold {
  readonly gate: Effect.Effect<void>
  readonly caughtOne: Effect.Effect<void>
}

type Fault =
  | { readonly _tag: "HoldCalls" | "HoldReplies"; readonly hold: Holding }
  | { readonly _tag: "DropReplies" }
  | { readonly _tag: "Fail"; readonly error: LockBackendError }
  | { readonly _tag: "Hang" }
  | { readonly _tag: "Renewals"; readonly answer: Renewal }

/**
 * Wraps a store, and its `LockAdmin` if there is one. The result behaves like the wrapped store until a test calls one of its methods.
 *
 * **When to use**
 *
 * Use to see that your program does the right thing when it loses its lock. Give the wrapped store to a locker, run the
 * program to its middle, take the lock away, and check what the program leaves behind.
 *
 * **Example** (Take a lock away from a program)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Locker, LockStore, MemoryLockStore, withLock } from "effect-dlock"
 * import { FaultyLockStore } from "effect-dlock/testing"
 * import { TestClock } from "effect/testing"
 *
 * declare const myJob: Effect.Effect<void>
 *
 * const test = Effect.gen(function*() {
 *   const faulty = yield* FaultyLockStore.make(yield* MemoryLockStore.make)
 *   const locker = Locker.layer().pipe(Layer.provide(Layer.succeed(LockStore, faulty.store)))
 *   const job = yield* withLock("job", myJob, { ttl: "9 seconds" }).pipe(Effect.provide(locker), Effect.forkChild)
 *   yield* faulty.answerRenewals({ _tag: "Revoked" })
 *   yield* TestClock.adjust("3 seconds")
 *   // myJob was interrupted, and `job` failed with OwnershipLost
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  behind: LockStore["Service"],
  adminBehind?: LockAdmin["Service"]
): Effect.Effect<FaultyLockStore> =>
  Effect.map(Queue.unbounded<Loss | RevocationNotice>(), (hints) => {
    const calls: Array<Call> = []
    const faults = new Map<Operation, { readonly fault: Fault; left: number }>()
    /** The requests in flight, by the claim's id. A withdrawal sets `withdrawn` on the request of its claim. */
    const underWay = new Map<string, { withdrawn: boolean }>()

    const faultOf = (operation: Operation): Fault | undefined => {
      const entry = faults.get(operation)
      if (entry === undefined) return undefined
      if (--entry.left <= 0) faults.delete(operation)
      return entry.fault
    }

    const passing = <A>(
      operation: Operation,
      claims: ReadonlyArray<Claim>,
      send: Effect.Effect<A, LockBackendError>,
      tagOf: (answer: A) => string,
      renewals?: (answer: Renewal) => A
    ): Effect.Effect<A, LockBackendError> =>
      Effect.suspend(() => {
        const call: Call = { operation, claims, answer: undefined }
        calls.push(call)
        return Effect.onExit(disturbed(operation, send, renewals), (exit) =>
          Effect.sync(() => {
            if (Exit.isSuccess(exit)) call.answer = tagOf(exit.value)
            else if (!Exit.hasInterrupts(exit)) call.answer = "failed"
          }))
      })

    const disturbed = <A>(
      operation: Operation,
      send: Effect.Effect<A, LockBackendError>,
      renewals: ((answer: Renewal) => A) | undefined
    ): Effect.Effect<A, LockBackendError> => {
      const fault = faultOf(operation)
      switch (fault?._tag) {
        case undefined:
          return send
        case "HoldCalls":
          return Effect.forkDetach(Effect.andThen(fault.hold.gate, send), { startImmediately: true }).pipe(
            Effect.tap(fault.hold.caughtOne),
            Effect.flatMap(Fiber.join)
          )
        case "HoldReplies":
          return Effect.flatMap(
            Effect.exit(send),
            (reply) => Effect.andThen(fault.hold.caughtOne, Effect.andThen(fault.hold.gate, reply))
          )
        case "DropReplies":
          return Effect.andThen(Effect.exit(send), lost(operation, "FaultyLockStore dropped the answer"))
        case "Fail":
          return Effect.fail(fault.error)
        case "Hang":
          return Effect.never
        case "Renewals":
          return renewals === undefined ? send : Effect.sync(() => renewals(fault.answer))
      }
    }

    const requestWith = (
      claims: ReadonlyArray<Claim>,
      send: Effect.Effect<ReadonlyArray<Answer>, LockBackendError>
    ): Effect.Effect<ReadonlyArray<Answer>, LockBackendError> =>
      Effect.suspend(() => {
        const trips = claims.map(({ id }) => {
          const trip = underWay.get(id) ?? { withdrawn: false }
          underWay.set(id, trip)
          return trip
        })
        const sent = Effect.suspend(() =>
          trips.some(({ withdrawn }) => withdrawn)
            ? Effect.succeed(claims.map((): Gone => ({ _tag: "Gone" })))
            : send
        )
        const tags = (answers: ReadonlyArray<Answer>): string => answers.map(tag).join()
        return Effect.map(passing("request", claims, sent, tags), (answers) =>
          answers.map((answer, index): Answer =>
            answer._tag === "Queued"
              ? { ...answer, granted: passing("wait", [claims[index]!], answer.granted, tag) }
              : answer
          ))
      })

    const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
      Effect.map(
        requestWith([claim], Effect.map(behind.request(claim, mode), (answer) => [answer])),
        ([answer]) => answer!
      )

    const requestAll = (claims: ReadonlyArray<Claim>, mode: "queue" | "try") =>
      requestWith(claims, Effect.suspend(() => behind.requestAll!(claims, mode)))

    const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
      passing(
        "renew",
        held.map(({ claim }) => claim),
        behind.renew(held),
        (answers) => answers.map(tag).join(),
        (answer) => held.map(() => answer)
      ).pipe(Effect.catch((error) => Effect.succeed(held.map((): Renewal => ({ _tag: "Unknown", error })))))

    const shrink = (held: Held, permits: number): Effect.Effect<Renewal> =>
      passing("shrink", [held.claim], Effect.suspend(() => behind.shrink!(held, permits)), tag, (answer) => answer)
        .pipe(
          Effect.catch((error) => Effect.succeed<Renewal>({ _tag: "Unknown", error }))
        )

    const runs = ({ begin, end, find }: RunStore): RunStore => ({
      find: (claim, period) => passing("run", [claim], find(claim, period), ({ isDue }) => isDue ? "due" : "done"),
      begin: (held, period, counts) => passing("run", [held.claim], begin(held, period, counts), Function.identity),
      end: (held, period, run) => passing("run", [held.claim], end(held, period, run), Function.identity)
    })

    const withdrawWith = <A>(
      claims: ReadonlyArray<Claim>,
      send: Effect.Effect<A, LockBackendError>,
      tagOf: (answer: A) => string
    ): Effect.Effect<A, LockBackendError> => {
      const sent = Effect.suspend(() => {
        for (const { id } of claims) {
          const trip = underWay.get(id)
          if (trip !== undefined) trip.withdrawn = true
        }
        return send
      })
      return passing("withdraw", claims, sent, tagOf)
    }

    const withdraw = (claim: Claim) =>
      withdrawWith([claim], Effect.suspend(() => behind.withdraw(claim)), (answer) => answer)

    const withdrawAll = (claims: ReadonlyArray<Claim>) =>
      withdrawWith(
        claims,
        Effect.suspend(() => behind.withdrawAll!(claims)),
        (answers) => answers.map((one) => typeof one === "string" ? one : "failed").join()
      ).pipe(Effect.catch((error) => Effect.succeed(claims.map(() => error))))

    const adminOver = ({ breakLock, inspect, revoke, ...rest }: LockAdmin["Service"]): LockAdmin["Service"] => ({
      ...rest,
      inspect: (on) => passing("inspect", [], Effect.suspend(() => inspect(on)), ({ kind }) => kind ?? "free"),
      revoke: (on, request) => passing("revoke", [], Effect.suspend(() => revoke(on, request)), Function.identity),
      breakLock: (on, token) => passing("breakLock", [], Effect.suspend(() => breakLock(on, token)), String)
    })

    const hold = (_tag: "HoldCalls" | "HoldReplies") => (operation: Operation): Effect.Effect<Hold> =>
      Effect.sync(() => {
        const gate = Latch.makeUnsafe()
        const first = Deferred.makeUnsafe<void>()
        const holding: Holding = {
          gate: gate.await,
          caughtOne: Effect.asVoid(Deferred.succeed(first, undefined)),
          caught: Deferred.await(first),
          release: Effect.suspend(() => {
            const now = faults.get(operation)?.fault
            if (now !== undefined && "hold" in now && now.hold === holding) faults.delete(operation)
            return Effect.asVoid(gate.open)
          })
        }
        faults.set(operation, { fault: { _tag, hold: holding }, left: Infinity })
        return holding
      })

    const set = (operation: Operation, fault: Fault, times = Infinity): Effect.Effect<void> =>
      Effect.sync(() => {
        faults.set(operation, { fault, left: times })
      })

    return {
      store: LockStore.of({
        ...(behind.backend !== undefined && { backend: behind.backend }),
        request,
        renew,
        withdraw,
        ...(behind.requestAll !== undefined && { requestAll }),
        ...(behind.withdrawAll !== undefined && { withdrawAll }),
        ...(behind.groupOf !== undefined && { groupOf: (claim: Claim) => behind.groupOf!(claim) }),
        ...(behind.shrink !== undefined && { shrink }),
        ...(behind.runs !== undefined && { runs: runs(behind.runs) }),
        ...(behind.used !== undefined && { used: (claim: Claim) => behind.used!(claim) }),
        ...(behind.contended !== undefined && { contended: (held: Held) => behind.contended!(held) }),
        ...(behind.waiting !== undefined && { waiting: behind.waiting }),
        // The wrapper offers neither `bounded` nor `heardAt`, even if the wrapped store does. A call that hangs here
        // must be limited by the core, and must look like a silent backend.
        losses: Stream.merge(behind.losses, Stream.fromQueue(hints))
      }),
      admin: adminBehind && adminOver(adminBehind),
      calls,
      holdCalls: hold("HoldCalls"),
      holdReplies: hold("HoldReplies"),
      dropReplies: (operation, times) => set(operation, { _tag: "DropReplies" }, times),
      fail: (operation, error, times) =>
        set(operation, {
          _tag: "Fail",
          error: error ?? backendError(operation, "FaultyLockStore was told to fail this call")
        }, times),
      hang: (operation, times) => set(operation, { _tag: "Hang" }, times),
      answerRenewals: (answer, times) => set("renew", { _tag: "Renewals", answer }, times),
      lose: (id, reason) => Effect.asVoid(Queue.offer(hints, { id, reason })),
      revoke: (id, revocation) => Effect.asVoid(Queue.offer(hints, { id, revocation })),
      heal: (operation) =>
        Effect.sync(() => {
          if (operation === undefined) faults.clear()
          else faults.delete(operation)
        })
    }
  })

const tag = (answer: { readonly _tag: string }): string => answer._tag

const lost = (operation: Operation, why: string) => Effect.fail(backendError(operation, why))

const reported = {
  request: "acquire",
  wait: "wait",
  renew: "renew",
  withdraw: "release",
  shrink: "renew",
  run: "acquire",
  inspect: "inspect",
  revoke: "revoke",
  breakLock: "break"
} as const satisfies Record<Operation, LockBackendError["operation"]>

const backendError = (operation: Operation, why: string): LockBackendError =>
  new LockBackendError({
    operation: reported[operation],
    retryable: true,
    cause: new Error(why)
  })
