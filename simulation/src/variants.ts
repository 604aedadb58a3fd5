import type { LockStore } from "effect-dlock"
import type { Answer, Granted } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Port } from "../../packages/dlock-etcd/src/internal/port.ts"
import { Holding } from "../../packages/dlock/src/internal/holding.ts"
import { believesEvents, believesNames, doubtsRefusals } from "./etcd/ports.ts"
import type { EtcdFlaws } from "./etcd/server.ts"
import type { BackendName } from "./plan.ts"
import type { Process } from "./process.ts"
import type { RedisFlaws } from "./redis/server.ts"

type Store = LockStore["Service"]

/**
 * A library that lacks one of its rules, made by wrapping what ships or by a server that does the wrong thing for it. The
 * witness must catch each: that is how it is known to look.
 */
export interface Variant {
  readonly name: string
  /** Where it is one, if not everywhere. */
  readonly on?: BackendName
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
  const own = Object.getOwnPropertyDescriptor(Holding.prototype, "deadline")!
  Object.defineProperty(Holding.prototype, "deadline", { ...own, get: () => Infinity })
  return () => Object.defineProperty(Holding.prototype, "deadline", own)
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

/** Whether a variant is one on this backend. */
export const isOn = (backend: BackendName) => ({ on = backend }: Variant): boolean => on === backend

export const variants: ReadonlyArray<Variant> = [
  { name: "no-deadline", install: withoutDeadline },
  { name: "deadline-from-reply", store: fromReply },
  { name: "deadline-from-write", on: "redis", redis: { countsFromWritten: true } },
  { name: "twice-the-ttl", store: twiceTheTtl },
  { name: "unconditional-delete", redis: { deletesBlindly: true }, etcd: { deletesBlindly: true } },
  { name: "renewal-creates", redis: { renewalCreates: true }, etcd: { renewalCreates: true } },
  { name: "constant-token", store: constantToken },
  { name: "wake-up-dropped", redis: { neverPushes: true }, etcd: { neverTells: true } },
  { name: "holder-always-found", on: "redis", redis: { findsAlways: true } },
  { name: "no-clean-up", store: withoutCleanUp },
  { name: "passes-over-the-first", on: "etcd", etcd: { passesOverTheFirst: true } },
  { name: "mark-ignored", redis: { ignoresMarks: true }, etcd: { ignoresMarks: true } },
  { name: "heir-not-looked-at", on: "etcd", etcd: { deletesWithoutHeir: true } },
  { name: "epoch-not-compared", on: "etcd", etcd: { ignoresEpoch: true } },
  { name: "watch-name-believed", on: "etcd", port: believesNames },
  { name: "grant-by-event", on: "etcd", port: believesEvents },
  { name: "token-kept", on: "etcd", etcd: { keepsToken: true } },
  { name: "stream-token-kept", on: "etcd", etcd: { streamsKeepToken: true } },
  { name: "first-host-only", on: "etcd", etcd: { asksFirstOnly: true } },
  { name: "refusal-doubted", on: "etcd", port: doubtsRefusals }
]
