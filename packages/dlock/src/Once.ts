/**
 * Jobs that run once: within an interval, at each tick of a schedule, or for each slot, however many processes try.
 *
 * **When to use**
 *
 * Use for a job that every instance schedules and that must not run twice, such as a nightly report. A lock alone does
 * not give that: it keeps two runs from overlapping, and not the second from following the first.
 *
 * **Details**
 *
 * A job is the mutex of its key together with a record of its last run, which outlives the lock, the process and a
 * restart of it. Whoever has the lock asks the record whether the run is due.
 *
 * `counts` says what makes a run count:
 *
 * - `success` (default): only a run that succeeds. One that fails, is interrupted or loses its lock may be repeated by
 *   any process, so the job runs *at least* once, and should be safe to repeat.
 * - `start`: every run that begins. One that fails or dies is not repeated, so the job runs *at most* once.
 *
 * The time is that of the backend where it tells one (Redis, memory). On etcd, intervals are whole seconds of the
 * server, and schedules trust the clocks of the processes.
 *
 * A store of your own needs `LockStore.runs`.
 *
 * @since 0.1.0
 */
import type * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { callForms } from "./internal/callForms.ts"
import * as Engine from "./internal/engine.ts"
import type { Outside } from "./internal/lease/section.ts"
import { neverWaits, type Program } from "./internal/mutex.ts"
import { loop } from "./internal/once/cron.ts"
import { run } from "./internal/once/run.ts"
import * as Ticks from "./internal/once/ticks.ts"
import { invalidRequest } from "./internal/options/invalidRequest.ts"
import * as Owner from "./internal/options/owner.ts"
import type { Lease } from "./Lease.ts"
import { Locker, type TryLockOptions } from "./Locker.ts"
import type { InvalidLockRequest, LockBackendError, OwnershipLost, TryError } from "./LockError.ts"
import type { Period, RunOutcome } from "./LockStore.ts"
import { duration, year } from "./StoreOptions.ts"

/**
 * The options of a job. A run takes the lock anew, so there is no `reentrant`.
 *
 * @category options
 * @since 0.1.0
 */
export interface OnceOptions extends Omit<TryLockOptions, "reentrant"> {
  /**
   * What makes a run count: that it starts, or that it succeeds. Default: `success`.
   */
  readonly counts?: "start" | "success" | undefined
}

/**
 * The options of a job with a schedule.
 *
 * @category options
 * @since 0.1.0
 */
export interface CronOptions extends OnceOptions {
  /**
   * What to do about a tick that passed while no process was there to run it, or while one was late. `last`: run the
   * job for the last of them, if it is less than 60 days old. Default: `skip`.
   */
  readonly catchUp?: "skip" | "last" | undefined
}

/**
 * The last run of a job.
 *
 * @category models
 * @since 0.1.0
 */
export interface LastRun {
  /** The slot for which a run counted last. For `Once.cron` it is the time of the tick, in milliseconds since 1970. */
  readonly slot: Option.Option<bigint>
  readonly startedAt: DateTime.Utc
  /** None while it runs, and for ever if its process died. */
  readonly endedAt: Option.Option<DateTime.Utc>
  /** None while it runs, and for ever if its process died. */
  readonly outcome: Option.Option<RunOutcome>
  /** The name of the holder: the locker's `holder` option. */
  readonly holder: string
  /** The `metadata` option of that holder. */
  readonly metadata: Option.Option<Readonly<Record<string, string>>>
}

/** What the caller must provide: a locker, and what the program needs besides the lease and its scope. */
type Needs<R> = Locker | Outside<R>

type Ran<A, E, R> = Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Needs<R>>

/**
 * Runs a job unless it ran within the interval. It returns `Option.none` if it did, and if it is running now.
 *
 * **Details**
 *
 * The interval counts from the start of a run or from its success, as `counts` says. It is the backend's time, so the
 * clocks of the processes do not matter.
 *
 * Everything else is as in `withLockIfAvailable`: the program gets a lease, and is interrupted when the lock is lost.
 *
 * **Gotchas**
 *
 * The interval is at least 1 millisecond and at most a year. On etcd it is rounded up to whole seconds, at least 2, and
 * begins anew when etcd restarts or changes its leader.
 *
 * Two callers that give different intervals for one key see one record: give each job a key of its own.
 *
 * **Example** (A digest at most once a day)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Locker, Once } from "effect-dlock"
 *
 * declare const sendDigest: Effect.Effect<number>
 *
 * const program = Once.within("digest", "23 hours", sendDigest).pipe(
 *   Effect.flatMap(Option.match({
 *     onNone: () => Effect.log("the digest has been sent, or is being sent"),
 *     onSome: (count) => Effect.log(`sent to ${count}`)
 *   })),
 *   Effect.provide(Locker.layerMemory)
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const within: {
  /** Runs the piped job unless it ran within the interval. */
  (key: string, interval: Duration.Input, options?: OnceOptions): <A, E, R>(program: Program<A, E, R>) => Ran<A, E, R>
  /** Runs a job unless it ran within the interval. */
  <A, E, R>(key: string, interval: Duration.Input, program: Program<A, E, R>, options?: OnceOptions): Ran<A, E, R>
} = callForms(2, (key, interval: Duration.Input, program: Program<any, any, any>, options) => {
  const millis = duration(1, year)(interval)
  return Result.isFailure(millis)
    ? Effect.fail(invalidRequest(key, "interval", millis.failure))
    : ifDue(key, { _tag: "Interval", interval: Duration.millis(millis.success) }, program, options)
})

/**
 * Runs a job for a slot, unless a run counts for that slot or a later one. It returns `Option.none` if one does, and if
 * the job is running now.
 *
 * **When to use**
 *
 * Use for a job whose runs have numbers that only rise, such as the version of a migration or the offset of a batch. For
 * times, use `Once.cron`.
 *
 * **Details**
 *
 * A slot is a bigint from 0 to 2^63 - 1. The largest one that counted is kept for at least 90 days after the last run,
 * and on etcd for ever.
 *
 * **Example** (A migration that runs once)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Locker, Once } from "effect-dlock"
 *
 * declare const migrate: Effect.Effect<void>
 *
 * const program = Once.slot("migration", 42n, migrate).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const slot: {
  /** Runs the piped job for a slot. */
  (key: string, slot: bigint, options?: OnceOptions): <A, E, R>(program: Program<A, E, R>) => Ran<A, E, R>
  /** Runs a job for a slot. */
  <A, E, R>(key: string, slot: bigint, program: Program<A, E, R>, options?: OnceOptions): Ran<A, E, R>
} = callForms(
  2,
  (key, slot: bigint, program: Program<any, any, any>, options) =>
    typeof slot === "bigint" && slot >= 0n && slot < 2n ** 63n
      ? ifDue(key, { _tag: "Slot", slot }, program, options)
      : Effect.fail(invalidRequest(key, "slot", "must be a bigint from 0 to 2^63 - 1"))
)

type CronProgram<A, E, R> = Effect.Effect<A, E, R> | ((lease: Lease, tick: DateTime.Utc) => Effect.Effect<A, E, R>)

/**
 * Runs a job at each tick of a schedule, in one of the processes that run this effect. It never ends by itself.
 *
 * **When to use**
 *
 * Use for a job of a fleet with a time of day. Run it in every instance: another one takes over when an instance dies.
 *
 * **Details**
 *
 * Every process computes the nominal times of the schedule for itself, and presents the tick at which it wakes up as its
 * slot. So clocks that differ by less than half a period give the same slots: the fastest clock decides when the job
 * runs, and nobody repeats it. The others wait until the run has ended, and run the job for the same tick if it did not
 * count.
 *
 * The program is an effect, or a function that takes the lease and the time of the tick.
 *
 * A failure, a defect or an interruption of the job is logged, and the next tick comes all the same. So is a backend that
 * does not answer or refuses the request: it is asked again until the next tick. The effect fails only with what no later
 * attempt could mend, such as an invalid option or a locker that has closed.
 *
 * The `ttl` is a quarter of the time between two ticks if none is given, at least a second and at most the locker's
 * `defaultTtl`, so that a process that dies in a run costs at most its own tick.
 *
 * **Gotchas**
 *
 * A tick that comes while the job still runs is skipped, or with `catchUp: "last"` run after it.
 *
 * Give the `Cron` a time zone. Without one it has that of each process.
 *
 * On Redis a process whose clock is ahead by more than a minute, or by half a period if that is less, waits until its
 * tick is that near by the server's clock. etcd tells no time, so
 * there a clock that is ahead by days uses up the ticks of those days; the other processes log a warning.
 *
 * **Example** (A nightly job of a fleet)
 *
 * ```ts
 * import { Cron, Effect, Layer } from "effect"
 * import { Locker, Once } from "effect-dlock"
 *
 * declare const cleanUp: Effect.Effect<void>
 *
 * const Nightly = Layer.effectDiscard(
 *   Effect.forkScoped(Once.cron("clean-up", Cron.parseUnsafe("30 3 * * *", "Europe/Berlin"), cleanUp))
 * ).pipe(Layer.provide(Locker.layerMemory))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const cron: {
  /** Runs the piped job at each tick of a schedule. */
  (key: string, cron: Cron.Cron, options?: CronOptions): <A, E, R>(
    program: CronProgram<A, E, R>
  ) => Effect.Effect<never, TryError, Needs<R>>
  /** Runs a job at each tick of a schedule. */
  <A, E, R>(
    key: string,
    cron: Cron.Cron,
    program: CronProgram<A, E, R>,
    options?: CronOptions
  ): Effect.Effect<never, TryError, Needs<R>>
} = callForms(
  2,
  (key, cron: Cron.Cron, program: CronProgram<any, any, any>, options: CronOptions | undefined) =>
    withEngine((engine) =>
      Effect.gen(function*() {
        const { catchUp, counts, ...lock } = yield* read(key, options, cronRules)
        const ticks = yield* Ticks.make(key, cron)
        return yield* loop(engine, {
          key,
          ticks,
          counts: counts ?? "success",
          catchesUp: catchUp === "last",
          program,
          options: lock
        })
      })
    )
)

/**
 * Reads when a job last ran, where, and how that run ended. None if it never ran, or if its record has expired: the
 * record of `Once.within` is kept for the interval, and that of slots and schedules for at least 90 days.
 *
 * **Details**
 *
 * With `counts: "success"` a run is recorded when it ends, and with `start` when it begins. The times are those of the
 * backend, or on etcd those of the process that ran.
 *
 * **Example** (A probe for a job that should have run)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Locker, Once } from "effect-dlock"
 *
 * const program = Once.lastRun("clean-up").pipe(
 *   Effect.map(Option.match({
 *     onNone: () => "never",
 *     onSome: ({ holder, outcome, startedAt }) =>
 *       `${startedAt} on ${holder}: ${Option.getOrElse(outcome, () => "not ended")}`
 *   })),
 *   Effect.provide(Locker.layerMemory)
 * )
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const lastRun = (
  key: string
): Effect.Effect<Option.Option<LastRun>, LockBackendError | InvalidLockRequest, Locker> =>
  withEngine((engine) =>
    Effect.gen(function*() {
      const records = yield* engine.records(key, undefined, "try")
      const { last } = yield* records.find(undefined)
      if (last === undefined) return Option.none()
      const { metadata, name } = Owner.decode(last.holder)
      return Option.some<LastRun>({
        slot: Option.fromUndefinedOr(last.slot),
        startedAt: DateTime.makeUnsafe(last.startedAt),
        endedAt: Option.map(Option.fromUndefinedOr(last.endedAt), DateTime.makeUnsafe),
        outcome: Option.fromUndefinedOr(last.outcome),
        holder: name,
        metadata: Option.fromUndefinedOr(metadata)
      })
    })
  )

const withEngine = <A, E, R>(use: (engine: Engine.Engine) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Locker> =>
  Effect.flatMap(Effect.flatMap(Locker, Engine.of), use)

/** Runs a job once for a period, without waiting for a run that is under way. */
const ifDue = <A, E, R>(
  key: string,
  period: Period,
  program: Program<A, E, R>,
  options: OnceOptions | undefined
): Ran<A, E, R> =>
  withEngine((engine) =>
    Effect.gen(function*() {
      const { counts = "success", ...lock } = yield* read(key, options, onceRules)
      const records = yield* engine.records(key, lock, "try")
      const { isDue } = yield* records.find(period)
      if (!isDue) return Option.none()
      return yield* neverWaits(run(engine, records, { key, period, counts, program, options: lock, mode: "try" }))
    })
  )

const onceRules = { counts: ["start", "success"] } as const
const cronRules = { ...onceRules, catchUp: ["skip", "last"] } as const

/** Checks the options that a lock has not. The lock checks the others. */
const read = <Options extends OnceOptions>(
  key: string,
  options: Options | undefined,
  rules: { readonly [name: string]: ReadonlyArray<string> }
): Effect.Effect<Options, InvalidLockRequest> => {
  if (options === undefined) return Effect.succeed({} as Options)
  if (typeof options !== "object" || options === null) {
    return Effect.fail(invalidRequest(key, "options", "must be an object"))
  }
  if ("reentrant" in options) return Effect.fail(invalidRequest(key, "reentrant", "is not an option of a job"))
  const wrong = Object.entries(rules).find(([name, values]) => {
    const value = (options as Readonly<Record<string, unknown>>)[name]
    return value !== undefined && !values.includes(value as string)
  })
  return wrong === undefined
    ? Effect.succeed(options)
    : Effect.fail(invalidRequest(key, wrong[0], `must be ${wrong[1].map((value) => `"${value}"`).join(" or ")}`))
}
