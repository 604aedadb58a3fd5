import { Cause, Context, Duration, Effect, Exit, Layer, Option, References, type Scope } from "effect"
import { type Lease, Locker, LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { RedisLockStore } from "effect-dlock-redis"
import { Cluster, Redis } from "ioredis"
import type { Address, Handle, Make, Subject } from "./subject.ts"

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

const handleOf = (lease: Lease, remaining: Duration.Duration): Handle => ({
  token: lease.fencingToken,
  ttl: Duration.toMillis(lease.ttl),
  age: Duration.toMillis(lease.ttl) - Duration.toMillis(remaining),
  holds: Effect.map(Effect.exit(lease.ensureHeld), Exit.isSuccess),
  lost: Effect.map(Effect.flip(lease.lost), ({ lastConfirmedAgo, reason }) => ({
    reason,
    ago: Duration.toMillis(lastConfirmedAgo)
  }))
})

export const subjectOf = (locker: Locker["Service"]): Subject => ({
  hold: ({ failed, guard, key, timeout, ttl, way }, body) => {
    const options = { ttl, guardGap: guard, ...(timeout !== undefined && { timeout }) }
    const run = (lease: Lease) => Effect.flatMap(lease.remaining, (remaining) => body(handleOf(lease, remaining)))
    const held = way === "with"
      ? Effect.as(locker.withLock(key, run, options), true)
      : way === "try"
      ? Effect.map(locker.withLockIfAvailable(key, run, { ttl, guardGap: guard }), Option.isSome)
      : Effect.scoped(Effect.gen(function*() {
        const lease = yield* locker.scoped(key, options)
        yield* lease.whileHeld(run(lease))
        // Early: its scope has something else to do.
        yield* lease.release
        yield* Effect.sleep(5)
        return true
      }))
    return held.pipe(
      Effect.map((got) => got ? "done" as const : "busy" as const),
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
  }
})

type Store = LockStore["Service"]

/** A locker of ours whose store may be tampered with: what a known-bad variant is. */
export const overStore =
  (tamper: (store: Store, address: Address) => Effect.Effect<Store, never, Scope.Scope>): Make => (address) =>
    Effect.gen(function*() {
      const store = Layer.effect(
        LockStore,
        Effect.flatMap(Effect.service(LockStore), (store) => tamper(store, address))
      ).pipe(Layer.provide(storeOf(address)))
      const context = yield* Layer.build(Layer.provide(Locker.layer(), store))
      return subjectOf(Context.get(context, Locker))
    }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

export const ours: Make = overStore(Effect.succeed)
