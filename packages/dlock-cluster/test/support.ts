import { Clock, Context, Duration, Effect, Layer, Logger, Stream } from "effect"
import { LockStore, MemoryLockStore } from "effect-dlock"
import { LockRunnerStorage, type LockRunnerStorageOptions, ShardLocks } from "effect-dlock-cluster"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { FaultyLockStore } from "effect-dlock/testing"
import { Runner, RunnerAddress, RunnerStorage, ShardId, ShardingConfig } from "effect/cluster"

/** The times of most tests: a shard expires 10 seconds after its last renewal, and is refreshed each 3. */
export const times = { shardLockExpiration: "9 seconds", shardLockRefreshInterval: "3 seconds" } as const
export const guardGap = "1 second"
/** After so long without a renewal the backend lets others in. */
export const expiry = Duration.millis(10_000)

/** One memory, in which each process has a storage of its own that can be disturbed. */
export const memory = Effect.map(MemoryLockStore.makeWithAdmin, (context) => ({
  store: Context.get(context, LockStore),
  admin: Context.get(context, LockAdmin)
}))

export interface Memory {
  readonly store: LockStore["Service"]
  readonly admin: LockAdmin["Service"]
}

/** What one process has: its storage, and the faults between it and the memory. */
export const processOn = Effect.fnUntraced(function*(
  { admin, store }: Memory,
  options: LockRunnerStorageOptions & { readonly config?: Partial<ShardingConfig.ShardingConfig["Service"]> } = {}
) {
  const faulty = yield* FaultyLockStore.make(store)
  const { config, ...own } = options
  const warnings: Array<string> = []
  let isAway = false
  const inspect: typeof admin.inspect = (on) => Effect.suspend(() => isAway ? Effect.never : admin.inspect(on))
  const context = yield* Layer.build(Layer.fresh(LockRunnerStorage.layer({ guardGap, ...own }))).pipe(
    Effect.provideService(LockStore, faulty.store),
    Effect.provideService(LockAdmin, { ...admin, inspect }),
    Effect.provide(ShardingConfig.layer({ ...times, ...config })),
    Effect.provide(Logger.layer([Logger.make(({ message }) => void warnings.push(String(message)))]))
  )
  return {
    ...Context.get(context, RunnerStorage.RunnerStorage),
    shardLocks: Context.get(context, ShardLocks),
    context,
    faulty,
    warnings,
    /** Cuts the process off from the memory. */
    cutOff: (how: "hang" | "fail") =>
      Effect.andThen(
        Effect.sync(() => void (isAway = true)),
        Effect.forEach(["request", "renew", "withdraw"] as const, (operation) => faulty[how](operation), {
          discard: true
        })
      ),
    heal: Effect.suspend(() => {
      isAway = false
      return faulty.heal()
    }),
    sent: (operation: FaultyLockStore.Operation) => faulty.calls.filter((call) => call.operation === operation)
  }
})

export type Process = Effect.Success<ReturnType<typeof processOn>>

/** Two processes of one cluster. */
export const two = Effect.gen(function*() {
  const shared = yield* memory
  const one = yield* processOn(shared)
  const other = yield* processOn(shared)
  return { memory: shared, one, other }
})

export const address = (port: number): RunnerAddress.RunnerAddress => RunnerAddress.make("localhost", port)

export const runner = (port: number, weight = 1): Runner.Runner =>
  Runner.make({ address: address(port), groups: ["default"], weight })

export const shards = (...ids: ReadonlyArray<number>): Array<ShardId.ShardId> =>
  ids.map((id) => ShardId.make("default", id))

export const numbers = (ids: ReadonlyArray<ShardId.ShardId>): Array<number> =>
  ids.map(({ id }) => id).toSorted((a, b) => a - b)

/** What is held under a prefix, by everybody. */
export const heldKeys = ({ admin }: Memory, prefix = "cluster/"): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const states = yield* Effect.orDie(Stream.runCollect(admin.list({ key: prefix, prefix })))
    return states.filter(({ holderCount }) => holderCount > 0).map(({ key }) => key.slice(prefix.length)).toSorted()
  })

/** Forks, and runs up to its first wait. */
export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** A clock that can be pushed ahead without any timer's noticing, as by a paused process. */
export const shiftedClock = Effect.map(Clock.Clock, (clock) => {
  const shift = { monotonic: 0, wall: 0 }
  const nanos = (millis: number) => BigInt(millis) * 1_000_000n
  const monotonicTimeNanosUnsafe = () => clock.monotonicTimeNanosUnsafe() + nanos(shift.monotonic)
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + shift.wall
  const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + nanos(shift.wall)
  const shifted: Clock.Clock = {
    monotonicTimeNanosUnsafe,
    monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe),
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    sleep: (duration) => clock.sleep(duration)
  }
  return { shift, clock: shifted }
})
