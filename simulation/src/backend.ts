import type { LockStore } from "effect-dlock"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Server } from "./observer.ts"
import type { IncidentPlan } from "./plan.ts"
import type { Process } from "./process.ts"

/** A server of one kind, the network before it, and the store over that. */
export interface Backend extends Server {
  /** The store of a process, over a port of its own. `onMessage` is called at each message of its connection. */
  readonly open: (
    process: Process,
    onMessage: () => void
  ) => Effect.Effect<LockStore["Service"], never, Scope.Scope>
  /** Has something happen to the server or the network. What lasts is over at the time `until`. */
  readonly inject: (incident: IncidentPlan, until: number) => void
  /** From now on nothing goes wrong. */
  readonly heal: () => void
  /** What is left of locks at the server. */
  readonly leftovers: () => ReadonlyArray<string>
  /** A process has ended, and its system closes what it had open. */
  readonly hangUp: (process: number) => void
  /** How much longer than its time to live and guard a claim may stand: milliseconds. */
  readonly lateness: () => number
  /** For how long what is left of a process that crashed may stand, whatever its claims asked for: milliseconds. */
  readonly longestLife: number
}
