import type { Effect, Option, Scope, Stream } from "effect"
import type { LockBackendError, LockInfo } from "effect-dlock"
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

export interface Loss {
  readonly reason: string
  readonly ago: number | undefined
  /** Whether its holder was asked to leave. */
  readonly isRevoked?: boolean
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
  /** Ends when the library says that the holder is to leave, where it can say so. */
  readonly revocation?: Effect.Effect<unknown>
  /** Steps down as a leader. */
  readonly resign?: Effect.Effect<never>
  /** Ends when the library says that the lock is lost. */
  readonly lost: Effect.Effect<Loss>
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

/** A candidacy for a leadership. */
export interface Candidacy {
  readonly name: string
  readonly ttl: number
  readonly guard: number
  readonly cooldown: number
  readonly restart: "always" | "never"
  readonly healthy: Effect.Effect<boolean>
  /** Told why it failed, where that was for the server's sake. */
  readonly failed: (why: string) => void
}

/** A request of an operator, and what the store answered to it. */
export interface Asking {
  readonly key: string
  readonly token: bigint
  readonly grace: number
  readonly from: number
  readonly at: number
  readonly answer: "asked" | "notHeld" | "foreign" | "unknown"
}

/** What an operator may do. */
export interface Operator {
  readonly inspect: (key: string) => Effect.Effect<LockInfo, unknown>
  readonly list: Effect.Effect<ReadonlyArray<LockInfo>, unknown>
  readonly revoke: (
    key: string,
    options: { readonly token: bigint; readonly grace: number; readonly why: string }
  ) => Effect.Effect<"released" | "running" | "notHeld", unknown>
  readonly breakLock: (key: string, token: bigint) => Effect.Effect<boolean, unknown>
  /** Tells each answer of the store to a request that a holder leaves. */
  readonly onAsked: (told: (asking: Asking) => void) => void
}

/** A lock library under torture. */
export interface Subject {
  /** Runs a job if no run counts for its slot. A result says that it ran and has succeeded. */
  readonly once?: (job: Job, run: Effect.Effect<void, unknown>) => Effect.Effect<Option.Option<void>, unknown>
  readonly operator?: Operator
  /** Stands for a leadership, and runs the program in each term. */
  readonly lead?: (candidacy: Candidacy, program: (handle: Handle) => Effect.Effect<void>) => Effect.Effect<Outcome>
  /** The terms of those who lead, and of nobody. */
  readonly observe?: (name: string) => Stream.Stream<bigint | undefined, LockBackendError>
  readonly hold: (ask: Ask, body: (handle: Handle) => Effect.Effect<void>) => Effect.Effect<Outcome>
}

export type Make = (address: Address) => Effect.Effect<Subject, unknown, Scope.Scope>
