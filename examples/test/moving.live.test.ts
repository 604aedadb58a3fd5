// What docs/moving.md says, with a resource that remembers the newest token it has seen.
import { assert, describe, it } from "@effect/vitest"
import { startEtcd, startRedis } from "dlock-testing"
import { Context, Effect, Layer, Ref } from "effect"
import { Locker } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"
import { RedisLocker } from "effect-dlock-redis"

const stopped = <A extends { readonly stop: () => Promise<void> }>(start: () => Promise<A>) =>
  Effect.acquireRelease(Effect.promise(start), (one) => Effect.promise(() => one.stop()))

const servers = Effect.gen(function*() {
  const redis = yield* stopped(() => startRedis())
  const etcd = yield* stopped(() => startEtcd())
  const build = <E>(layer: Layer.Layer<Locker, E>) =>
    Effect.map(Layer.build(Layer.fresh(layer)), (context) => Context.get(context, Locker))
  const above = (moreMillis: number) =>
    EtcdLocker.raiseTokenEpoch({ hosts: etcd.url, above: BigInt(Date.now() + moreMillis) * 1_000n })
  return {
    above,
    onRedis: build(RedisLocker.layer({ url: redis.url })),
    onEtcd: build(EtcdLocker.layer({ hosts: etcd.url }))
  }
})

const makeFence = Effect.map(Ref.make(0n), (newest) => ({
  /** Whether it takes the write. */
  visit: (token: bigint) => Ref.modify(newest, (seen) => [token >= seen, token >= seen ? token : seen])
}))

describe("a move", () => {
  it.live(
    "to etcd: a fence that has seen tokens of Redis takes every write after the raise, and none before it",
    () =>
      Effect.gen(function*() {
        const { above, onEtcd, onRedis } = yield* servers
        const redis = yield* onRedis
        const etcd = yield* onEtcd
        const fences = { a: yield* makeFence, b: yield* makeFence }
        const write = ({ withLock }: Locker["Service"], key: keyof typeof fences) =>
          withLock(key, ({ fencingToken }) => fences[key].visit(fencingToken))
        const late = yield* redis.withLock("a", ({ fencingToken }) => Effect.succeed(fencingToken))
        for (const key of ["a", "b"] as const) {
          for (let nth = 0; nth < 5; nth++) assert.isTrue(yield* write(redis, key))
          // Once moved without a raise it refuses every one, for ever.
          for (let nth = 0; nth < 5; nth++) assert.isFalse(yield* write(etcd, key))
        }
        yield* above(3_000)
        const another = yield* onEtcd
        for (let nth = 0; nth < 20; nth++) {
          for (const locker of [etcd, another]) assert.isTrue(yield* write(locker, nth % 2 === 0 ? "a" : "b"))
        }
        // Who held a lock of Redis and comes late.
        assert.isFalse(yield* fences.a.visit(late))

        // And back: once the clock has passed the tokens of etcd, which were raised three seconds above it.
        assert.isFalse(yield* write(yield* onRedis, "b"))
        yield* Effect.sleep("3500 millis")
        for (const key of ["a", "b"] as const) {
          for (let nth = 0; nth < 5; nth++) assert.isTrue(yield* write(redis, key))
        }
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "without a stop: nobody is inside beside another, and tokens do not fall from the second step to the third",
    () =>
      Effect.gen(function*() {
        const { above, onEtcd, onRedis } = yield* servers
        yield* above(60_000)
        const fence = yield* makeFence
        let inside = 0
        let sections = 0
        const act = (token?: bigint) =>
          Effect.gen(function*() {
            assert.strictEqual(++inside, 1)
            if (token !== undefined) assert.isTrue(yield* fence.visit(token))
            yield* Effect.sleep("3 millis")
            inside--
            sections++
          })
        const old = Effect.map(onRedis, ({ withLock }) => withLock("k", act()))
        const both = Effect.gen(function*() {
          const [redis, etcd] = [yield* onRedis, yield* onEtcd]
          return redis.withLock("k", etcd.withLock("k", ({ fencingToken }) => act(fencingToken)))
        })
        const alone = Effect.map(onEtcd, ({ withLock }) => withLock("k", ({ fencingToken }) => act(fencingToken)))
        for (const generations of [[old, old, both], [old, both, both], [both, both, alone], [both, alone, alone]]) {
          yield* Effect.forEach(
            generations,
            (section) => Effect.flatMap(section, Effect.repeat({ times: 19 })),
            { concurrency: "unbounded", discard: true }
          )
        }
        assert.strictEqual(sections, 4 * 3 * 20)
      }).pipe(Effect.scoped),
    60_000
  )
})
