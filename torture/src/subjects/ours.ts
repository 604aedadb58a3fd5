import { Cause, Context, Duration, Effect, Exit, Layer, Option, References, type Scope, Stream } from "effect"
import {
  type CapacityMismatch,
  DistributedSemaphore,
  type InvalidLockRequest,
  Leader,
  Lease,
  type Leases,
  LockAdmin,
  type LockAlreadyHeld,
  type LockBackendError,
  Locker,
  type LockNotHeld,
  type LockOptions,
  LockStore,
  type LockTimeout,
  Once,
  type OwnershipLost,
  ReadWriteLock,
  type SharedLease,
  type TryLockOptions,
  type WriteLease
} from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { RedisLockStore } from "effect-dlock-redis"
import { Cluster, Redis } from "ioredis"
import { now, type Outcome } from "../events.ts"
import { isExclusive, mutex } from "../lockShape.ts"
import { sectionsName, tally } from "../metrics.ts"
import type { Address, Ask, Asking, Handle, Make, Operator, Subject } from "./subject.ts"

const host = "127.0.0.1"

const urlOf = ({ account, port }: Extract<Address, { readonly kind: "redis" }>) =>
  account === undefined
    ? `redis://${host}:${port}`
    : `redis://${account.user}:${account.password}@${host}:${port}/${account.db}`

/** The store of a backend, in the ways in which programs build it. */
export const storeOf = (address: Address) => {
  switch (address.kind) {
    case "redis":
      return RedisLockStore.layer({ url: urlOf(address), waitReplicas: address.waitReplicas })
    case "sentinel":
      return RedisLockStore.layerClient(
        new Redis({
          sentinels: address.sentinels.map((port) => ({ host, port })),
          name: "dlock",
          natMap: address.natMap,
          lazyConnect: true
        })
      )
    case "cluster":
      return RedisLockStore.layerClient(
        new Cluster(address.nodes.map((port) => ({ host, port })), { natMap: address.natMap, lazyConnect: true })
      )
    case "etcd": {
      const { kind: _, ...options } = address
      return EtcdLockStore.layer(options)
    }
  }
}

type AnyLease = Lease | SharedLease | WriteLease

/** The number of its grant is the fencing token, where that is one. */
const handleOf = (lease: AnyLease, remaining: Duration.Duration, isWriter: boolean): Handle => ({
  token: "fencingToken" in lease ? lease.fencingToken : lease.grant,
  // Who has lost the lock hears of that in another way.
  ...(isWriter && { downgrade: Effect.ignore((lease as WriteLease).downgrade) }),
  revocation: lease.revocation,
  ttl: Duration.toMillis(lease.ttl),
  age: Duration.toMillis(lease.ttl) - Duration.toMillis(remaining),
  holds: Effect.map(Effect.exit(lease.ensureHeld), Exit.isSuccess),
  lost: Effect.map(Effect.flip(lease.lost), ({ lastConfirmedAgo, reason, revocation }) => ({
    reason,
    // Of a locker that has closed, and of a lock that was broken, nobody is told.
    isRevoked: revocation !== undefined,
    ago: Duration.toMillis(lastConfirmedAgo)
  }))
})

type Failure =
  | CapacityMismatch
  | InvalidLockRequest
  | LockAlreadyHeld
  | LockBackendError
  | LockNotHeld
  | LockTimeout
  | OwnershipLost
type Run = (lease: AnyLease) => Effect.Effect<void>

/** The calls of a lock of any kind. */
interface Front {
  readonly hold: (run: Run, options: LockOptions) => Effect.Effect<void, Failure>
  readonly holdIfAvailable: (run: Run, options: TryLockOptions) => Effect.Effect<Option.Option<void>, Failure>
  readonly take: (options: LockOptions) => Effect.Effect<AnyLease, Failure, Scope.Scope>
}

const frontOf = (
  locker: Locker["Service"],
  { key, lock: { capacity, kind, permits } = mutex }: Ask
): Effect.Effect<Front, Failure> => {
  switch (kind) {
    case "mutex":
      return Effect.succeed({
        hold: (run, options) => locker.withLock(key, run, options),
        holdIfAvailable: (run, options) => locker.withLockIfAvailable(key, run, options),
        take: (options) => locker.scoped(key, options)
      })
    case "semaphore":
      return DistributedSemaphore.make(key, { permits: capacity }).pipe(
        Effect.provideService(Locker, locker),
        Effect.map((semaphore) => ({
          hold: (run, options) => semaphore.withPermits(permits, options)(run),
          holdIfAvailable: (run, options) => semaphore.withPermitsIfAvailable(permits, options)(run),
          take: (options) => semaphore.takeScoped(permits, options)
        }))
      )
    case "readWrite":
      return ReadWriteLock.make(key).pipe(
        Effect.provideService(Locker, locker),
        Effect.map((lock): Front =>
          permits === capacity
            ? {
              hold: (run, options) => lock.withWriteLock(run, options),
              holdIfAvailable: (run, options) => lock.withWriteLockIfAvailable(run, options),
              take: lock.writeLock
            }
            : {
              hold: (run, options) => lock.withReadLock(run, options),
              holdIfAvailable: (run, options) => lock.withReadLockIfAvailable(run, options),
              take: lock.readLock
            }
        )
      )
  }
}

/** Several mutexes at once. Each of their leases tells for itself whether it is held. */
const holdAll = (
  locker: Locker["Service"],
  { also = [], guard, key, timeout, ttl, way }: Ask,
  body: (handle: Handle) => Effect.Effect<void>,
  granted: (leases: ReadonlyArray<Lease>) => void
): Effect.Effect<boolean, Failure> => {
  const keys = [key, ...also]
  const options = { ttl, guardGap: guard, name: sectionsName, ...(timeout !== undefined && { timeout }) }
  const run = (leases: Leases): Effect.Effect<void> =>
    Effect.gen(function*() {
      // Inside, each lock has a lease of its own.
      const { members } = leases as Leases & { readonly members: ReadonlyArray<Lease> }
      if (way !== "scoped") granted(members)
      const handles: Array<Handle> = []
      for (const lease of members) handles.push(handleOf(lease, yield* lease.remaining, false))
      const [first, ...others] = handles
      yield* body({ ...first!, others })
    })
  switch (way) {
    case "with":
      return Effect.as(locker.withLocks(keys, run, options), true)
    case "try":
      return Effect.map(
        locker.withLocksIfAvailable(keys, run, { ttl, guardGap: guard, name: sectionsName }),
        Option.isSome
      )
    case "scoped":
      return Effect.scoped(Effect.gen(function*() {
        const leases = yield* locker.scopedAll(keys, options)
        granted((leases as Leases & { readonly members: ReadonlyArray<Lease> }).members)
        yield* leases.whileHeld(run(leases))
        yield* leases.release
        yield* Effect.sleep(5)
        return true
      }))
  }
}

/** The outcome of a call that has ended without a result. */
const settled = (failed: ((why: string) => void) | undefined) => (used: Effect.Effect<Outcome, Failure>) =>
  used.pipe(
    Effect.catchTags({
      OwnershipLost: () => Effect.succeed("lost" as const),
      LockNotHeld: () => Effect.succeed("lost" as const),
      LockTimeout: () => Effect.succeed("timeout" as const),
      LockBackendError: (error) =>
        Effect.sync(() => {
          failed?.(error.message)
          return "backend" as const
        })
    }),
    Effect.orDie,
    // The locker may be closed meanwhile, and interrupts what runs under it. Who asked for it goes on.
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.succeed("interrupted" as const) : Effect.failCause(cause)
    )
  )

const lead =
  (locker: Locker["Service"]): NonNullable<Subject["lead"]> =>
  ({ cooldown, failed, guard, healthy, name, restart, ttl }, program) =>
    Leader.run(
      name,
      (lease) =>
        Effect.flatMap(lease.remaining, (remaining) =>
          program({
            ...handleOf(lease, remaining, false),
            resign: Effect.provideService(Leader.resign, Lease, lease)
          })),
      { ttl, guardGap: guard, cooldown, healthy, restart }
    ).pipe(Effect.provideService(Locker, locker), Effect.as("done" as const), settled(failed))

/** What an operator does through a locker, and what its store answers. */
const operatorOf = (locker: Locker["Service"], onAsked: Operator["onAsked"]): Operator => ({
  inspect: locker.inspect,
  list: Stream.runCollect(locker.list()),
  revoke: locker.revoke,
  breakLock: (key, token) => locker.breakLock(key, { token }),
  onAsked
})

export const subjectOf = (locker: Locker["Service"], onAsked: Operator["onAsked"] = () => {}): Subject => ({
  operator: operatorOf(locker, onAsked),
  lead: lead(locker),
  observe: (name) =>
    Leader.observe(name).pipe(
      Stream.map((leader) => Option.getOrUndefined(leader)?.term),
      Stream.catchTag("InvalidLockRequest", Stream.die),
      Stream.provideService(Locker, locker)
    ),
  once: ({ counts, key, slot, ttl }, run) =>
    Effect.provideService(Once.slot(key, slot, run, { counts, ttl }), Locker, locker),
  hold: (ask, body) => {
    const { also = [], failed, guard, lock = mutex, timeout, ttl, way } = ask
    const options = { ttl, guardGap: guard, name: sectionsName, ...(timeout !== undefined && { timeout }) }
    const isWriter = lock.kind === "readWrite" && isExclusive(lock)
    let isGranted = false
    const granted = (leases: ReadonlyArray<AnyLease>) => {
      isGranted = true
      tally.granted(leases)
    }
    const run: Run = (lease) =>
      Effect.flatMap(lease.remaining, (remaining) => body(handleOf(lease, remaining, isWriter)))
    const counted: Run = (lease) =>
      Effect.suspend(() => {
        granted([lease])
        return run(lease)
      })
    const use = ({ hold, holdIfAvailable, take }: Front): Effect.Effect<boolean, Failure> =>
      way === "with"
        ? Effect.as(hold(counted, options), true)
        : way === "try"
        ? Effect.map(holdIfAvailable(counted, { ttl, guardGap: guard, name: sectionsName }), Option.isSome)
        : Effect.scoped(Effect.gen(function*() {
          const lease = yield* take(options)
          granted([lease])
          yield* lease.whileHeld(run(lease))
          // Early: its scope has something else to do.
          yield* lease.release
          yield* Effect.sleep(5)
          return true
        }))
    const used = ask.also === undefined
      ? Effect.flatMap(frontOf(locker, ask), use)
      : holdAll(locker, ask, body, granted)
    const ended = Effect.onExit(used, (exit) => Effect.sync(() => tally.ended(1 + also.length, isGranted, exit)))
    return ended.pipe(Effect.map((got) => got ? "done" as const : "busy" as const), settled(failed))
  }
})

type Store = LockStore["Service"]

/** Tells each answer to a request that a holder leaves, also of those that were given up. */
const overheard = (admin: LockAdmin["Service"], told: (asking: Asking) => void): LockAdmin["Service"] => ({
  ...admin,
  revoke: (on, request) =>
    Effect.suspend(() => {
      const from = now()
      return Effect.onExit(admin.revoke(on, request), (exit) =>
        Effect.sync(() =>
          told({
            key: on.key.slice(on.prefix.length),
            token: request.token,
            grace: request.grace,
            from,
            at: now(),
            answer: Exit.isSuccess(exit) ? exit.value : "unknown"
          })
        ))
    })
})

/** A locker of ours whose store may be tampered with: what a known-bad variant is. */
export const overStore =
  (tamper: (store: Store, address: Address) => Effect.Effect<Store, never, Scope.Scope>): Make => (address) =>
    Effect.gen(function*() {
      let tell: (asking: Asking) => void = () => {}
      const store = Layer.effectContext(
        Effect.gen(function*() {
          const tampered = yield* tamper(yield* LockStore, address)
          const admin = overheard(yield* LockAdmin, (asking) => tell(asking))
          return Context.add(Context.make(LockStore, tampered), LockAdmin, admin)
        })
      ).pipe(Layer.provide(storeOf(address)))
      const context = yield* Layer.build(Layer.provide(Locker.layer(), store))
      return subjectOf(Context.get(context, Locker), (told) => {
        tell = told
      })
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

export const ours: Make = overStore(Effect.succeed)
