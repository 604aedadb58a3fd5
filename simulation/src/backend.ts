import type { LockAdmin, LockStore } from "effect-dlock"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Server } from "./observer.ts"
import type { IncidentPlan } from "./plan.ts"
import type { Process } from "./process.ts"

/** What a process has of a backend. */
export interface Opened {
  readonly store: LockStore["Service"]
  readonly admin: LockAdmin["Service"]
}

/** A server of one kind, its network, and the stores that use it. */
export interface Backend extends Server {
  /** The store of a process and its admin, with its own port. `onMessage` is called at each message of its connection. */
  readonly open: (process: Process, onMessage: () => void) => Effect.Effect<Opened, never, Scope.Scope>
  /** Injects a fault of the server or the network. A fault that lasts ends at the time `until`. */
  readonly inject: (incident: IncidentPlan, until: number) => void
  /** From now on there are no faults. */
  readonly heal: () => void
  /** The token of the claim that holds a mutex now, as an observer is told it; undefined if nobody does. */
  readonly holderOf: (key: string) => bigint | undefined
  /** The process of a claim, by its index. */
  readonly processOf: (id: string) => number | undefined
  /** What is left of locks at the server. */
  readonly leftovers: () => ReadonlyArray<string>
  /** A process has ended, and its system closes its connections. */
  readonly hangUp: (process: number) => void
  /** How many milliseconds a claim may outlive its ttl and guard gap. */
  readonly lateness: () => number
  /** For how many milliseconds claims of a crashed process may stay, whatever their ttls. */
  readonly longestLife: number
}
