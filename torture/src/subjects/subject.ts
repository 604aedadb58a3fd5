import type { Effect, Scope } from "effect"
import type { Outcome } from "../events.ts"

/** Where the servers are for one worker: behind its own proxies, or direct. */
export type Address =
  | { readonly kind: "redis"; readonly port: number; readonly waitReplicas?: number }
  | { readonly kind: "sentinel"; readonly sentinels: ReadonlyArray<number>; readonly natMap: NatMap }
  | { readonly kind: "cluster"; readonly nodes: ReadonlyArray<number>; readonly natMap: NatMap }
  | { readonly kind: "etcd"; readonly hosts: ReadonlyArray<string> }

/** Which port stands for which address that the servers give. */
export type NatMap = Readonly<Record<string, { readonly host: string; readonly port: number }>>

export interface Ask {
  readonly key: string
  readonly ttl: number
  readonly timeout?: number
  readonly way: "with" | "scoped" | "try"
}

/** A lock that is held, as far as its library tells. */
export interface Handle {
  readonly token: bigint | undefined
  /** Milliseconds, as granted. */
  readonly ttl: number
  /** Milliseconds since the moment from which the lease counts: its grant may have been under way for so long. */
  readonly age: number
  /** Ends when the library says that the lock is lost. */
  readonly lost: Effect.Effect<{ readonly reason: string; readonly ago: number | undefined }>
}

/** A lock library under torture. */
export interface Subject {
  readonly hold: (ask: Ask, body: (handle: Handle) => Effect.Effect<void>) => Effect.Effect<Outcome>
}

export type Make = (address: Address) => Effect.Effect<Subject, unknown, Scope.Scope>
