import type { Effect, Option, Scope } from "effect"
import type { Outcome } from "../events.ts"
import type { LockShape } from "../lockShape.ts"

/** Where the servers are for one worker: behind its own proxies, or direct. */
export type Address =
  | { readonly kind: "redis"; readonly port: number; readonly waitReplicas?: number; readonly account?: Account }
  | { readonly kind: "sentinel"; readonly sentinels: ReadonlyArray<number>; readonly natMap: NatMap }
  | { readonly kind: "cluster"; readonly nodes: ReadonlyArray<number>; readonly natMap: NatMap }
  | {
    readonly kind: "etcd"
    readonly hosts: ReadonlyArray<string>
    readonly username?: string
    readonly password?: string
  }

/** As whom, and in which database. */
export interface Account {
  readonly user: string
  readonly password: string
  readonly db: number
}

/** Which port stands for which address that the servers give. */
export type NatMap = Readonly<Record<string, { readonly host: string; readonly port: number }>>

export interface Ask {
  readonly key: string
  readonly ttl: number
  readonly timeout?: number
  readonly way: "with" | "scoped" | "try"
  /** What is asked for: a mutex, unless given. Other libraries are asked for mutexes only. */
  readonly lock?: LockShape
  /** Keys of more mutexes that are asked for together with this one. */
  readonly also?: ReadonlyArray<string>
  /** The guard gap, milliseconds. */
  readonly guard?: number
  /** Told why it failed, where that was for the server's sake. */
  readonly failed?: (why: string) => void
}

/** A lock that is held, as far as its library tells. */
export interface Handle {
  readonly token: bigint | undefined
  /** Milliseconds, as granted. */
  readonly ttl: number
  /** Milliseconds since the moment from which the lease counts: its grant may have been under way for so long. */
  readonly age: number
  /** Whether the library says that it is held now, where it can be asked. */
  readonly holds: Effect.Effect<boolean> | undefined
  /** Makes a write lock a read lock, where it is one. */
  readonly downgrade?: Effect.Effect<void>
  /** Ends when the library says that the lock is lost. */
  readonly lost: Effect.Effect<{ readonly reason: string; readonly ago: number | undefined }>
  /** The locks of `also`, which were acquired together with this one. */
  readonly others?: ReadonlyArray<Handle>
}

/** A job that runs once for each slot. */
export interface Job {
  readonly key: string
  readonly slot: bigint
  readonly counts: "start" | "success"
  readonly ttl: number
}

/** A lock library under torture. */
export interface Subject {
  /** Runs a job if no run counts for its slot. A result says that it ran and has succeeded. */
  readonly once?: (job: Job, run: Effect.Effect<void, unknown>) => Effect.Effect<Option.Option<void>, unknown>
  readonly hold: (ask: Ask, body: (handle: Handle) => Effect.Effect<void>) => Effect.Effect<Outcome>
}

export type Make = (address: Address) => Effect.Effect<Subject, unknown, Scope.Scope>
