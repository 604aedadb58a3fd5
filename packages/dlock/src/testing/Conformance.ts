/**
 * What every `LockStore` must do, as effects that need no test runner. A backend that passes is one.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import type { LockStore } from "../LockStore.ts"
import { Bench, type Body } from "./conformance/bench.ts"
import { claims } from "./conformance/claims.ts"
import { interruption } from "./conformance/interruption.ts"
import { locks } from "./conformance/locks.ts"
import { losses } from "./conformance/losses.ts"
import { nesting } from "./conformance/nesting.ts"
import { weights } from "./conformance/weights.ts"

/**
 * A backend, as the cases meet it.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Opens one more client, as another process would, of one backend that all of them share. */
  readonly client: Effect.Effect<LockStore["Service"], unknown, Scope.Scope>
  /** Lets time pass where the backend keeps it: `Effect.sleep` for a server, `TestClock.adjust` for memory. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
  /** Small, so that expiries are soon seen, and large enough for the backend's granularity: 500 ms, or 2 s on etcd. */
  readonly ttl: Duration.Input
  /** By how much later than the ttl and its guard gap the backend may let a claim expire. Zero unless given. */
  readonly lateness?: Duration.Input | undefined
  /** How often a race is run that must never be lost. 1,000 unless given. */
  readonly rounds?: number | undefined
  /** False for a store that does not say `AlreadyHeld`. */
  readonly nesting?: boolean | undefined
  /** False for a store that offers mutexes only. */
  readonly weights?: boolean | undefined
}

/**
 * A case. It fails with an error that says what was expected.
 *
 * @category models
 * @since 0.1.0
 */
export interface Case {
  /** What is tested, as a sentence. */
  readonly name: string
  /** The test. It ends all that it opened with its scope. */
  readonly run: Effect.Effect<void, unknown, Scope.Scope>
}

/**
 * The cases. Keys are random, so they may run side by side on one backend and leave nothing that matters.
 *
 * **Example**
 *
 * ```ts
 * import { describe, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { LockStore } from "effect-dlock"
 * import { Conformance } from "effect-dlock/testing"
 *
 * declare const connect: Effect.Effect<LockStore["Service"]>
 *
 * describe("my store", () => {
 *   for (const { name, run } of Conformance.cases({ client: connect, advance: Effect.sleep, ttl: "500 millis" })) {
 *     it.live(name, () => run)
 *   }
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const cases = (options: Options): ReadonlyArray<Case> => {
  const bench = new Bench(options)
  const groups: ReadonlyArray<ReadonlyArray<readonly [name: string, body: Body]>> = [
    claims,
    options.weights === false ? [] : weights,
    locks,
    options.nesting === false ? [] : nesting,
    interruption,
    losses
  ]
  return groups.flat().map(([name, body]) => ({
    name,
    // Locks are lost here on purpose: what is logged about it would only be in the way.
    run: Effect.scoped(Effect.suspend(() => body(bench))).pipe(Effect.provide(quiet))
  }))
}

const quiet = Logger.layer([])
