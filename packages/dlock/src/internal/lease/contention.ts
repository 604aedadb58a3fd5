import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"

/** What is needed of a lease: that it ends, and where to run what watches it. */
interface Watched {
  readonly state: "held" | "lost" | "released"
  readonly host: { readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E> }
  readonly whenEnded: (observer: () => void) => unknown
}

/** The leases whose contention somebody has asked for. A map, so that all other leases do not pay for it. */
const watched = new WeakMap<Watched, Latch.Latch>()

/**
 * Completes when somebody waits behind the lease, which `watch` waits for. The first use starts that, until the end of the
 * lease: a program that asks again and again is told of what happened in between.
 */
export const contended = (lease: Watched, watch: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.suspend(() => {
    const known = watched.get(lease)
    if (known !== undefined) return known.await
    if (lease.state !== "held") return Effect.never
    const latch = Latch.makeUnsafe()
    watched.set(lease, latch)
    const watching = lease.host.fork(Effect.map(watch, () => latch.openUnsafe()))
    lease.whenEnded(() => watching.interruptUnsafe())
    return latch.await
  })
