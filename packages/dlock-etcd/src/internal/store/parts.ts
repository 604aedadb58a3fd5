/** The parts of a store that its other parts use. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { RequestBatcher } from "../client/requestBatcher.ts"
import type { Watches } from "../client/watches.ts"
import type { Revocations } from "./admin/revocations.ts"
import type { Leases } from "./leases/leases.ts"
import type { Liveness } from "./leases/liveness.ts"
import type { AskingOrder } from "./queue/askingOrder.ts"
import type { Registry } from "./registry.ts"
import type { Place } from "./trackedClaim.ts"

/** The parts that a store has once and shares. */
export interface StoreParts {
  readonly telemetry: StoreTelemetry
  readonly batcher: RequestBatcher
  readonly now: () => number
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly registry: Registry
  readonly leases: Leases<Place>
  readonly watches: Watches
  readonly liveness: Liveness
  readonly askingOrder: AskingOrder
  readonly revocations: Revocations
  readonly hasClosed: () => boolean
  /** A process watches every deletion in a queue if claims of at most this many other processes are before its own. */
  readonly mostListeners: number
  /** Makes the loop of the store run at that time, in milliseconds, or earlier. */
  readonly wakeBy: (at: number) => void
}
