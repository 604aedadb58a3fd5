/**
 * The test suite that every `LockStore` must pass, as effects that need no test runner.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import type { LockAdmin } from "../LockAdmin.ts"
import type { LockStore } from "../LockStore.ts"
import { inspecting, inspectingShared } from "./conformance/admin.ts"
import { Bench, type Body } from "./conformance/bench.ts"
import { claims } from "./conformance/claims.ts"
import { contention, sharedContention } from "./conformance/contention.ts"
import { costs as costCases, type Work } from "./conformance/costs.ts"
import { interruption } from "./conformance/interruption.ts"
import { locks } from "./conformance/locks.ts"
import { losses } from "./conformance/losses.ts"
import { nesting } from "./conformance/nesting.ts"
import { revoking, revokingShared, revokingShrunk } from "./conformance/revoking.ts"
import { runs } from "./conformance/runs.ts"
import { several } from "./conformance/several.ts"
import { shrinking } from "./conformance/shrinking.ts"
import { sharedTraces, traces } from "./conformance/traces.ts"
import { sharedWaitingClaims, waitingClaims } from "./conformance/waiting.ts"
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
  /**
   * Opens a client of the same backend and takes its `LockAdmin`. Without it the tests of `LockAdmin` are left out.
   */
  readonly admin?: Effect.Effect<LockAdmin["Service"], unknown, Scope.Scope> | undefined
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
  /** Whether the store has semaphores and read-write locks. Default: true. */
  readonly weights?: boolean | undefined
  /** Whether the store has `shrink`. Default: the value of `weights`. */
  readonly shrink?: boolean | undefined
  /** Whether the store has `runs`. Default: true. */
  readonly runs?: boolean | undefined
  /** Whether the store has `requestAll`. Default: true. */
  readonly several?: boolean | undefined
  /** Whether the store has `contended`. Default: true. */
  readonly contended?: boolean | undefined
  /** Whether the store has `waiting`. Default: true. */
  readonly waiting?: boolean | undefined
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
    hasShrink(options) ? shrinking : [],
    locks,
    options.several === false ? [] : several,
    options.waiting === false ? [] : waitingClaims,
    options.waiting === false || options.weights === false ? [] : sharedWaitingClaims,
    traces,
    options.weights === false ? [] : sharedTraces,
    options.nesting === false ? [] : nesting,
    options.runs === false ? [] : runs,
    options.contended === false ? [] : contention,
    options.contended === false || options.weights === false ? [] : sharedContention,
    options.admin === undefined ? [] : inspecting,
    options.admin === undefined || options.weights === false ? [] : inspectingShared,
    options.admin === undefined ? [] : revoking,
    options.admin === undefined || options.weights === false ? [] : revokingShared,
    options.admin === undefined || !hasShrink(options) ? [] : revokingShrunk,
    interruption,
    losses
  ]
  return groups.flat().map(([name, body]) => ({
    name,
    // The tests lose locks on purpose, so their log lines would only hide others.
    run: Effect.scoped(Effect.suspend(() => body(bench))).pipe(Effect.provide(quiet))
  }))
}

/**
 * What a backend has done so far, for all its clients together: the input of `costs`.
 *
 * @category models
 * @since 0.1.0
 */
export type { Work }

/**
 * Returns tests of what locks cost the backend: a section, a hand-over and a second of waiting must cost the same with
 * many holders and waiters as with few.
 *
 * **When to use**
 *
 * Use in the tests of a store, one test after the other, on a backend that has nothing else to do.
 *
 * **Details**
 *
 * `work` reads what the backend has done so far: the number of its requests, and the bytes and the time if it counts
 * them.
 *
 * **Example** (Measure a store with Vitest)
 *
 * ```ts
 * import { describe, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { LockStore } from "effect-dlock"
 * import { Conformance } from "effect-dlock/testing"
 *
 * declare const connect: Effect.Effect<LockStore["Service"]>
 * declare const work: Effect.Effect<Conformance.Work>
 *
 * describe("the cost of my store", () => {
 *   const options = { client: connect, advance: Effect.sleep, ttl: "2 seconds", work } as const
 *   for (const { name, run } of Conformance.costs(options)) it.live(name, () => run)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const costs = (options: Options & { readonly work: Effect.Effect<Work> }): ReadonlyArray<Case> => {
  const bench = new Bench(options)
  return costCases.map(([name, body]) => ({
    name,
    run: Effect.scoped(Effect.suspend(() => body(bench, options.work))).pipe(Effect.provide(quiet))
  }))
}

const hasShrink = ({ shrink, weights }: Options): boolean => shrink ?? weights ?? true

const quiet = Logger.layer([])
