/**
 * Permits that are shared by all processes: a semaphore.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { callForms } from "./internal/callForms.ts"
import { readWriteCapacity } from "./internal/capacity.ts"
import type { Shape } from "./internal/engine.ts"
import type { Outside } from "./internal/lease/section.ts"
import { neverWaits } from "./internal/mutex.ts"
import * as Named from "./internal/named.ts"
import * as Request from "./internal/options/request.ts"
import * as Rules from "./internal/options/rules.ts"
import * as Wants from "./internal/options/wants.ts"
import { Locker } from "./Locker.ts"
import {
  type AcquireError,
  InvalidLockRequest,
  type LockBackendError,
  type OwnershipLost,
  type TryError
} from "./LockError.ts"
import type { LockOptions, TryLockOptions } from "./LockOptions.ts"
import type { SharedLease } from "./SharedLease.ts"
import type { Parser } from "./StoreOptions.ts"

/** Permits are never re-entered: two callers that each hold some and ask for more would wait for each other. */
type PermitOptions = Omit<LockOptions, "reentrant">
type TryPermitOptions = Omit<TryLockOptions, "reentrant">

/** The program of a section: an effect, or a function that takes the lease. */
type Program<A, E, R> = Effect.Effect<A, E, R> | ((lease: SharedLease) => Effect.Effect<A, E, R>)

/**
 * The options of a semaphore.
 *
 * @category options
 * @since 0.1.0
 */
export interface SemaphoreOptions {
  /** How many permits all processes together have: an integer from 1 to 2,147,483,647. */
  readonly permits: number
  /** The `ttl` of a call that gives none. Default: the locker's `defaultTtl`. */
  readonly ttl?: Duration.Input | undefined
  /**
   * What happens while other processes know another number of permits, as during a roll-out.
   *
   * - `strictest`: the smallest number among the holders and the caller rules, with one warning for each key. Nobody
   *   fails, and there are never more permits out than the smallest number among those inside.
   * - `fail`: the call fails with `CapacityMismatch`.
   *
   * Default: `strictest`.
   */
  readonly onCapacityChange?: "strictest" | "fail" | undefined
}

/**
 * A semaphore whose permits are shared by all processes.
 *
 * **When to use**
 *
 * Use to cap how many calls a whole fleet makes to something at the same time. Within one process, use the `Semaphore`
 * of Effect, which costs no round trip.
 *
 * **Details**
 *
 * Callers get permits in the order in which they asked, over all processes, however many permits each wants. So free
 * permits may idle behind a caller that waits for many: a stream of small callers cannot starve it.
 *
 * A process that dies keeps its permits until its `ttl` and guard gap are over.
 *
 * There is no way to give a permit back without its lease, since a permit that is lost that way would never come back.
 *
 * @category models
 * @since 0.1.0
 */
export interface DistributedSemaphore {
  /** The key as the caller gave it, without the prefix. */
  readonly key: string
  /** How many permits the semaphore has. */
  readonly capacity: number
  /**
   * How many permits are free now: a snapshot, for people and gauges. It may be wrong when it is read, so do not decide
   * by it. Use `withPermitsIfAvailable` instead.
   */
  readonly available: Effect.Effect<number, LockBackendError>
  /**
   * Runs a program with `permits` permits: waits for them, runs the program in a scope of its own, interrupts it when the
   * permits are lost, and gives them back however the program ends.
   *
   * Fails with `InvalidLockRequest` for fewer than 1 permit and for more than the semaphore has. Inside a section of the
   * same semaphore it fails with `LockAlreadyHeld`: two callers that each hold some permits and wait for more would
   * wait for ever.
   */
  readonly withPermits: (permits: number, options?: PermitOptions) => <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, SharedLease>>
  /** Runs a program with 1 permit, like `withPermits(1)`. */
  readonly withPermit: {
    /** Runs the piped program with 1 permit. */
    (options?: PermitOptions): <A, E, R>(
      program: Program<A, E, R>
    ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, SharedLease>>
    /** Runs a program with 1 permit. */
    <A, E, R>(
      program: Program<A, E, R>,
      options?: PermitOptions
    ): Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, SharedLease>>
  }
  /**
   * Runs a program with `permits` permits if they are free and nobody waits. Otherwise it returns `Option.none` at once.
   */
  readonly withPermitsIfAvailable: (permits: number, options?: TryPermitOptions) => <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Outside<R, SharedLease>>
  /**
   * Waits for permits and holds them until the scope closes. It interrupts nothing when they are lost: use
   * `lease.whileHeld`.
   */
  readonly takeScoped: (
    permits: number,
    options?: PermitOptions
  ) => Effect.Effect<SharedLease, AcquireError, Scope.Scope>
  /** Holds permits until the scope closes if they are free. Otherwise it returns `Option.none` at once. */
  readonly takeScopedIfAvailable: (
    permits: number,
    options?: TryPermitOptions
  ) => Effect.Effect<Option.Option<SharedLease>, TryError, Scope.Scope>
}

const permitsRule: Parser<number> = (value) =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= readWriteCapacity
    ? Result.succeed(value as number)
    : Result.fail("must be an integer from 1 to 2,147,483,647")

const onCapacityChangeRule: Parser<"strictest" | "fail"> = (value) =>
  value === "strictest" || value === "fail" ? Result.succeed(value) : Result.fail(`must be "strictest" or "fail"`)

const rules = { permits: permitsRule, ttl: Rules.ttl, onCapacityChange: onCapacityChangeRule } satisfies {
  readonly [Name in keyof SemaphoreOptions]-?: Parser<unknown>
}

/**
 * Makes a semaphore from a key.
 *
 * **Details**
 *
 * It sends nothing: a semaphore is a name, and its permits exist only while they are held. The semaphore keeps the
 * locker from the context, so its methods need no further service.
 *
 * Fails with `InvalidLockRequest` for a key or an option that no store could honour.
 *
 * **Example** (At most 25 calls at a time over the whole fleet)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedSemaphore, Locker } from "effect-dlock"
 *
 * declare const summarize: Effect.Effect<string>
 *
 * const program = Effect.gen(function*() {
 *   const api = yield* DistributedSemaphore.make("api", { permits: 25 })
 *   return yield* summarize.pipe(api.withPermits(2, { timeout: "30 seconds" }))
 * }).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
const make = (
  key: string,
  options: SemaphoreOptions
): Effect.Effect<DistributedSemaphore, InvalidLockRequest, Locker> =>
  Effect.flatMap(
    Locker,
    (locker) =>
      Named.make(
        locker,
        key,
        rules,
        options,
        ["permits"],
        ({ engine, read: { onCapacityChange, permits: capacity, ttl } }) => {
          const shapeOf = (permits: number): Shape | InvalidLockRequest => {
            if (Number.isInteger(permits) && permits >= 1 && permits <= capacity) {
              return {
                kind: "semaphore",
                permits,
                capacity,
                ...(onCapacityChange === "fail" && { onCapacityChange })
              }
            }
            const problem = `must be an integer from 1 to ${capacity}, which is all that this semaphore has`
            return new InvalidLockRequest({ key, parameter: "permits", problem })
          }
          /** Checks the number of permits before anything is sent. */
          const shaped = <A, E, R>(
            permits: number,
            run: (shape: Shape) => Effect.Effect<A, E, R>
          ): Effect.Effect<A, E | InvalidLockRequest, R> => {
            const shape = shapeOf(permits)
            return shape instanceof InvalidLockRequest ? Effect.fail(shape) : run(shape)
          }
          const withTtl = <Options extends TryLockOptions>(options: Options | undefined) =>
            Request.withTtl(options, ttl)
          const section = (
            permits: number,
            program: Program<any, any, any>,
            options: LockOptions | undefined,
            mode: "queue" | "try"
          ): Effect.Effect<Option.Option<any>, any, any> =>
            shaped(permits, (shape) => engine.section(key, shape, program, withTtl(options), mode))
          const take = (permits: number, options: LockOptions | undefined, mode: "queue" | "try") =>
            shaped(permits, (shape) => engine.scoped(key, shape, withTtl(options), mode))
          const withPermits: DistributedSemaphore["withPermits"] = (permits, options) => (program) =>
            Effect.map(section(permits, program, options, "queue"), Named.some)

          return Wants.register<DistributedSemaphore>({
            key,
            capacity,
            available: Effect.map(
              engine.used(key, { kind: "semaphore", permits: 1, capacity }),
              (used) => Math.max(0, capacity - used)
            ),
            withPermits,
            withPermit: callForms(0, (program, options) => withPermits(1, options)(program)),
            withPermitsIfAvailable: (permits, options) => (program) =>
              neverWaits(section(permits, program, options, "try")),
            takeScoped: (permits, options) => Effect.map(take(permits, options, "queue"), (lease) => lease!),
            takeScopedIfAvailable: (permits, options) =>
              neverWaits(Effect.map(take(permits, options, "try"), Option.fromUndefinedOr<SharedLease | undefined>))
          }, { engine, key, shapeOf, ttlOf: () => ttl })
        }
      )
  )

/**
 * Makes semaphores.
 *
 * @category constructors
 * @since 0.1.0
 */
export const DistributedSemaphore = { make }
