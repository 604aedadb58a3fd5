import type { Faults } from "./faults.ts"
import type { Log } from "./log.ts"
import type { ServerLog } from "./serverLog.ts"
import type { Timeline } from "./timeline.ts"

/** What all connections of a world share. */
export interface Network<Server> {
  readonly seed: number
  readonly timeline: Timeline
  readonly log: Log
  readonly faults: Faults
  readonly serverLog: ServerLog
  readonly server: Server
  /** When the server takes the next request: later than now while it is paused or starting again. */
  awakeAt: number
  /** Until then nobody can connect. */
  upAt: number
}
