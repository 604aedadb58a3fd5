import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer, References, Stream } from "effect"
import { RedisLockStore } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { type Claim, LockStore } from "effect-dlock/LockStore"
import type { Redis } from "ioredis"
import { createHash, randomBytes } from "node:crypto"
import * as Scripts from "../src/internal/protocol/index.ts"
import { keysOf } from "../src/internal/protocol/keys.ts"
import { run } from "./model/real.ts"
import { eventually, plainClient, server, within } from "./support.ts"

type Options = Parameters<typeof RedisLockStore.layer>[0]

const prefix = "dlock:"

const claimOn = (name: string, claim: Partial<Claim> = {}): Claim => ({
  id: randomBytes(17).toString("base64url").slice(0, 22),
  key: prefix + name,
  prefix,
  kind: "mutex",
  permits: 1,
  capacity: 1,
  ttl: Duration.seconds(30),
  guardGap: Duration.seconds(3),
  holder: "me",
  ...claim
})

const on = (name: string) => ({ key: prefix + name, prefix })

/** One more client of a server: a store and what administers its locks. */
const clientOf = (options: Options) =>
  Layer.build(Layer.fresh(RedisLockStore.layer(options))).pipe(
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.map((context) => ({ store: Context.get(context, LockStore), admin: Context.get(context, LockAdmin) }))
  )

/** A server for the test alone, with a plain client and one of ours. */
const setting = (options: Partial<Options> = {}) =>
  Effect.gen(function*() {
    const { url } = yield* server
    return { url, redis: yield* plainClient(url), ...yield* clientOf({ url, ...options } as Options) }
  })

const hold = (store: LockStore["Service"], claim: Claim): Effect.Effect<bigint, unknown> =>
  Effect.map(
    store.request(claim, "try"),
    (answer) => answer._tag === "Granted" ? answer.fencingToken : assert.fail(answer._tag)
  )

/** Every key with its value as the server writes it to a file. */
const dump = (redis: Redis): Effect.Effect<ReadonlyMap<string, string>> =>
  Effect.promise(async () => {
    const keys = (await redis.keys("*")).sort()
    const values = await Promise.all(keys.map(async (key) => (await redis.dumpBuffer(key))!.toString("base64")))
    return new Map(keys.map((key, index) => [key, values[index]!]))
  })

const keysFound = (admin: LockAdmin["Service"], beginning = "") =>
  Effect.map(
    Stream.runCollect(admin.list({ key: prefix + beginning, prefix })),
    (states) => states.map(({ key }) => key).sort()
  )

const foreignTokenOf = (value: string): bigint =>
  BigInt(`0x${createHash("sha1").update(value).digest("hex").slice(0, 13)}`)

describe("what Redis tells of a lock", () => {
  it.live("since when it is held: the token is that moment, unless the counter was ahead of the clock", () =>
    Effect.gen(function*() {
      const { admin, redis, store } = yield* setting()
      const before = Date.now()
      const token = yield* hold(store, claimOn("a"))
      const { holders: [a], lastToken } = yield* admin.inspect(on("a"))
      assert.isTrue(a!.since! >= before - 1 && a!.since! <= Date.now())
      assert.strictEqual(lastToken, token)
      const ahead = (BigInt(Date.now()) + 60_000n) * 1_000n
      yield* Effect.promise(() => redis.set(keysOf(`${prefix}b`)!.counter, String(ahead)))
      yield* hold(store, claimOn("b"))
      const { holders: [b] } = yield* admin.inspect(on("b"))
      assert.deepStrictEqual([b!.token, b!.since], [ahead + 1n, undefined])
    }).pipe(Effect.scoped))

  it.live("a client of another library, whose value stays secret, which may hold it without an end", () =>
    Effect.gen(function*() {
      const { admin, redis, store } = yield* setting()
      for (const [name, value, px] of [["a", "a secret", undefined], ["b", "", 60_000]] as const) {
        yield* Effect.promise(() =>
          px === undefined ? redis.set(prefix + name, value) : redis.set(prefix + name, value, "PX", px)
        )
        const state = yield* admin.inspect(on(name))
        const { expiresIn, ...holder } = state.holders[0]!
        const token = foreignTokenOf(value)
        const expected = { holder: "", token, permits: 1, since: undefined, isForeign: true, isRevoked: false }
        assert.deepStrictEqual(holder, expected)
        if (px === undefined) assert.strictEqual(expiresIn, Infinity)
        else assert.isTrue(expiresIn! > 50_000 && expiresIn! <= px)
        assert.deepStrictEqual([state.kind, state.capacity, state.holderCount], ["mutex", 1, 1])
        const before = yield* dump(redis)
        assert.strictEqual(yield* admin.revoke(on(name), { token, grace: 0, by: "me" }), "foreign")
        assert.isFalse(yield* admin.breakLock(on(name), token + 1n))
        // The script compares too, because another client may have come in between.
        const args = { keys: keysOf(prefix + name)!, id: undefined, token: token + 1n, interop: false }
        const { isBroken } = yield* Effect.promise(() => run(redis, Scripts.breakHold, args))
        assert.isFalse(isBroken)
        assert.deepStrictEqual(yield* dump(redis), before)
        const waiting = yield* store.request(claimOn(name), "queue")
        assert.isTrue(yield* admin.breakLock(on(name), token))
        const granted = waiting._tag === "Queued" ? yield* within(waiting.granted, 1_000) : assert.fail(waiting._tag)
        assert.strictEqual(granted._tag, "Granted")
      }
    }).pipe(Effect.scoped))

  it.live("nothing of what is dead: expired permits, and waiters whose places are over", () =>
    Effect.gen(function*() {
      const { admin, store } = yield* setting()
      const shape = { kind: "semaphore", capacity: 4 } as const
      const short = { ttl: Duration.millis(300), guardGap: Duration.millis(30) }
      yield* hold(store, claimOn("s", { ...shape, permits: 2, ...short }))
      yield* hold(store, claimOn("s", { ...shape, permits: 1, holder: "stays" }))
      const redisOf = keysOf(`${prefix}s`)!
      assert.deepStrictEqual((yield* admin.inspect(on("s"))).permitsHeld, 3)
      yield* Effect.sleep(400)
      const state = yield* admin.inspect({ key: redisOf.lock, prefix })
      assert.deepStrictEqual([state.holderCount, state.permitsHeld, state.holders.map(({ holder }) => holder)], [1, 1, [
        "stays"
      ]])
    }).pipe(Effect.scoped))

  it.live("an error that says so, where a key holds data of another type", () =>
    Effect.gen(function*() {
      const { admin, redis } = yield* setting()
      yield* Effect.promise(() => redis.hset(`${prefix}h`, "a", "1"))
      yield* Effect.promise(() => redis.set(keysOf(`${prefix}q`)!.queue, "text"))
      yield* Effect.promise(() => redis.set(keysOf(`${prefix}n`)!.totals, "9|of a later version"))
      for (const [name, words] of [["h", /WRONGTYPE/], ["q", /WRONGTYPE/], ["n", /newer|DLOCKNEWER/]] as const) {
        const error = yield* Effect.flip(admin.inspect(on(name)))
        assert.deepStrictEqual([error.operation, error.retryable], ["inspect", false])
        assert.match(error.message, words)
      }
      const error = yield* Effect.flip(admin.revoke(on("h"), { token: 1n, grace: 0, by: "me" }))
      assert.match(error.message, /WRONGTYPE/)
    }).pipe(Effect.scoped))
})

describe("a token of another hold", () => {
  it.live("changes no key, whatever holds the lock", () =>
    Effect.gen(function*() {
      const { admin, redis, store } = yield* setting()
      const shape = { kind: "semaphore", capacity: 4, permits: 1 } as const
      const tokens = [
        yield* hold(store, claimOn("m")),
        yield* hold(store, claimOn("s", shape)),
        yield* hold(store, claimOn("s", shape))
      ]
      yield* store.request(claimOn("m"), "queue")
      yield* store.request(claimOn("s", { ...shape, permits: 4 }), "queue")
      const before = yield* dump(redis)
      for (const name of ["m", "s", "free"]) {
        const own = name === "m" ? tokens.slice(0, 1) : name === "s" ? tokens.slice(1) : []
        const wrong = [0n, 1n, -1n, ...tokens.flatMap((token) => [token, token + 1n, token - 1n])]
          .filter((token) => !own.includes(token))
        for (const token of wrong) {
          assert.strictEqual(yield* admin.revoke(on(name), { token, grace: 0, by: "me" }), "notHeld")
          assert.isFalse(yield* admin.breakLock(on(name), token))
        }
      }
      assert.deepStrictEqual(yield* dump(redis), before)
    }).pipe(Effect.scoped))

  it.live(
    "is told from that of the right one among a thousand holders, in short scripts",
    () =>
      Effect.gen(function*() {
        const { admin, redis, store } = yield* setting()
        const shape = { kind: "semaphore", capacity: 1_000, permits: 1 } as const
        const tokens = yield* Effect.forEach(
          Array.from({ length: 1_000 }),
          () => hold(store, claimOn("s", shape)),
          { concurrency: 50 }
        )
        yield* Effect.promise(() => redis.config("SET", "slowlog-log-slower-than", "5000"))
        yield* Effect.promise(() => redis.slowlog("RESET"))
        for (const token of [tokens[0]!, tokens[500]!, tokens[999]!]) {
          assert.strictEqual(yield* admin.revoke(on("s"), { token, grace: 60_000, by: "me" }), "asked")
        }
        assert.strictEqual(yield* admin.revoke(on("s"), { token: 7n, grace: 60_000, by: "me" }), "notHeld")
        assert.isTrue(yield* admin.breakLock(on("s"), tokens[700]!))
        const state = yield* admin.inspect(on("s"))
        assert.deepStrictEqual([state.holderCount, state.permitsHeld, state.holders.length], [999, 999, 100])
        assert.deepStrictEqual(yield* Effect.promise(() => redis.slowlog("GET")), [])
      }).pipe(Effect.scoped),
    30_000
  )
})

describe("observers of a lock on Redis", () => {
  it.live("are told by the server, which forgets them when they no longer ask", () =>
    Effect.gen(function*() {
      const { admin, redis, url } = yield* setting()
      const another = yield* clientOf({ url })
      const { observers } = keysOf(`${prefix}k`)!
      const seen = { one: 0, two: 0 }
      const counting = (name: "one" | "two") =>
        Effect.forkScoped(Stream.runForEach(admin.changes!(on("k")), () => Effect.sync(() => void seen[name]++)))
      const [one, two] = [yield* counting("one"), yield* counting("two")]
      const registered = (count: number) => async () => await redis.zcard(observers) === count
      yield* eventually("it is registered", registered(1))
      const claim = claimOn("k")
      yield* hold(another.store, claim)
      yield* eventually("both are told", async () => seen.one > 0 && seen.two > 0, 1_000)
      const life = yield* Effect.promise(() => redis.pttl(observers))
      assert.isTrue(life > 5_000 && life <= 15_000)
      const told = { ...seen }
      yield* Fiber.interrupt(one)
      assert.isTrue(yield* Effect.promise(registered(1)))
      yield* another.store.withdraw(claim)
      yield* eventually("the other one is told", async () => seen.two > told.two, 1_000)
      assert.strictEqual(seen.one, told.one)
      yield* Fiber.interrupt(two)
      yield* eventually("it is forgotten", registered(0))

      // As many as a step tells, and no more. Those that no longer ask make room.
      const register = (inbox: string, time = 60_000) =>
        run(redis, Scripts.observe, { keys: keysOf(`${prefix}k`)!, inbox, time, isCounted: true })
      const listener = yield* plainClient(url)
      const inboxes = Array.from({ length: 64 }, (_, index) => `i${index}`)
      yield* Effect.promise(() => listener.subscribe("late", ...inboxes))
      for (let index = 0; index < 64; index++) assert.isTrue(yield* Effect.promise(() => register(`i${index}`)))
      assert.isFalse(yield* Effect.promise(() => register("late")))
      assert.isTrue(yield* Effect.promise(() => register("i7", 1)))
      yield* Effect.sleep(5)
      assert.isTrue(yield* Effect.promise(() => register("late")))
      const published = yield* Effect.promise(async () => {
        await redis.config("RESETSTAT")
        await run(redis, Scripts.acquire, {
          ...claim,
          id: claimOn("k").id,
          keys: keysOf(claim.key)!,
          inbox: "nobody",
          ttl: 1_000,
          guard: 100,
          mode: "try",
          label: ""
        })
        return /cmdstat_publish:calls=(\d+)/.exec(await redis.info("commandstats"))?.[1]
      })
      assert.strictEqual(published, "64")
    }).pipe(Effect.scoped), 30_000)

  it.live("ask often where the server tells as many as it can, and where no message of it can arrive", () =>
    Effect.gen(function*() {
      const { admin, redis } = yield* setting()
      const { observers } = keysOf(`${prefix}k`)!
      const crowd = Array.from({ length: 64 }, (_, index) => [Date.now() + 60_000, `i${index}`]).flat()
      yield* Effect.promise(() => redis.zadd(observers, ...crowd))
      let hints = 0
      yield* Effect.forkScoped(Stream.runForEach(admin.changes!(on("k")), () => Effect.sync(() => void hints++)))
      yield* Effect.sleep("2.2 seconds")
      assert.isAtLeast(hints, 4)
      const keys = keysOf(`${prefix}k2`)!
      const observe = (isCounted: boolean) =>
        Effect.promise(() => run(redis, Scripts.observe, { keys, inbox: "deaf", time: 60_000, isCounted }))
      assert.isFalse(yield* observe(true))
      // In a cluster it may listen to another server.
      assert.isTrue(yield* observe(false))
    }).pipe(Effect.scoped))

  it.live("are told by every step that changes a lock, and by none that does not", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const redis = yield* plainClient(url)
      const listener = yield* plainClient(url)
      const heard: Array<string> = []
      yield* Effect.promise(() => listener.subscribe("observer"))
      listener.on("message", (_, message: string) => heard.push(message))
      const mutex = { kind: "mutex", permits: 1, capacity: 1 } as const
      const semaphore = { kind: "semaphore", permits: 2, capacity: 2 } as const
      for (const [index, shape] of [mutex, semaphore].entries()) {
        const lock = keysOf(`${prefix}${index}`)!
        const times = { ttl: 60_000, guard: 1_000 }
        const script = <Args, Reply>(which: Scripts.Script<Args, Reply>, args: Args) =>
          Effect.promise(() => run(redis, which, args))
        const told = <A>(what: string, isTold: boolean, step: Effect.Effect<A>): Effect.Effect<A> =>
          Effect.gen(function*() {
            yield* script(Scripts.observe, { keys: lock, inbox: "observer", time: 60_000, isCounted: true })
            heard.length = 0
            const reply = yield* step
            // What was published before this comes before it.
            yield* Effect.promise(() => redis.publish("observer", "end"))
            yield* eventually("the end", async () => heard.includes("end"))
            assert.deepStrictEqual(heard, [...(isTold ? [`o:${lock.lock}`] : []), "end"], `${what} ${shape.kind}`)
            return reply
          })
        const acquire = (id: string, args: Partial<Scripts.AcquireArgs> = {}) =>
          script(Scripts.acquire, {
            ...shape,
            ...times,
            keys: lock,
            id,
            inbox: "nobody",
            mode: "queue",
            label: "",
            ...args
          })
        const release = (id: string) =>
          script(Scripts.release, { keys: lock, id, kind: shape.kind, tombstone: false, interop: false })
        const [one, two, three] = [claimOn("").id, claimOn("").id, claimOn("").id]
        yield* told("a grant of a", true, acquire(one))
        yield* told("a repeated request for a", false, acquire(one))
        yield* told("a try that is in vain for a", false, acquire(three, { mode: "try" }))
        yield* told("a claim that waits for a", true, acquire(two))
        yield* told(
          "a refresh of a",
          false,
          script(Scripts.refresh, {
            inbox: "nobody",
            locks: [{ keys: lock, kind: shape.kind, claims: [{ id: two, ...times }] }]
          })
        )
        yield* told("a hand-over of a", true, release(one))
        const { holders: [holder] } = (yield* script(Scripts.inspect, { keys: lock }))!
        const held = { ...shape, ...times, keys: lock, id: two, token: holder!.token }
        yield* told("a renewal of a", false, script(Scripts.renew, { claims: [held] }))
        if (shape.kind === "semaphore") {
          yield* told("a shrink of a", true, script(Scripts.shrink, { ...held, kept: 1 }))
          yield* told("the same shrink of a", false, script(Scripts.shrink, { ...held, kept: 1 }))
        }
        yield* told(
          "a revocation of a",
          true,
          script(Scripts.revoke, { ...held, grace: 1_000, mark: { by: "me" } })
        )
        yield* told(
          "the same revocation of a",
          false,
          script(Scripts.revoke, { ...held, grace: 2_000, mark: { by: "me" } })
        )
        yield* told(
          "an earlier revocation of a",
          true,
          script(Scripts.revoke, { ...held, grace: 100, mark: { by: "me" } })
        )
        yield* told("a broken", true, script(Scripts.breakHold, { ...held, interop: false }))
        yield* told("a release of what is gone of a", false, release(two))
        const wanted = { ...shape, ...times, keys: lock, id: three, label: "" }
        yield* told(
          "a grant with others of a",
          true,
          script(Scripts.acquireAll, { inbox: "nobody", mode: "queue", claims: [wanted] })
        )
        yield* told("a release with others of a", true, script(Scripts.releaseAll, { claims: [wanted] }))
        yield* told("a grant of a", true, acquire(one))
        yield* told("a release of a", true, release(one))
        // An expiry is told by the next step that finds it.
        yield* acquire(claimOn("").id, { ttl: 5, guard: 1 })
        yield* Effect.sleep(20)
        yield* told("a grant after an expiry of a", true, acquire(claimOn("").id))
      }
    }).pipe(Effect.scoped))

  it.live(
    "go on after their connections were lost, and hear that something may have happened",
    () =>
      Effect.gen(function*() {
        const { admin, redis, url } = yield* setting()
        const another = yield* clientOf({ url })
        let seen = 0
        yield* Effect.forkScoped(Stream.runForEach(admin.changes!(on("k")), () => Effect.sync(() => void seen++)))
        const { observers } = keysOf(`${prefix}k`)!
        yield* eventually("it is registered", async () => await redis.zcard(observers) === 1)
        yield* Effect.promise(() => redis.del(observers))
        yield* Effect.promise(() => redis.call("CLIENT", "KILL", "TYPE", "pubsub"))
        yield* eventually("it hears so", async () => seen > 0, 3_000)
        yield* eventually("it is registered again", async () => await redis.zcard(observers) === 1)
        yield* Effect.sleep(100)
        const before = seen
        yield* hold(another.store, claimOn("k"))
        yield* eventually("it is told", async () => seen > before, 1_000)
      }).pipe(Effect.scoped),
    30_000
  )
})

describe("the list of locks on Redis", () => {
  it.live("has locks that only wait or share, and nothing of others, whatever the prefix is made of", () =>
    Effect.gen(function*() {
      const odd = "a*[b]?\\^{t}:"
      const { redis, store, ...rest } = yield* setting({ keyPrefix: odd })
      const shape = { kind: "semaphore", capacity: 2, permits: 2 } as const
      yield* hold(store, claimOn("plain"))
      yield* store.request(claimOn("plain"), "queue")
      yield* hold(store, claimOn("shared", shape))
      yield* store.request(claimOn("shared", shape), "queue")
      // Free, with a counter.
      const gone = claimOn("gone")
      yield* hold(store, gone)
      yield* store.withdraw(gone)
      // A client of another library, one of another type, one with a longer prefix and one that a glob would match.
      yield* Effect.promise(async () => {
        await redis.set(`${odd}dlock:foreign`, "x")
        await redis.hset(`${odd}dlock:hash`, "a", "1")
        await redis.set(`app:${odd}dlock:beside`, "x")
        await redis.set(`aXbY^{t}:dlock:globbed`, "x")
        await redis.set(`${odd}dlock`, "x")
        await redis.set(`dlock:without`, "x")
      })
      // A place in the queue alone: the key of its holder is taken away.
      yield* hold(store, claimOn("waited"))
      yield* store.request(claimOn("waited"), "queue")
      yield* Effect.promise(() => redis.del(`${odd}dlock:waited`))
      const found = yield* keysFound(rest.admin)
      assert.deepStrictEqual(
        Array.from(new Set(found)),
        ["dlock:foreign", "dlock:plain", "dlock:shared", "dlock:waited"].filter((key) => found.includes(key))
      )
      assert.includeMembers(found, ["dlock:foreign", "dlock:plain", "dlock:shared"])
      assert.deepStrictEqual(yield* keysFound(rest.admin, "sh"), ["dlock:shared"])
      assert.strictEqual(found.filter((key) => key === "dlock:plain").length, 1, "once")
    }).pipe(Effect.scoped))

  it.live("is refused to a user who may not read all keys, and everything else is not", () =>
    Effect.gen(function*() {
      const { redis, url } = yield* setting()
      yield* Effect.promise(() => redis.acl("SETUSER", "locker", "on", ">secret", "~*", "&*", "+@all", "-scan"))
      const { admin, store } = yield* clientOf({ url: url.replace("//", "//locker:secret@") })
      const token = yield* hold(store, claimOn("k"))
      const error = yield* Effect.flip(Stream.runDrain(admin.list({ key: prefix, prefix })))
      assert.deepStrictEqual([error.operation, error.retryable], ["list", false])
      assert.match(error.message, /lacks \+scan/)
      assert.strictEqual(yield* admin.revoke(on("k"), { token, grace: 0, by: "me" }), "asked")
    }).pipe(Effect.scoped))
})
