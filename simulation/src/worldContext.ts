import type * as Deferred from "effect/Deferred"
import type * as Fiber from "effect/Fiber"
import type { Backend } from "./backend.ts"
import type { Checker } from "./checker.ts"
import type { Faults } from "./faults.ts"
import type { Log } from "./log.ts"
import type { Observer } from "./observer.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Section } from "./section.ts"
import type { ServerLog } from "./serverLog.ts"
import type { Timeline } from "./timeline.ts"

/** A running process. */
export interface Client {
  readonly process: Process
  readonly sections: ReadonlyArray<ReadonlyArray<Section>>
  readonly closing: Deferred.Deferred<void>
  /** The programs that run now, by the numbers of their sections. */
  readonly running: Map<number, Fiber.Fiber<void>>
  /** Faults that wait for so many more messages. */
  readonly triggers: Array<{ messagesLeft: number; readonly inject: () => void }>
  done: boolean
}

/** All parts of a world. */
export interface WorldContext {
  readonly plan: Plan
  readonly timeline: Timeline
  readonly log: Log
  readonly faults: Faults
  readonly checker: Checker
  readonly serverLog: ServerLog
  readonly observer: Observer
  readonly backend: Backend
  readonly clients: ReadonlyArray<Client>
}
