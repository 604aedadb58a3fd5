import type { LockAdmin, LockStore } from "effect-dlock"
import type { LockState } from "effect-dlock/LockAdmin"
import type { Answer, Claim, Granted } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { Port } from "../../packages/dlock-etcd/src/internal/client/port.ts"
import { RequestBatcher } from "../../packages/dlock-etcd/src/internal/client/requestBatcher.ts"
import { type Deletion, Watches } from "../../packages/dlock-etcd/src/internal/client/watches.ts"
import type { Operation } from "../../packages/dlock-etcd/src/internal/protocol/operation.ts"
import { Revocations as EtcdRevocations } from "../../packages/dlock-etcd/src/internal/store/admin/revocations.ts"
import { Leases } from "../../packages/dlock-etcd/src/internal/store/leases/leases.ts"
import { Liveness } from "../../packages/dlock-etcd/src/internal/store/leases/liveness.ts"
import { AskingOrder } from "../../packages/dlock-etcd/src/internal/store/queue/askingOrder.ts"
import { LocalQueue } from "../../packages/dlock-etcd/src/internal/store/queue/localQueue.ts"
import { WaitingPlaces } from "../../packages/dlock-etcd/src/internal/store/queue/waitingPlaces.ts"
import { Registry } from "../../packages/dlock-etcd/src/internal/store/registry.ts"
import { TrackedClaim } from "../../packages/dlock-etcd/src/internal/store/trackedClaim.ts"
import { Term } from "../../packages/dlock/src/internal/leader/candidate.ts"
import { ExclusiveView } from "../../packages/dlock/src/internal/lease/exclusiveView.ts"
import { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import { Several } from "../../packages/dlock/src/internal/several.ts"
import type { BackendName } from "./backendName.ts"
import type { Rule } from "./checker.ts"
import { doubtsRefusals, trustsEvents, trustsWatchNames } from "./etcd/ports.ts"
import type { EtcdFlaws } from "./etcd/server.ts"
import type { Process } from "./process.ts"
import type { RedisFlaws } from "./redis/server.ts"

type Store = LockStore["Service"]
type Admin = LockAdmin["Service"]

/**
 * The library with one rule broken, by a wrapper around its parts or by a server that misbehaves. The checker must
 * catch each: that shows that it can see.
 */
export interface Variant {
  readonly name: string
  /** The backend that has this variant, if not both. */
  readonly on?: BackendName
  /**
   * The first seed to try, shortly before one that catches it, if such seeds are rare. A change of the library may change
   * what a seed does. Then the search goes on from there.
   */
  readonly from?: number | { readonly [backend in BackendName]?: number }
  /** It takes tens of thousands of seeds to catch it: the tests do not search for it. */
  readonly isRare?: boolean
  /** Only these rules may catch it, where others would catch a side effect. */
  readonly rules?: ReadonlySet<Rule>
  readonly store?: (store: Store, process: Process) => Store
  readonly admin?: (admin: Admin) => Admin
  readonly redis?: RedisFlaws
  readonly etcd?: EtcdFlaws
  /** Changes the port to etcd that the store gets. */
  readonly port?: (port: Port) => Port
  /** Changes code that all worlds share; returns the function that undoes it. */
  readonly install?: () => () => void
}

/** Changes every grant that a store reports. */
const withGrants = (store: Store, change: (granted: Granted) => Granted): Store => {
  const one = <A extends Answer>(answer: A): A | Granted => answer._tag === "Granted" ? change(answer) : answer
  return {
    ...store,
    request: (claim, mode) =>
      Effect.map(
        store.request(claim, mode),
        (answer) => answer._tag === "Queued" ? { ...answer, granted: Effect.map(answer.granted, one) } : one(answer)
      )
  }
}

/** No lease ever ends at its deadline. */
const withoutDeadline = (): () => void => {
  const own = Object.getOwnPropertyDescriptor(HeldLease.prototype, "deadline")!
  Object.defineProperty(HeldLease.prototype, "deadline", { ...own, get: () => Infinity })
  return () => Object.defineProperty(HeldLease.prototype, "deadline", own)
}

/** A confirmation counts from the moment of the answer. */
const fromReply = (store: Store, { clock }: Process): Store => ({
  ...withGrants(store, (granted) => ({ ...granted, confirmedAt: clock.monotonicTimeNanosUnsafe() })),
  renew: (held) =>
    Effect.map(
      store.renew(held),
      (answers) =>
        answers.map((answer) =>
          answer._tag === "Confirmed" ? { ...answer, confirmedAt: clock.monotonicTimeNanosUnsafe() } : answer
        )
    )
})

const twiceTheTtl = (store: Store): Store =>
  withGrants(store, (granted) => ({ ...granted, ttl: Duration.times(granted.ttl, 2) }))

/** Every token is the same. The store itself still uses the right ones. */
const constantToken = (store: Store): Store => {
  const tokens = new Map<string, bigint>()
  const hide = (id: string, granted: Granted): Granted => {
    tokens.set(id, granted.fencingToken)
    return { ...granted, fencingToken: 1n }
  }
  return {
    ...store,
    request: (claim, mode) => withGrants(store, (granted) => hide(claim.id, granted)).request(claim, mode),
    renew: (held) =>
      store.renew(held.map(({ claim, fencingToken }) => ({
        claim,
        fencingToken: tokens.get(claim.id) ?? fencingToken
      })))
  }
}

/** A claim that is interrupted before its grant is not withdrawn. */
const withoutCleanUp = (store: Store): Store => {
  const granted = new Set<string>()
  return {
    ...store,
    request: (claim, mode) =>
      withGrants(store, (answer) => {
        granted.add(claim.id)
        return answer
      }).request(claim, mode),
    withdraw: (claim) => granted.has(claim.id) ? store.withdraw(claim) : Effect.succeed("cancelled")
  }
}

/** Changes what the store is asked for. */
const withClaims = (store: Store, change: (claim: Claim) => Claim): Store => ({
  ...store,
  request: (claim, mode) => store.request(change(claim), mode)
})

/** Each claim of a semaphore is for one permit, however many its caller uses. */
const countsOne = (store: Store): Store =>
  withClaims(store, (claim) => claim.kind === "semaphore" ? { ...claim, permits: 1 } : claim)

/** A writer is let in as a reader is. */
const writesAsReader = (store: Store): Store =>
  withClaims(store, (claim) => claim.kind === "readWrite" ? { ...claim, permits: 1 } : claim)

/** Each process of a roll-out asks for the larger capacity. */
const largestCapacity = (store: Store): Store =>
  withClaims(store, (claim) => claim.kind === "semaphore" ? { ...claim, capacity: Math.max(4, claim.capacity) } : claim)

/** A writer that lets readers in gives up its whole claim. */
const downgradesToNothing = (store: Store, { clock }: Process): Store => ({
  ...store,
  shrink: ({ claim }) => {
    const confirmedAt = clock.monotonicTimeNanosUnsafe()
    return Effect.match(store.withdraw(claim), {
      onFailure: (error) => ({ _tag: "Unknown", error }) as const,
      onSuccess: () => ({ _tag: "Confirmed", confirmedAt }) as const
    })
  }
})

/** Replaces a method of a class, also a private one; returns the function that undoes it. */
const replace = (
  prototype: object,
  name: string,
  // oxlint-disable-next-line typescript/no-explicit-any
  by: (own: (...args: Array<any>) => any) => (this: any, ...args: Array<any>) => unknown
): () => void => {
  const own = Object.getOwnPropertyDescriptor(prototype, name)!
  Object.defineProperty(prototype, name, { ...own, value: by(own.value) })
  return () => void Object.defineProperty(prototype, name, own)
}

/**
 * A holder hands over to the next claim of its process without checking that its lease lives and that it has heard of
 * all deletions.
 */
const handsOverBlindly = (): () => void => {
  const blindly = (own: () => unknown) => {
    const after = [
      replace(Leases.prototype, "isFresh", () => () => true),
      replace(Liveness.prototype, "isStill", () => () => true)
    ]
    const result = own()
    after.forEach((undo) => undo())
    return result
  }
  const all = [
    replace(LocalQueue.prototype, "handOver", (own) =>
      function(place) {
        const { heardFrom } = this
        this.heardFrom = undefined
        const successor = blindly(() => own.call(this, place))
        this.heardFrom ??= heardFrom
        return successor
      }),
    replace(LocalQueue.prototype, "letSuccessorIn", (own) =>
      function() {
        blindly(() => own.call(this))
      })
  ]
  return () => all.forEach((undo) => undo())
}

/**
 * A withdrawal goes in one batch with the request of the same claim, and neither sees the other's effect. For that to
 * happen, a request must still be sent after its caller gave up, and the withdrawal must not wait for it; so this
 * variant changes both. Such a withdrawal also leaves a needless tombstone, which is a side effect here.
 */
const batchesWithdrawals = (): () => void => {
  let number = 0
  const all = [
    replace(Registry.prototype, "track", (own) =>
      function(claim) {
        return Object.defineProperty(own.call(this, claim), "underWay", { get: () => 0, set: () => {} })
      }),
    replace(RequestBatcher.prototype, "run", (own) =>
      function(operation: Operation) {
        const run: ReturnType<RequestBatcher["run"]> = own.call(this, { ...operation, claim: String(number++) })
        return operation.urgency === "enter" ? Effect.flatMap(Effect.forkDetach(run), Fiber.join) : run
      })
  ]
  return () => all.forEach((undo) => undo())
}

/** In a batch requests go before withdrawals. */
const requestsFirst = (): () => void =>
  replace(RequestBatcher.prototype, "go", (own) =>
    function(members) {
      return own.call(this, members.toReversed())
    })

/** The deletion of an earlier claim under a key ends the claim that has the key now. */
const appliesOldDeletions = (): () => void =>
  replace(LocalQueue.prototype, "takeDeletions", (own) =>
    function(deletions: ReadonlyArray<Deletion>) {
      return own.call(this, deletions.map(({ key }) => ({ key, revision: 1n << 62n })))
    })

/** An earlier claim under a key is taken for the claim that has the key now. */
const takesOldForNew = (): () => void =>
  replace(LocalQueue.prototype, "queuedAt", () =>
    function(place) {
      return this.byKey.get(place.key)
    })

/** The answer to its own deletion is applied before the events that came before it. */
const appliesOwnDeletionsEarly = (): () => void =>
  replace(LocalQueue.prototype, "noteWithdrawn", (own) =>
    function(key, revision) {
      if (revision === undefined) own.call(this, key, revision)
      else this.takeDeletions([{ key, revision }])
    })

/** A read that lacks some claims is taken for a complete one. */
const trustsPartialReads = (): () => void =>
  replace(LocalQueue.prototype, "foresee", () =>
    function(one) {
      this.remove(one)
    })

/** An event that a proxy sent to the wrong watch counts as if the watch had seen all events before it. */
const trustsStrayEvents = (): () => void =>
  replace(Watches.prototype, "add", (own) =>
    function(target, after, onDelete, ...others) {
      return own.call(this, target, after, (deletions: unknown) => onDelete(deletions, false), ...others)
    })

/** A waiter far from the head takes the end of the claim that it watches for its own turn, without a check. */
const skipsCheckOfFarWaiter = (): () => void =>
  replace(LocalQueue.prototype, "approach", () =>
    function() {
      if (this.waiting.first !== undefined) this.takeTurn(this.waiting.first)
    })

/** Claims of one process are granted in the order in which the server executed them. */
const grantsInServerOrder = (): () => void => replace(WaitingPlaces.prototype, "order", () => () => {})

/** Claims of one process are granted in the order in which it received their places. */
const grantsInAnswerOrder = (): () => void => replace(AskingOrder.prototype, "isAwaited", () => () => false)

/** A claim that exchanges places takes the unanswered requests of its old place along. */
const exchangesUnanswered = (): () => void =>
  replace(TrackedClaim.prototype, "exchangePlaces", (exchange) =>
    function(this: TrackedClaim, other: TrackedClaim) {
      exchange.call(this, other)
      const { unanswered } = this.place
      this.place.unanswered = other.place.unanswered
      other.place.unanswered = unanswered
    })

/** What the watch on held claims reports before a claim's answer comes is not kept. */
const forgetsEarlyDeletions = (): () => void =>
  replace(Registry.prototype, "noteDeleted", (own) =>
    function(this: Registry, key: string, revision: bigint) {
      if (this.at(key)?.created !== undefined) own.call(this, key, revision)
    })

/** Several locks are asked for one after the other, in the order in which the caller names them. */
const asksOneByOne = (store: Store): Store => ({
  ...store,
  requestAll: (claims, mode) => Effect.forEach(claims, (claim) => store.request(claim, mode))
})

/** A job that was due before its lock was granted is not asked for again under the lock. */
const asksBeforeTheLock = (store: Store): Store => ({
  ...store,
  runs: { ...store.runs!, begin: () => Effect.succeed("due") }
})

/** A run that counts from its start is recorded when it has succeeded. */
const recordsStartAtTheEnd = ({ runs, ...store }: Store): Store => ({
  ...store,
  runs: {
    ...runs!,
    begin: (held, period) => runs!.begin(held, period, "success"),
    end: (held, period, run) => runs!.end(held, period, { ...run, counts: "success" })
  }
})

/** When several locks are given up, the first one is not withdrawn. */
const keepsFirstOfSeveral = (): () => void =>
  replace(
    Several.prototype,
    "abandon",
    (own) =>
      function(this: unknown, attempt: { readonly members: ReadonlyArray<unknown> }, millis: number) {
        return own.call(
          this,
          { ...attempt, members: attempt.members.slice(attempt.members.length > 1 ? 1 : 0) },
          millis
        )
      }
  )

/** The end of a section that re-entered withdraws the claim, which the outer section still relies on. */
const releasesReentered = (): () => void =>
  replace(ExclusiveView.prototype, "onRelease", (own) =>
    function(this: ExclusiveView) {
      own.call(this)
      const { claim, host } = this.outer
      host.fork(Effect.ignore((host.store as Store).withdraw(claim)))
    })
/** Holders never hear that others wait. */
const neverTold = (store: Store): Store => ({ ...store, contended: () => Effect.never })

/** Holders hear that others wait whenever they ask. */
const alwaysTold = (store: Store): Store => ({ ...store, contended: () => Effect.void })

/** Holders on etcd look once, and watch nothing. */
const neverWatchesForOthers = (port: Port): Port => ({
  ...port,
  watch: (listeners) =>
    Effect.map(port.watch(listeners), (stream) => ({
      ...stream,
      send: (request) => {
        const { filters } = (request.create_request ?? {}) as { readonly filters?: ReadonlyArray<string> }
        stream.send(
          filters?.includes("Nodelete") === true
            ? {
              create_request: { ...request.create_request, key: Buffer.from("nothing"), range_end: undefined } as never
            }
            : request
        )
      }
    }))
})

/** A lock is released at its cap, before its program has ended. */
const releasesAtCap = (): () => void =>
  replace(
    HeldLease.prototype,
    "outstay",
    (own) =>
      function(this: HeldLease, now: number) {
        own.call(this, now)
        this.host.fork(this.host.releaseLease(this))
      }
  )

/** After its cap a claim is renewed until its program has ended, however long that takes. */
const renewsForEver = (): () => void => replace(HeldLease.prototype, "stopKeeping", () => () => {})

/** After its cap a claim is withdrawn as soon as the guard gap is over. */
const withdrawsAfterGap = (): () => void =>
  replace(
    HeldLease.prototype,
    "outstay",
    () =>
      function(this: HeldLease, now: number) {
        this.lose("MaxHold", now, true)
      }
  )

/** A claim is released at the end of the grace, before its program has ended. */
const releasesRevoked = (): () => void =>
  replace(
    HeldLease.prototype,
    "revoke",
    (own) =>
      function(this: HeldLease, now: number, revoker: unknown) {
        own.call(this, now, revoker)
        this.host.fork(this.host.releaseLease(this))
      }
  )

/** A claim is renewed after the grace of its holder, and the store lets it. */
const renewsRevoked = (): () => void => {
  const own = Object.getOwnPropertyDescriptor(HeldLease.prototype, "isRunningOut")!
  Object.defineProperty(HeldLease.prototype, "isRunningOut", { ...own, get: () => false })
  const undo = [
    () => Object.defineProperty(HeldLease.prototype, "isRunningOut", own),
    replace(EtcdRevocations.prototype, "isForbidden", () => () => false),
    replace(HeldLease.prototype, "stopKeeping", () => () => {})
  ]
  return () => undo.forEach((one) => one())
}

/** Holders are told of a revocation only when they renew. */
const tellsAtRenewal = (store: Store): Store => ({
  ...store,
  losses: Stream.filter(store.losses, (news) => !("revocation" in news))
})

/** Whatever token is named, who holds the lock now is asked to leave. */
const ignoresToken = (admin: Admin): Admin => ({
  ...admin,
  revoke: (on, request) =>
    Effect.flatMap(
      admin.inspect(on),
      ({ holders: [first] }) => admin.revoke(on, { ...request, token: first?.token ?? request.token })
    )
})

/** A leader that steps down releases its lock before its program has ended. */
const releasesBeforeTheEnd = (): () => void =>
  replace(
    Term.prototype,
    "stepDown",
    (own) =>
      function(this: Term, why: string) {
        own.call(this, why)
        this.lease.host.fork(this.lease.host.releaseLease(this.lease))
      }
  )

/** A look at a lock that nobody holds tells of the last holder. */
const missesNobody = (admin: Admin): Admin => {
  const last = new Map<string, LockState>()
  return {
    ...admin,
    inspect: (on) =>
      Effect.map(admin.inspect(on), (state) => {
        if (state.holders.length > 0) last.set(on.key, state)
        return last.get(on.key) ?? state
      })
  }
}

/** A look does not tell when a holder expires. */
const hidesExpiry = (admin: Admin): Admin => ({
  ...admin,
  inspect: (on) =>
    Effect.map(admin.inspect(on), (state) => ({
      ...state,
      holders: state.holders.map((holder) => ({ ...holder, expiresIn: undefined }))
    }))
})

/** Of a server that answers requests for watches in any order, several are asked for at once. */
const requestsTogether = (): () => void => replace(Watches.prototype, "mustWait", () => () => false)

/** Whether this backend has a variant. */
export const runsOn = (backend: BackendName) => ({ on = backend }: Variant): boolean => on === backend

/** What must be found by the harm that it does, and not by the sum that is wrong. */
const byRule = (rule: Rule): ReadonlySet<Rule> => new Set([rule])

export const variants: ReadonlyArray<Variant> = [
  { name: "no-deadline", install: withoutDeadline },
  { name: "deadline-from-reply", store: fromReply },
  { name: "deadline-from-write", on: "redis", redis: { countsFromWritten: true } },
  { name: "twice-the-ttl", store: twiceTheTtl },
  { name: "unconditional-delete", redis: { deletesBlindly: true }, etcd: { deletesBlindly: true } },
  { name: "renewal-creates", redis: { renewalCreates: true }, etcd: { renewalCreates: true } },
  { name: "constant-token", store: constantToken },
  { name: "notification-dropped", redis: { neverNotifies: true }, etcd: { neverNotifies: true } },
  { name: "holder-always-found", from: 280, on: "redis", redis: { findsAlways: true } },
  { name: "no-clean-up", store: withoutCleanUp },
  { name: "permits-asked-as-one", store: countsOne },
  { name: "writer-asks-as-reader", store: writesAsReader },
  { name: "larger-capacity-asked", store: largestCapacity },
  { name: "downgrade-gives-up-the-claim", store: downgradesToNothing },
  { name: "permits-counted-as-one", on: "redis", rules: byRule("S1"), redis: { scripts: { countsOne: true } } },
  { name: "permits-counted-twice", on: "redis", rules: byRule("S10"), redis: { countsTwice: true } },
  { name: "sum-of-permits-wrong", on: "redis", rules: byRule("S14"), redis: { countsTwice: true } },
  { name: "released-permits-kept", on: "redis", rules: byRule("S10"), redis: { scripts: { keepsUsed: true } } },
  { name: "expired-permits-kept", on: "redis", from: 500, rules: byRule("S10"), redis: { keepsUsedOfExpired: true } },
  { name: "smaller-capacity-ignored", on: "redis", rules: byRule("S1"), redis: { scripts: { ignoresHolders: true } } },
  { name: "waiter-overtaken", on: "redis", rules: byRule("S9"), redis: { scripts: { overtakes: true } } },
  { name: "shrink-loses-its-place", on: "redis", rules: byRule("S1"), redis: { scripts: { shrinksAnew: true } } },
  { name: "first-waiter-skipped", on: "etcd", from: 42_643, etcd: { passesOverTheFirst: true } },
  { name: "tombstone-ignored", redis: { ignoresTombstones: true }, etcd: { ignoresTombstones: true } },
  { name: "successor-not-checked", on: "etcd", from: 5_600, etcd: { deletesWithoutSuccessor: true } },
  { name: "token-epoch-ignored", from: 60, on: "etcd", etcd: { ignoresEpoch: true } },
  { name: "watch-name-trusted", on: "etcd", port: trustsWatchNames },
  { name: "watches-requested-together", on: "etcd", from: 1_500, install: requestsTogether },
  { name: "grant-on-unchecked-event", on: "etcd", port: trustsEvents },
  { name: "auth-token-never-renewed", on: "etcd", etcd: { keepsToken: true } },
  { name: "stream-auth-token-never-renewed", on: "etcd", isRare: true, etcd: { streamsKeepToken: true } },
  { name: "first-host-only", from: 65, on: "etcd", etcd: { asksFirstOnly: true } },
  { name: "refusal-taken-for-silence", on: "etcd", port: doubtsRefusals },
  { name: "successor-on-a-lost-lease", on: "etcd", from: 44_290, install: handsOverBlindly },
  {
    name: "withdrawal-batched-with-request",
    on: "etcd",
    from: 2_038,
    rules: new Set(["S10"]),
    install: batchesWithdrawals
  },
  { name: "requests-before-withdrawals", on: "etcd", isRare: true, install: requestsFirst },
  { name: "old-deletion-ends-new-claim", on: "etcd", from: 132, install: appliesOldDeletions },
  { name: "old-claim-taken-for-new", on: "etcd", from: 8_111, install: takesOldForNew },
  { name: "own-deletion-applied-early", on: "etcd", isRare: true, install: appliesOwnDeletionsEarly },
  { name: "partial-read-taken-as-complete", on: "etcd", isRare: true, install: trustsPartialReads },
  { name: "stray-event-trusted", on: "etcd", isRare: true, install: trustsStrayEvents },
  { name: "granted-in-server-order", on: "etcd", from: 1_640, install: grantsInServerOrder },
  { name: "granted-in-answer-order", on: "etcd", from: 2_016, install: grantsInAnswerOrder },
  { name: "far-waiter-skips-check", on: "etcd", install: skipsCheckOfFarWaiter },
  { name: "early-deletion-forgotten", from: 200, on: "etcd", install: forgetsEarlyDeletions },
  { name: "exchange-drops-unanswered-request", on: "etcd", install: exchangesUnanswered },
  { name: "several-asked-one-by-one", from: { etcd: 80 }, store: asksOneByOne },
  { name: "job-asked-for-before-the-lock", from: { redis: 130, etcd: 60 }, store: asksBeforeTheLock },
  { name: "start-recorded-at-the-end", from: { redis: 130, etcd: 150 }, store: recordsStartAtTheEnd },
  { name: "part-of-several-kept", from: { etcd: 330 }, install: keepsFirstOfSeveral },
  { name: "re-entered-released-early", rules: byRule("S1"), install: releasesReentered },
  { name: "cap-releases-before-the-end", rules: byRule("S18"), install: releasesAtCap },
  { name: "cap-renews-for-ever", rules: byRule("S18"), install: renewsForEver },
  { name: "cap-withdraws-after-the-gap", rules: byRule("S18"), install: withdrawsAfterGap },
  {
    name: "one-of-several-passed-over",
    on: "redis",
    from: 5_000,
    redis: { scripts: { passesGrouped: true } }
  },
  {
    name: "missing-one-of-several-enters-again",
    on: "redis",
    from: 5_700,
    redis: { scripts: { entersMissing: true } }
  },
  { name: "holder-never-told-of-others", from: { etcd: 485 }, rules: byRule("S17"), store: neverTold },
  { name: "holder-told-of-nobody", rules: byRule("S17"), store: alwaysTold },
  { name: "queue-forms-unnoticed", on: "redis", rules: byRule("S17"), redis: { scripts: { neverRings: true } } },
  { name: "holder-told-of-tries", on: "redis", rules: byRule("S17"), redis: { scripts: { ringsForTries: true } } },
  { name: "others-not-watched-for", from: 485, on: "etcd", rules: byRule("S17"), port: neverWatchesForOthers },
  {
    name: "revoked-claim-extended-by-a-late-renewal",
    on: "redis",
    rules: byRule("S20"),
    redis: { scripts: { renewsRevoked: true } }
  },
  {
    name: "revoked-claim-extended-by-a-repeat",
    on: "redis",
    rules: byRule("S20"),
    redis: { scripts: { repeatsRevoked: true } }
  },
  { name: "revoked-claim-renewed", on: "etcd", from: 1_400, rules: byRule("S20"), install: renewsRevoked },
  { name: "revocation-lets-others-in", on: "redis", rules: byRule("S1"), redis: { scripts: { revokesAtOnce: true } } },
  { name: "revoked-claim-released-before-its-end", rules: byRule("S18"), install: releasesRevoked },
  { name: "revocation-told-at-renewal", rules: byRule("S19"), store: tellsAtRenewal },
  { name: "revocation-of-whoever-holds-it", rules: byRule("S19"), admin: ignoresToken },
  { name: "leader-released-before-its-end", rules: byRule("S21"), install: releasesBeforeTheEnd },
  { name: "observer-misses-nobody", rules: byRule("S22"), admin: missesNobody },
  { name: "observer-misses-expiry", on: "redis", rules: byRule("S22"), admin: hidesExpiry }
]
