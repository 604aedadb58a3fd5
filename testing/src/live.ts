/** What the tests of every backend do around real servers, as effects; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Duration, Effect, type Scope } from "effect"
import { recordLag } from "./lag.ts"
import { type Proxy, startProxy } from "./proxy.ts"

/** What a promise starts and `stop` ends, for as long as the scope is open: a server, or a group of them. */
export const started = <A extends { readonly stop: () => Promise<void> }>(
  start: () => Promise<A>
): Effect.Effect<A, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.promise(start), (one) => Effect.promise(() => one.stop()))

/** A proxy to a port, which the test may have misbehave. */
export const proxyTo = (port: number, protocol?: "http"): Effect.Effect<Proxy, never, Scope.Scope> =>
  started(() => startProxy(port, protocol))

/** How late this process's own timers were: what a deadline's assertion allows for. */
export const lag = Effect.acquireRelease(Effect.sync(recordLag), (lag) => Effect.sync(lag.stop))

/** The milliseconds that it took, less those by which this process itself was late meanwhile, and what came of it. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [number, A], E, R> =>
  Effect.suspend(() => {
    const recorded = recordLag()
    return Effect.timed(effect).pipe(
      Effect.map(([took, value]) => [Duration.toMillis(took) - recorded.max(), value] as const),
      Effect.ensuring(Effect.sync(recorded.stop))
    )
  })

/** What came of it, which must be within so many milliseconds and the lag recorded meanwhile. */
export const within = <A, E, R>(effect: Effect.Effect<A, E, R>, limitMs: number): Effect.Effect<A, E, R> =>
  Effect.map(timed(effect), ([took, value]) => {
    assert.isBelow(took, limitMs)
    return value
  })

/** Polls until it holds; fails after the limit, and the lag that was recorded until then. */
export const eventually = (what: string, check: () => Promise<boolean>, limitMs = 5_000): Effect.Effect<void> =>
  Effect.promise(async () => {
    const recorded = recordLag()
    const until = performance.now() + limitMs
    while (!await check()) {
      if (performance.now() > until + recorded.max()) throw new Error(`not within ${limitMs} ms: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    recorded.stop()
  })
