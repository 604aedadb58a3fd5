import { Clock, Context, Duration, Effect, Layer, Logger, References, Scope } from "effect"
import {
  Lease,
  Leases,
  LockAdmin,
  Locker,
  type LockerOptions,
  LockStore,
  MemoryLockStore,
  SharedLease
} from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"

/** A locker of its own over `store`, and `admin` if it has one. */
export const lockerOver = (store: LockStore["Service"], options?: LockerOptions, admin?: LockAdmin["Service"]) => {
  const stores = Context.make(LockStore, store)
  const provided = admin === undefined ? stores : Context.add(stores, LockAdmin, admin)
  return Layer.build(Layer.provide(Locker.layer(options), Layer.succeedContext(provided))).pipe(
    Effect.map(Context.get(Locker))
  )
}

/** A memory, and lockers over it that inspect and revoke its locks. */
export const adminSetting = Effect.fnUntraced(function*(options?: LockerOptions) {
  const memory = yield* MemoryLockStore.makeWithAdmin
  const admin = Context.get(memory, LockAdmin)
  const faulty = yield* FaultyLockStore.make(Context.get(memory, LockStore), admin)
  const locker = yield* lockerOver(faulty.store, { defaultTtl: "9 seconds", ...options }, faulty.admin)
  const sent = (operation: FaultyLockStore.Operation) => faulty.calls.filter((call) => call.operation === operation)
  /** Another process: with a client of its own, and the name of an operator. */
  const operator = yield* lockerOver({ ...Context.get(memory, LockStore) }, {
    defaultTtl: "9 seconds",
    holder: "operator",
    ...options
  }, admin)
  // The faulty store merges two streams of notices, which takes a moment.
  yield* TestClock.adjust(0)
  return { admin, faulty, locker, operator, sent, memory: Context.get(memory, LockStore) }
})

/** A locker over a memory that can be disturbed. */
export const setting = Effect.fnUntraced(function*(options?: LockerOptions) {
  const memory = yield* MemoryLockStore.make
  const faulty = yield* FaultyLockStore.make(memory)
  const locker = yield* lockerOver(faulty.store, { defaultTtl: "9 seconds", ...options })
  const sent = (operation: FaultyLockStore.Operation) => faulty.calls.filter((call) => call.operation === operation)
  return { memory, faulty, locker, sent }
})

/** Forks, and runs up to its first wait. */
export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Runs an effect as another program would: outside the sections and the scope of the caller. */
export const outside = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context) => Context.omit(Lease, Leases, SharedLease, Scope.Scope)(context))

/** A clock that can be pushed ahead without any timer's noticing, as by a blocked event loop or a machine that slept. */
export const shiftedClock = Effect.map(Clock.clockWith(Effect.succeed), (clock) => {
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

/** The same, with a locker that lives by it. */
export const shiftedSetting = Effect.gen(function*() {
  const { clock, shift } = yield* shiftedClock
  const memory = yield* MemoryLockStore.make
  const faulty = yield* FaultyLockStore.make(memory)
  const locker = yield* Effect.provideService(
    lockerOver(faulty.store, { defaultTtl: "9 seconds" }),
    Clock.Clock,
    clock
  )
  return { shift, memory, faulty, locker }
})

export const millis = (effect: Effect.Effect<Duration.Duration>) => Effect.map(effect, Duration.toMillis)

interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Runs an effect with a logger that keeps what it is given. */
export const withLogs = <A, E, R>(body: (lines: ReadonlyArray<Line>) => Effect.Effect<A, E, R>) => {
  const lines: Array<Line> = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    lines.push({
      level: logLevel,
      message: (Array.isArray(message) ? message : [message]).map(String).join(" "),
      annotations: fiber.getRef(References.CurrentLogAnnotations)
    })
  })
  return Effect.provideService(body(lines), References.CurrentLoggers, new Set([logger]))
}
