import type { Backend } from "./backend.ts"
import type { Client } from "./client.ts"
import type { Faults } from "./faults.ts"
import type { Judge } from "./judge.ts"
import type { Ledger } from "./ledger.ts"
import type { Log } from "./log.ts"
import type { Plan } from "./plan.ts"
import type { Timeline } from "./timeline.ts"
import type { Witness } from "./witness.ts"

/** All that a world is made of. */
export interface Scene {
  readonly plan: Plan
  readonly timeline: Timeline
  readonly log: Log
  readonly faults: Faults
  readonly judge: Judge
  readonly ledger: Ledger
  readonly witness: Witness
  readonly backend: Backend
  readonly clients: ReadonlyArray<Client>
}
