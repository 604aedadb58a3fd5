import type { LockStore } from "effect-dlock"
import type { Answer, Granted } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Port } from "../../packages/dlock-etcd/src/internal/client/port.ts"
import { RequestBatcher } from "../../packages/dlock-etcd/src/internal/client/requestBatcher.ts"
import { type Deletion, Watches } from "../../packages/dlock-etcd/src/internal/client/watches.ts"
import type { Operation } from "../../packages/dlock-etcd/src/internal/protocol/operation.ts"
import { Leases } from "../../packages/dlock-etcd/src/internal/store/leases/leases.ts"
import { Liveness } from "../../packages/dlock-etcd/src/internal/store/leases/liveness.ts"
import { AskingOrder } from "../../packages/dlock-etcd/src/internal/store/queue/askingOrder.ts"
import { LocalQueue } from "../../packages/dlock-etcd/src/internal/store/queue/localQueue.ts"
import { WaitingPlaces } from "../../packages/dlock-etcd/src/internal/store/queue/waitingPlaces.ts"
import { Registry } from "../../packages/dlock-etcd/src/internal/store/registry.ts"
import { TrackedClaim } from "../../packages/dlock-etcd/src/internal/store/trackedClaim.ts"
import { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { BackendName } from "./backendName.ts"
import type { Rule } from "./checker.ts"
import { doubtsRefusals, trustsEvents, trustsWatchNames } from "./etcd/ports.ts"
import type { EtcdFlaws } from "./etcd/server.ts"
import type { Process } from "./process.ts"
import type { RedisFlaws } from "./redis/server.ts"

type Store = LockStore["Service"]

/**
 * A library that lacks one of its rules, made by wrapping what ships or by a server that does the wrong thing for it. The
 * observer must catch each: that is how it is known to look.
 */
export interface Variant {
  readonly name: string
  /** Where it is one, if not everywhere. */
  readonly on?: BackendName
  /** The first seed that may catch it, where that is a rare one. */
  readonly from?: number
  /** It takes tens of thousands of seeds to catch it: the tests do not search for it. */
  readonly isRare?: boolean
  /** Only these rules are to catch it, where others would for what comes with it. */
  readonly rules?: ReadonlySet<Rule>
  readonly store?: (store: Store, process: Process) => Store
  readonly redis?: RedisFlaws
  readonly etcd?: EtcdFlaws
  /** What the store is given for its port to an etcd. */
  readonly port?: (port: Port) => Port
  /** Changes what all worlds share; gives back the way to undo it. */
  readonly install?: () => () => void
}

/** Has every grant that a store reports be another. */
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

/** No lease is ever over by its own time. */
const withoutDeadline = (): () => void => {
  const own = Object.getOwnPropertyDescriptor(HeldLease.prototype, "deadline")!
  Object.defineProperty(HeldLease.prototype, "deadline", { ...own, get: () => Infinity })
  return () => Object.defineProperty(HeldLease.prototype, "deadline", own)
}

/** What was confirmed counts from the moment at which the answer came. */
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

/** Every token is the same; the store itself still goes by the right ones. */
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

/** Whoever gives up before the grant leaves the claim where it is. */
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

/** Has objects of a class do another thing; gives back the way to undo it. What is private there is changed too. */
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

/** It hands over to its next one whatever has become of the lease that this one is on, and whatever it has not heard. */
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
 * A withdrawal goes in one batch with what it withdraws, where neither sees what the other does. For that to happen at all
 * what was given up has to be sent all the same, and its withdrawal must not wait for it: without those two, that no batch
 * has two of one claim changes nothing. Such a withdrawal leaves a tombstone that nobody needs, which is not what is looked for.
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

/** In a batch whoever enters goes before whoever leaves. */
const requestsFirst = (): () => void =>
  replace(RequestBatcher.prototype, "go", (own) =>
    function(members) {
      return own.call(this, members.toReversed())
    })

/** The end of whoever stood under a name before is taken for that of whoever does now. */
const appliesOldDeletions = (): () => void =>
  replace(LocalQueue.prototype, "takeDeletions", (own) =>
    function(deletions: ReadonlyArray<Deletion>) {
      return own.call(this, deletions.map(({ key }) => ({ key, revision: 1n << 62n })))
    })

/** Whoever stood under a name before is taken for whoever waits under it now. */
const takesOldForNew = (): () => void =>
  replace(LocalQueue.prototype, "queuedAt", () =>
    function(place) {
      return this.byKey.get(place.key)
    })

/** Of what it has deleted itself it takes in the answer, before it has heard what went before that. */
const appliesOwnDeletionsEarly = (): () => void =>
  replace(LocalQueue.prototype, "noteWithdrawn", (own) =>
    function(key, revision) {
      if (revision === undefined) own.call(this, key, revision)
      else this.takeDeletions([{ key, revision }])
    })

/** That a look lacks some is taken for all that happened until then. */
const trustsPartialReads = (): () => void =>
  replace(LocalQueue.prototype, "foresee", () =>
    function(one) {
      this.remove(one)
    })

/** What a proxy tells the wrong watch is taken for all that happened until then. */
const trustsStrayEvents = (): () => void =>
  replace(Watches.prototype, "add", (own) =>
    function(target, after, onDelete, ...others) {
      return own.call(this, target, after, (deletions: unknown) => onDelete(deletions, false), ...others)
    })

/** Who is far from the head takes the end of the claim that it watches for its turn, without a look. */
const skipsCheckOfFarWaiter = (): () => void =>
  replace(LocalQueue.prototype, "approach", () =>
    function() {
      if (this.waiting.first !== undefined) this.takeTurn(this.waiting.first)
    })

/** Those of one process are let in as the server took them in. */
const grantsInServerOrder = (): () => void => replace(WaitingPlaces.prototype, "order", () => () => {})

/** Those of one process are let in as it heard of their places. */
const grantsInAnswerOrder = (): () => void => replace(AskingOrder.prototype, "isAwaited", () => () => false)

/** Whoever exchanges places takes along what may yet be executed for the one that is left. */
const exchangesUnanswered = (): () => void =>
  replace(TrackedClaim.prototype, "exchangePlaces", (exchange) =>
    function(this: TrackedClaim, other: TrackedClaim) {
      exchange.call(this, other)
      const { unanswered } = this.place
      this.place.unanswered = other.place.unanswered
      other.place.unanswered = unanswered
    })

/** Whether a variant is one on this backend. */
export const runsOn = (backend: BackendName) => ({ on = backend }: Variant): boolean => on === backend

export const variants: ReadonlyArray<Variant> = [
  { name: "no-deadline", install: withoutDeadline },
  { name: "deadline-from-reply", store: fromReply },
  { name: "deadline-from-write", on: "redis", redis: { countsFromWritten: true } },
  { name: "twice-the-ttl", store: twiceTheTtl },
  { name: "unconditional-delete", redis: { deletesBlindly: true }, etcd: { deletesBlindly: true } },
  { name: "renewal-creates", redis: { renewalCreates: true }, etcd: { renewalCreates: true } },
  { name: "constant-token", store: constantToken },
  { name: "notification-dropped", redis: { neverNotifies: true }, etcd: { neverNotifies: true } },
  { name: "holder-always-found", on: "redis", redis: { findsAlways: true } },
  { name: "no-clean-up", store: withoutCleanUp },
  { name: "first-waiter-skipped", on: "etcd", from: 5_502, etcd: { passesOverTheFirst: true } },
  { name: "tombstone-ignored", redis: { ignoresTombstones: true }, etcd: { ignoresTombstones: true } },
  { name: "successor-not-checked", on: "etcd", from: 4_348, etcd: { deletesWithoutSuccessor: true } },
  { name: "token-epoch-ignored", on: "etcd", etcd: { ignoresEpoch: true } },
  { name: "watch-name-trusted", on: "etcd", port: trustsWatchNames },
  { name: "grant-on-unchecked-event", on: "etcd", port: trustsEvents },
  { name: "auth-token-never-renewed", on: "etcd", etcd: { keepsToken: true } },
  { name: "stream-auth-token-never-renewed", on: "etcd", from: 921, etcd: { streamsKeepToken: true } },
  { name: "first-host-only", on: "etcd", etcd: { asksFirstOnly: true } },
  { name: "refusal-taken-for-silence", on: "etcd", port: doubtsRefusals },
  { name: "successor-on-a-lost-lease", on: "etcd", from: 2_319, install: handsOverBlindly },
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
  { name: "granted-in-server-order", on: "etcd", from: 1_448, install: grantsInServerOrder },
  { name: "granted-in-answer-order", on: "etcd", from: 2_016, install: grantsInAnswerOrder },
  { name: "far-waiter-skips-check", on: "etcd", install: skipsCheckOfFarWaiter },
  { name: "exchange-drops-unanswered-request", on: "etcd", install: exchangesUnanswered }
]
