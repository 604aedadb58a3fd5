/**
 * The test suite that every `LockStore` must pass, as effects that need no test runner.
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
 * What the test suite needs to know about a backend.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Opens a client of the backend, as another process would. All clients share one backend. */
  readonly client: Effect.Effect<LockStore["Service"], unknown, Scope.Scope>
  /** Lets time pass for the backend: `Effect.sleep` for a server, `TestClock.adjust` for a store in memory. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void>
  /**
   * The ttl of most locks in the tests. Choose a short one, because the tests wait for expiries, but not below the
   * backend's granularity: 500 milliseconds, or 2 seconds on etcd.
   */
  readonly ttl: Duration.Input
  /** How much later than its ttl and guard gap the backend may expire a claim. Default: 0. */
  readonly lateness?: Duration.Input | undefined
  /** How often a race is repeated that must never go wrong. Default: 1,000. */
  readonly rounds?: number | undefined
  /** Whether the store answers `AlreadyHeld`. Default: true. */
  readonly nesting?: boolean | undefined
  /** Whether the store grants more than one permit on a key. Default: true. */
  readonly weights?: boolean | undefined
}

/**
 * One test. It fails with an error that says what was expected.
 *
 * @category models
 * @since 0.1.0
 */
export interface Case {
  /** What is tested, as a sentence. */
  readonly name: string
  /** The test. Its scope closes everything that it opens. */
  readonly run: Effect.Effect<void, unknown, Scope.Scope>
}

/**
 * Returns the tests.
 *
 * **When to use**
 *
 * Use in the tests of a store, with any test runner.
 *
 * **Details**
 *
 * The keys are random, so the tests may run at the same time on one backend, and they leave nothing that disturbs
 * others.
 *
 * **Example** (Test a store with Vitest)
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
    // The tests lose locks on purpose, so their log lines would only hide others.
    run: Effect.scoped(Effect.suspend(() => body(bench))).pipe(Effect.provide(quiet))
  }))
}

const quiet = Logger.layer([])
