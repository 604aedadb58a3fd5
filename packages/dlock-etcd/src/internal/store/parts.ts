import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Outgoing } from "../client/requestBatcher.ts"
import type { Watches } from "../client/watches.ts"
import type { Leases } from "./leases/leases.ts"
import type { Liveness } from "./leases/liveness.ts"
import type { Line } from "./queue/askingOrder.ts"
import type { Seat } from "./queue/place.ts"
import type { Claims } from "./registry.ts"

/** What it takes to follow claims through their queues. */
export interface Desk {
  readonly outgoing: Outgoing
  readonly now: () => number
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly claims: Claims
  readonly leases: Leases<Seat>
  readonly watches: Watches
  readonly liveness: Liveness
  readonly line: Line
  readonly hasClosed: () => boolean
  /** Sees to it that the store's loop is awake at that time. */
  readonly stir: (at: number) => void
}
