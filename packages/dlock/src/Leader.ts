/**
 * Leaders: a program that runs in one process of a fleet, and goes on in another one when that process ends.
 *
 * **When to use**
 *
 * Use for work that never ends and that one process must do: a scheduler, a consumer of one stream, a reconciler. For a
 * job with a time of day use `Once`, and for one section `withLock`. To spread many roles over a fleet, use the sharding
 * of Effect Cluster.
 *
 * **Details**
 *
 * A leadership is the mutex of its name, held for as long as the program runs. Those who stand for it wait in the queue of
 * the lock, and the first of them leads as soon as the leader has ended.
 *
 * A leader keeps the lock and renews it until its program has ended, its finalizers included. So the next one never runs
 * beside it. The term of a leader is its fencing token, which only rises.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { callForms } from "./internal/callForms.ts"
import * as Engine from "./internal/engine.ts"
import { statusOf } from "./internal/leader/candidate.ts"
import { changesOfLeader, leaderIn } from "./internal/leader/observe.ts"
import * as Options from "./internal/leader/options.ts"
import { resign as resignFrom } from "./internal/leader/resign.ts"
import { run as runAsLeader } from "./internal/leader/run.ts"
import { supervise } from "./internal/leader/supervise.ts"
import type { Outside } from "./internal/lease/section.ts"
import type { Program } from "./internal/mutex.ts"
import type { Lease } from "./Lease.ts"
import { Locker, type TryLockOptions } from "./Locker.ts"
import type { InvalidLockRequest, LockBackendError, OwnershipLost, TryError } from "./LockError.ts"
import type { HolderInfo } from "./LockInfo.ts"

/**
 * The options of a leader. A term takes the lock anew, so there is no `reentrant`.
 *
 * @category options
 * @since 0.1.0
 */
export interface LeaderOptions extends Omit<TryLockOptions, "reentrant"> {
  /**
   * What to do when the leadership ends and the program has not ended by itself: it was lost, revoked, resigned, held for
   * its `maxHold`, or the program was unhealthy. `always`: stand again. `never`: fail with `OwnershipLost`.
   *
   * Default: `always`.
   */
  readonly restart?: "always" | "never" | undefined
  /**
   * How long to wait before standing again after a resignation, a revocation or an unhealthy program, so that another
   * process leads meanwhile if one stands. At most a year. After a term that was shorter than a third of the `ttl` it is
   * at least 0.1 seconds. Default: the `ttl`.
   */
  readonly cooldown?: Duration.Input | undefined
  /**
   * Whether the program is well. It is asked at each third of the `ttl` while the program runs, and more often after a no.
   * When it has not answered `true` for a whole `ttl`, the leader steps down: its program is interrupted, and the lock is
   * released when the program has ended. An answer that takes longer than a third of the `ttl`, fails or dies is no.
   *
   * If the program has not ended within the guard gap, because it is stuck, the lock is renewed no more and runs out, so
   * that another process leads. The answer does not count while the call is interrupted: a program that was told to end may
   * take its time. Default: the program counts as well for as long as it runs.
   */
  readonly healthy?: Effect.Effect<boolean, unknown> | undefined
}

/**
 * What this process does for a leadership.
 *
 * @category models
 * @since 0.1.0
 */
export interface LeaderStatus {
  /**
   * - `leading`: the program runs, and the lock is held.
   * - `standing`: it waits to be elected, for the end of its cool-down, or to stand again after a failure, as a layer
   *   does.
   * - `lost`: the leadership is lost, but the program has not ended yet. If this lasts, the program ignores its
   *   interruption, and only the end of the process stops it.
   * - `idle`: nothing runs under this name through this locker.
   */
  readonly state: "leading" | "standing" | "lost" | "idle"
  /** How long ago the last confirmation of the lock was asked for. `None` if it does not lead. */
  readonly lastConfirmedAgo: Option.Option<Duration.Duration>
}

/**
 * A leader, as it is seen from outside.
 *
 * @category models
 * @since 0.1.0
 */
export interface LeaderInfo {
  /** The name of the process that leads: its locker's option `holder`. */
  readonly holder: string
  /** The option `metadata` with which it stands. Empty if it gave none. */
  readonly metadata: Readonly<Record<string, string>>
  /** The number of its term, which is its fencing token. A later leader has a larger one. */
  readonly term: bigint
  /** Since when it leads, by the backend's clock. `None` if the backend does not know, as on etcd. */
  readonly since: Option.Option<DateTime.Utc>
}

/** What the caller must provide: a locker, and what the program needs besides the lease and its scope. */
type Needs<R> = Locker | Outside<R>

/**
 * Runs a program as the leader of a fleet: waits until it is elected, runs the program, and stands again when the
 * leadership is lost, until the program has ended by itself.
 *
 * **Details**
 *
 * It waits without limit. While the backend does not answer it keeps standing, and the outage is logged once.
 *
 * - The program succeeds: it releases the lock and returns the value. Another process that stands leads next.
 * - The program fails: it releases the lock and fails with that error. `Effect.retry` makes it stand again.
 * - The leadership is lost: the program is interrupted, and when it has ended this process stands again, as the last in the
 *   queue. With `restart: "never"` it fails with `OwnershipLost` instead. If the program fails by itself meanwhile, that
 *   failure is kept and the loss is added to the cause.
 * - The call is interrupted: the program is interrupted while the lock is still renewed, and the lock is released when the
 *   program has ended. The next one leads at once, and never beside it.
 *
 * The program is an effect, or a function that takes the lease. It runs in a scope of its own, which closes before the
 * lock is released. It may run several times in one call, once for each term.
 *
 * Besides with the errors of the program it fails with what no later attempt could mend, such as an invalid option, a
 * locker that has closed, or a backend that refuses the request.
 *
 * **Gotchas**
 *
 * A process that is paused does not notice that another one leads. Let each write of the leader carry the term, which is
 * `lease.fencingToken`, and let the resource refuse a smaller one.
 *
 * **Example** (A consumer that one process runs)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Leader, Lease, Locker } from "effect-dlock"
 *
 * declare const nextBatch: Effect.Effect<ReadonlyArray<string>>
 * declare const write: (batch: ReadonlyArray<string>, fence: bigint) => Effect.Effect<void>
 *
 * const consume = Effect.gen(function*() {
 *   const { fencingToken } = yield* Lease
 *   return yield* Effect.forever(Effect.flatMap(nextBatch, (batch) => write(batch, fencingToken)))
 * })
 *
 * const program = Leader.run("consumer", consume, { ttl: "10 seconds" }).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const run: {
  /** Runs the piped program as the leader. */
  (name: string, options?: LeaderOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<A, E | TryError | OwnershipLost, Needs<R>>
  /** Runs a program as the leader. */
  <A, E, R>(
    name: string,
    program: Program<A, E, R>,
    options?: LeaderOptions
  ): Effect.Effect<A, E | TryError | OwnershipLost, Needs<R>>
} = callForms(
  1,
  (name, program: Program<any, any, any>, options: LeaderOptions | undefined) =>
    withEngine((engine) =>
      Effect.flatMap(
        Options.parse(engine.settings, name, options),
        (terms) => runAsLeader(engine, { name, program, terms })
      )
    )
)

/**
 * A layer that runs a program as the leader, in the background, for as long as the layer lives.
 *
 * **When to use**
 *
 * Use for a background service of which a fleet needs one. It has the shape of `Singleton.make` of Effect Cluster.
 *
 * **Details**
 *
 * A program that fails is logged as an error, and this process stands again after a pause, which grows from 1 to 30
 * seconds. Meanwhile another process leads. A program that succeeds is not run again by this layer.
 *
 * The layer does not wait for an election. When its scope closes, the program is interrupted, and the lock is released
 * when the program has ended. Build it on top of the locker's layer, so that the locker closes after it.
 *
 * **Gotchas**
 *
 * An invalid name or option is a defect of the layer.
 *
 * **Example** (A background service)
 *
 * ```ts
 * import { Effect, Layer, Schedule } from "effect"
 * import { Leader, Locker } from "effect-dlock"
 *
 * declare const report: Effect.Effect<void>
 *
 * const ReporterLive = Leader.layer("reporter", report.pipe(Effect.repeat(Schedule.spaced("1 minute"))), {
 *   metadata: { url: "http://10.0.0.7:8080" }
 * })
 *
 * const program = Layer.launch(ReporterLive.pipe(Layer.provide(Locker.layerMemory)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <A, E, R>(
  name: string,
  program: Program<A, E, R>,
  options?: LeaderOptions
): Layer.Layer<never, never, Needs<R>> =>
  Layer.effectDiscard(
    withEngine((engine) =>
      Effect.flatMap(
        Effect.orDie(Options.parse(engine.settings, name, options)),
        (terms) => Effect.forkScoped(supervise(engine, { name, program, terms }))
      )
    )
  )

/**
 * Steps down as the leader, from within the program: interrupts it, releases the lock when it has ended, and stands again
 * after the `cooldown`. With `restart: "never"` the call of `Leader.run` fails with `OwnershipLost`, whose reason is
 * `Revoked`.
 *
 * **Details**
 *
 * It never returns. Inside the sections of other locks it resigns from the leadership that encloses them. Under a lock that
 * is no leadership it is a defect.
 *
 * **Example** (Hand over before the nightly maintenance of this machine)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Leader, Locker } from "effect-dlock"
 *
 * declare const serve: Effect.Effect<never>
 * declare const maintenance: Effect.Effect<void>
 *
 * const program = Leader.run(
 *   "coordinator",
 *   Effect.raceFirst(serve, Effect.andThen(maintenance, Leader.resign)),
 *   { cooldown: "10 minutes" }
 * ).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const resign: Effect.Effect<never, never, Lease> = resignFrom

/**
 * What this process does for a leadership. It sends nothing, so a probe can ask it as often as it likes.
 *
 * **When to use**
 *
 * Use in the liveness probe of a service. `lost` for longer than the program needs to end is a reason to restart the
 * process. Standing is none: a candidate is well.
 *
 * **Details**
 *
 * It knows what runs through this locker. Of several candidates under one name, one that is `lost` counts before one that
 * leads, and one that leads before one that stands.
 *
 * **Example** (A liveness probe)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Leader } from "effect-dlock"
 *
 * const livez = Effect.map(Leader.status("reporter"), ({ state }) => state === "lost" || state === "idle" ? 503 : 200)
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const status = (name: string): Effect.Effect<LeaderStatus, never, Locker> =>
  withEngine((engine) => Effect.sync(() => statusOf(engine, name)))

/**
 * Who leads: at once, and then each time that somebody else leads, or nobody. It never tells the same twice in a row.
 *
 * **When to use**
 *
 * Use to route requests to the leader, by the `metadata` that it stands with, or to show who leads.
 *
 * **Details**
 *
 * `None` says that nobody leads: nobody has been elected, the leader has released the lock, or its lock has run out. It
 * is told whenever that lasts for a second. A shorter time without a leader may be left out.
 *
 * While the backend does not answer, the last value stands. The stream fails only with what no later attempt could mend.
 *
 * **Gotchas**
 *
 * It tells what was so a moment ago. A leader that has died leads until its lock has run out, and a leader that is cut off
 * from the backend may still run. Only the term, compared by the resource, tells an old leader from the new one.
 *
 * **Example** (Show who leads)
 *
 * ```ts
 * import { Effect, Option, Stream } from "effect"
 * import { Leader, Locker } from "effect-dlock"
 *
 * const program = Leader.observe("reporter").pipe(
 *   Stream.runForEach(Option.match({
 *     onNone: () => Effect.log("nobody leads"),
 *     onSome: ({ holder, term }) => Effect.log(`${holder} leads in term ${term}`)
 *   })),
 *   Effect.provide(Locker.layerMemory)
 * )
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const observe = (
  name: string
): Stream.Stream<Option.Option<LeaderInfo>, LockBackendError | InvalidLockRequest, Locker> =>
  Stream.unwrap(
    withEngine((engine) =>
      Effect.succeed(
        Stream.map(engine.admin.watchKey(name, changesOfLeader), (state) => Option.map(leaderIn(state), infoOf))
      )
    )
  )

/**
 * Who leads now. `None` if nobody does.
 *
 * **Gotchas**
 *
 * It is old when it arrives, like `Locker.inspect`. Never decide by it whether to do the leader's work.
 *
 * **Example** (Ask the leader)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Leader } from "effect-dlock"
 *
 * const address = Effect.map(Leader.current("reporter"), Option.map(({ metadata }) => metadata["url"]))
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const current = (
  name: string
): Effect.Effect<Option.Option<LeaderInfo>, LockBackendError | InvalidLockRequest, Locker> =>
  withEngine((engine) => Effect.map(engine.admin.inspect(name), (state) => Option.map(leaderIn(state), infoOf)))

const infoOf = ({ holder, metadata, since, token }: HolderInfo): LeaderInfo => ({
  holder,
  metadata,
  term: token,
  since
})

const withEngine = <A, E, R>(use: (engine: Engine.Engine) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Locker> =>
  Effect.flatMap(Effect.flatMap(Locker, Engine.of), use)
