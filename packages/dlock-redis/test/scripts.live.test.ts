import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { type Server, startRedis } from "dlock-testing"
import type { LockKind } from "effect-dlock"
import { readWriteCapacity } from "effect-dlock/LockStore"
import { Redis } from "ioredis"
import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import * as Scripts from "../src/internal/protocol/index.ts"
import { keysOf, type LockKeys } from "../src/internal/protocol/keys.ts"
import { claimsPerCall, sharedClaimWeight } from "../src/internal/store/queueGroup.ts"
import { readState, run } from "./model/real.ts"
import { walk } from "./model/walk.ts"
import { walkSeveral } from "./model/walkSeveral.ts"

// A server for this file alone: these tests flush scripts and data, change users and read counters.
let server: Server
let redis: Redis
let subscriber: Redis

beforeAll(async () => {
  server = await startRedis()
  redis = new Redis(server.port)
  subscriber = new Redis(server.port).setMaxListeners(0)
}, 60_000)

afterAll(async () => {
  redis.disconnect()
  subscriber.disconnect()
  await server.stop()
})

const newId = (): string => randomBytes(17).toString("base64url").slice(0, 22)

const lockOf = (name: string): LockKeys => keysOf(name) ?? assert.fail(`no common slot: ${name}`)

let count = 0
const newLock = (): LockKeys => lockOf(`lock-${++count}`)

interface Wanted {
  readonly inbox?: string
  readonly ttl?: number
  readonly guard?: number
  readonly kind?: LockKind
  readonly permits?: number
  readonly capacity?: number
  readonly isStrict?: boolean
  readonly mode?: "queue" | "try"
  readonly label?: string
  readonly inside?: ReadonlyArray<string>
}

/** A capacity above 1 is that of a semaphore, unless a test says something else. */
const kindFor = (capacity = 1): LockKind => capacity === 1 ? "mutex" : "semaphore"

const acquire = (keys: LockKeys, id: string, wanted: Wanted = {}, client = redis) =>
  run(client, Scripts.acquire, {
    keys,
    id,
    inbox: "nobody",
    ttl: 10_000,
    guard: 1_000,
    kind: kindFor(wanted.capacity),
    permits: 1,
    capacity: 1,
    mode: "queue",
    label: "",
    ...wanted
  })

const refresh = async (keys: LockKeys, id: string, wanted: Wanted = {}) => {
  const { capacity, guard = 1_000, inbox = "nobody", kind = kindFor(capacity), ttl = 10_000 } = wanted
  const [reply] = await run(redis, Scripts.refresh, {
    inbox,
    locks: [{ keys, kind, claims: [{ id, ttl, guard }] }]
  })
  if (reply?._tag !== "Refreshed") throw new Error(reply?.message)
  return reply.claims[0] ?? assert.fail("no reply")
}

/** Moves the queue on, and returns whether there is more to do. */
const moveOn = async (keys: LockKeys): Promise<boolean> => {
  const [reply] = await run(redis, Scripts.refresh, { inbox: "nobody", locks: [{ keys, kind: "mutex", claims: [] }] })
  return reply?._tag === "Refreshed" ? reply.more : assert.fail(reply?.message)
}

const release = (
  keys: LockKeys,
  id: string,
  { capacity, ...options }: { readonly tombstone?: boolean; readonly interop?: boolean; readonly capacity?: number } =
    {}
) => run(redis, Scripts.release, { keys, id, kind: kindFor(capacity), tombstone: false, interop: false, ...options })

const one = { kind: "mutex", permits: 1, capacity: 1 } as const

const renew = async (keys: LockKeys, id: string, token: bigint) => {
  const claims = [{ keys, id, token, ttl: 10_000, guard: 1_000, ...one }]
  return (await run(redis, Scripts.renew, { claims }))[0]
}

/** The claims that hold the lock, in the order in which they expire. */
const holders = async (keys: LockKeys): Promise<Array<string>> => {
  const value = await redis.get(keys.lock)
  if (value === null) return redis.zrangebyscore(keys.holders, Date.now(), "+inf")
  return [value.slice(0, value.indexOf(":"))]
}

/** Whether no claim holds the lock and no claim waits. */
const findsFree = async (keys: LockKeys): Promise<boolean> =>
  (await holders(keys)).length + await redis.zcard(keys.queue) === 0

const tokenOf = (reply: { readonly _tag: string }): bigint =>
  reply._tag === "Granted" ? (reply as Scripts.Granted).token : assert.fail(`not granted: ${JSON.stringify(reply)}`)

const queuedOf = (reply: { readonly _tag: string }): Scripts.Queued =>
  reply._tag === "Queued" ? reply as Scripts.Queued : assert.fail(`not queued: ${reply._tag}`)

/** The messages of one channel, in order. */
const listen = async (inbox: string) => {
  const messages: Array<string> = []
  subscriber.on("message", (channel, message) => {
    if (channel === inbox) messages.push(message)
  })
  await subscriber.subscribe(inbox)
  return {
    next: async () => {
      const deadline = Date.now() + 5_000
      while (messages.length === 0 && Date.now() < deadline) await sleep(1)
      return Scripts.decodeNotification(messages.shift() ?? assert.fail("no notification came"))
    },
    /** The raw messages, once so many have come. */
    all: async (count: number) => {
      const deadline = Date.now() + 5_000
      while (messages.length < count && Date.now() < deadline) await sleep(1)
      return messages
    },
    stop: () => subscriber.unsubscribe(inbox)
  }
}

describe("keys", () => {
  const tagOf = (key: string): string => /^[^{]*\{([^}]+)\}/s.exec(key)?.[1] ?? key

  it("puts all keys of a lock into one slot", () => {
    for (const name of ["a", "a:b", "{a}", "x{a}y", "{a", "{{a}", "a{b}c{d}", "a{}b{c", "{a}{}", "a}{b}"]) {
      const keys = keysOf(name)
      if (keys === undefined) {
        assert.strictEqual(name, "a{}b{c")
        continue
      }
      const { counter, deadlines, holders, lock, parked, queue, totals, values, waiters } = keys
      const slots = [counter, deadlines, holders, lock, parked, queue, totals, values, waiters, keys.tombstone("id")]
        .map(tagOf)
      assert.deepStrictEqual(new Set(slots), new Set([tagOf(name)]), name)
    }
  })

  it("refuses a lock whose companions have no common slot", () => {
    for (const name of ["a}b", "{}a", "a{}", "}", "a}{b"]) assert.isUndefined(keysOf(name), name)
  })

  it("never gives two locks one companion", () => {
    const all = ["a", "{a}", "{a}:", "{a}::", "a:", "a::", "{{a}", "{{a}:"].map(lockOf).map((keys) => keys.queue)
    assert.strictEqual(new Set(all).size, all.length)
  })

  it("agrees with the server about slots", async () => {
    const cluster = await startRedis({ args: ["--cluster-enabled", "yes"] })
    const client = new Redis(cluster.port)
    try {
      for (const name of ["a", "{a}", "x{a}y", "{a", "{{a}", "a{b}c{d}", "{a}{}", "a}{b}"]) {
        const { counter, lock, queue } = lockOf(name)
        const [own, ...others] = await Promise.all([lock, counter, queue].map((key) => client.cluster("KEYSLOT", key)))
        assert.deepStrictEqual(others, [own, own], name)
      }
    } finally {
      client.disconnect()
      await cluster.stop()
    }
  })
})

describe("notifications", () => {
  it("are read whatever the lock is called", () => {
    const id = newId()
    for (const lock of ["a", "g:b:1:c", "w:", "line\nbreak", "{x}|é"]) {
      for (const [text, isContended] of [["7", false], ["07", true]] as const) {
        const read = { _tag: "Granted", id, token: 7n, isContended, lock } as const
        assert.deepStrictEqual(Scripts.decodeNotification(`g:${id}:${text}:${lock}`), read)
      }
      assert.deepStrictEqual(Scripts.decodeNotification(`w:${lock}`), { _tag: "Wake", lock })
    }
  })

  it("of strangers are nothing", () => {
    for (const message of ["", "g:", "g:short:1:a", `g:${newId()}:x:a`, "hello"]) {
      assert.isUndefined(Scripts.decodeNotification(message))
    }
  })
})

describe("contention", () => {
  /** How the first version read the message of a grant. */
  const readByFirstVersion = (message: string): bigint | undefined => {
    const token = /^g:[\w-]{22}:(\d+):.*$/s.exec(message)?.[1]
    return token === undefined ? undefined : BigInt(token)
  }

  it("is told to the holder when a queue forms, once, and to the next one with its grant", async () => {
    const keys = newLock()
    const inbox = `inbox:${keys.lock}`
    const [a, b, c] = [newId(), newId(), newId()]
    const messages = await listen(inbox)
    for (const id of [a, b, c]) await acquire(keys, id, { inbox })
    await release(keys, a)
    const [formed, granted] = await messages.all(2)
    assert.deepStrictEqual(Scripts.decodeNotification(formed!), { _tag: "Contended", ids: [a] })
    const read = Scripts.decodeNotification(granted!)
    assert.isTrue(read?._tag === "Granted" && read.id === b && read.isContended)
    // A process of an earlier version ignores the first message, and reads the same token in the second.
    assert.isUndefined(readByFirstVersion(formed!))
    assert.strictEqual(readByFirstVersion(granted!), read?._tag === "Granted" ? read.token : undefined)
    await release(keys, b)
    const last = Scripts.decodeNotification((await messages.all(3))[2]!)
    assert.isTrue(last?._tag === "Granted" && last.id === c && !last.isContended)
    await messages.stop()
  })

  it("is not told of a waiter that is dead", async () => {
    const keys = newLock()
    const inbox = `inbox:${keys.lock}`
    const messages = await listen(inbox)
    const [a, b, c, d] = [newId(), newId(), newId(), newId()]
    await acquire(keys, a)
    await acquire(keys, b, { inbox })
    await acquire(keys, c, { ttl: 30, guard: 0 })
    await sleep(60)
    await release(keys, a)
    const granted = await messages.next()
    assert.isTrue(granted?._tag === "Granted" && granted.id === b && !granted.isContended)
    // The queue forms anew.
    await acquire(keys, d)
    assert.deepStrictEqual(await messages.next(), { _tag: "Contended", ids: [b] })
    await messages.stop()
  })

  it("is told to 64 of many holders, to each process by one message, and to the others by their renewals", async () => {
    const keys = newLock()
    const inboxes = [`inbox:${keys.lock}:0`, `inbox:${keys.lock}:1`] as const
    const listening = await Promise.all(inboxes.map(listen))
    const shape = { kind: "semaphore", permits: 1, capacity: 100 } as const
    const held: Array<{ readonly id: string; readonly token: bigint }> = []
    for (let index = 0; index < 100; index++) {
      const id = newId()
      held.push({ id, token: tokenOf(await acquire(keys, id, { ...shape, inbox: inboxes[index % 2]! })) })
    }
    const renewed = (isWatched: boolean) =>
      run(redis, Scripts.renew, {
        claims: held.map((one) => ({ ...one, ...shape, keys, ttl: 10_000, guard: 1_000, isWatched }))
      })
    assert.deepStrictEqual(new Set<unknown>(await renewed(true)), new Set(["ok"]))
    await acquire(keys, newId(), shape)
    await acquire(keys, newId(), shape)
    const told = (await Promise.all(listening.map(({ next }) => next())))
      .flatMap((one) => one?._tag === "Contended" ? one.ids : [])
    assert.strictEqual(new Set(told).size, 64)
    assert.isTrue(told.every((id) => held.some((one) => one.id === id)))
    assert.deepStrictEqual(new Set<unknown>(await renewed(true)), new Set(["contended"]))
    // Nobody asks.
    assert.deepStrictEqual(new Set<unknown>(await renewed(false)), new Set(["ok"]))
    await sleep(50)
    for (const one of listening) {
      assert.deepStrictEqual(await one.all(0), [])
      await one.stop()
    }
  })

  it("is told to a holder of an evicted queue by nobody, and its renewal goes on", async () => {
    const keys = newLock()
    const a = newId()
    const token = tokenOf(await acquire(keys, a))
    await redis.set(keys.deadlines, "not a queue")
    const claims = [{ keys, id: a, token, ttl: 10_000, guard: 1_000, ...one, isWatched: true }]
    assert.deepStrictEqual(await run(redis, Scripts.renew, { claims }), ["ok"])
    await redis.del(keys.deadlines)
  })
})

describe("random walks over the scripts and the model", () => {
  const given = process.env.DLOCK_SEED
  const seeds = given === undefined ? Array.from({ length: 40 }, (_, index) => index + 1) : [Number(given)]

  it("give the same answers and keep the same state", { timeout: 240_000 }, async () => {
    let steps = 0
    let scripts = 0
    const started = performance.now()
    for (const seed of seeds) {
      const walked = await walk(redis, subscriber, seed, 150)
      steps += walked.steps
      scripts += walked.scripts
    }
    const seconds = ((performance.now() - started) / 1_000).toFixed(1)
    console.log(`walks: ${seeds.length} seeds, ${steps} steps, ${scripts} scripts, ${seconds} s`)
  })

  it("give the same answers and keep the same state of two locks at once", { timeout: 240_000 }, async () => {
    let scripts = 0
    for (const seed of seeds.slice(0, 20)) scripts += (await walkSeveral(redis, subscriber, seed, 120)).scripts
    console.log(`walks over two locks: ${seeds.slice(0, 20).length} seeds, ${scripts} scripts`)
  })
})

describe("traces", () => {
  const short = { ttl: 150, guard: 0 }
  const outlive = () => sleep(170)

  it("an old notification is below the floor of a later answer", async () => {
    const keys = newLock()
    const inbox = await listen("trace-1")
    const [a, b] = [newId(), newId()]
    await acquire(keys, a, short)
    await sleep(60)
    assert.strictEqual((await acquire(keys, b, { ...short, inbox: "trace-1" }))._tag, "Queued")
    await sleep(100)
    assert.strictEqual((await acquire(keys, a, short))._tag, "Queued")
    const notification = await inbox.next()
    await outlive()
    await acquire(keys, a, short)
    const { floor } = queuedOf(await acquire(keys, b, { ...short, inbox: "trace-1" }))
    assert.isTrue(notification?._tag === "Granted" && notification.id === b && notification.token <= floor)
    await inbox.stop()
  })

  it("a repeat on the own lock extends it", async () => {
    const keys = newLock()
    const [a, b] = [newId(), newId()]
    const token = tokenOf(await acquire(keys, a, short))
    await sleep(90)
    assert.strictEqual(tokenOf(await acquire(keys, a, short)), token)
    await sleep(90)
    assert.strictEqual((await acquire(keys, b, short))._tag, "Queued")
    assert.strictEqual((await holders(keys))[0], a)
  })

  it("a refresh after the grant has expired finds nothing", async () => {
    const keys = newLock()
    const [a, b] = [newId(), newId()]
    await acquire(keys, a)
    await acquire(keys, b, short)
    await release(keys, a)
    await outlive()
    assert.strictEqual((await refresh(keys, b, short))._tag, "Gone")
    assert.isTrue(await findsFree(keys))
  })

  it("a late release of an old id does not touch the hold of a fresh one", async () => {
    const keys = newLock()
    const [old, fresh] = [newId(), newId()]
    await acquire(keys, old, short)
    await outlive()
    const token = tokenOf(await acquire(keys, fresh))
    assert.strictEqual((await release(keys, old, { tombstone: true }))._tag, "Cancelled")
    assert.strictEqual(await renew(keys, fresh, token), "ok")
  })

  it("a second acquire that arrives after the release gets no grant", async () => {
    const keys = newLock()
    const a = newId()
    await acquire(keys, a)
    assert.strictEqual((await release(keys, a, { tombstone: true }))._tag, "Released")
    assert.strictEqual((await acquire(keys, a))._tag, "Cancelled")
    assert.strictEqual((await refresh(keys, a))._tag, "Gone")
    assert.isTrue(await findsFree(keys))
    assert.approximately(await redis.pttl(keys.tombstone(a)), Scripts.tombstoneTtl, 5_000)
  })

  it("stays cancelled while others come and go", async () => {
    const keys = newLock()
    const [a, b] = [newId(), newId()]
    await acquire(keys, a)
    await release(keys, b, { tombstone: true })
    await release(keys, a)
    for (let round = 0; round < 3; round++) {
      const other = newId()
      assert.strictEqual((await acquire(keys, other))._tag, "Granted")
      assert.strictEqual((await acquire(keys, b))._tag, "Cancelled")
      assert.strictEqual((await release(keys, other))._tag, "Released")
      assert.strictEqual((await acquire(keys, b))._tag, "Cancelled")
    }
  })

  it("a waiter whose subscriber reconnects keeps its place", async () => {
    const keys = newLock()
    const [a, b, c, d] = [newId(), newId(), newId(), newId()]
    const first = await listen("trace-6-b")
    const second = await listen("trace-6-c")
    const tokenA = tokenOf(await acquire(keys, a))
    await acquire(keys, b, { inbox: "trace-6-b" })
    await acquire(keys, c, { inbox: "trace-6-c" })
    await first.stop()
    await release(keys, a)
    const notification = await second.next()
    assert.isTrue(notification?._tag === "Granted" && notification.id === c && notification.token > tokenA)
    await acquire(keys, d)
    assert.deepInclude(queuedOf(await refresh(keys, b, { inbox: "trace-6-b" })), { place: 0, length: 2 })
    await release(keys, c)
    assert.strictEqual((await holders(keys))[0], b)
    await second.stop()
  })
})

describe("fencing tokens", () => {
  it("grow over release, expiry, a lost counter and FLUSHALL", async () => {
    const keys = newLock()
    let last = 0n
    const grows = async (ttl?: number) => {
      const id = newId()
      const token = tokenOf(await acquire(keys, id, ttl === undefined ? {} : { ttl, guard: 0 }))
      assert.isTrue(token > last)
      last = token
      return id
    }
    for (let round = 0; round < 5; round++) {
      await release(keys, await grows())
      await grows(20)
      await sleep(40)
      await release(keys, await grows())
      await redis.del(keys.counter)
      await grows()
      await redis.flushall()
    }
  })

  it("are the same for a repeat when the counter was lost while held", async () => {
    const keys = newLock()
    const id = newId()
    const token = tokenOf(await acquire(keys, id))
    await redis.del(keys.counter)
    assert.strictEqual(tokenOf(await acquire(keys, id)), token)
    const { floor } = queuedOf(await acquire(keys, newId()))
    assert.isTrue(floor >= token)
  })

  it("go on from a counter that is ahead of the clock, and from the holder's where it is lost", async () => {
    const keys = newLock()
    await redis.set(keys.counter, "8000000000000000")
    const a = newId()
    assert.strictEqual(tokenOf(await acquire(keys, a)), 8000000000000001n)
    const b = newId()
    await acquire(keys, b)
    await redis.del(keys.counter)
    assert.strictEqual(queuedOf(await refresh(keys, b)).floor, 8000000000000001n)
    await release(keys, a)
    assert.strictEqual(tokenOf(await refresh(keys, b)), 8000000000000002n)
  })

  it("go on from such a counter section after section", async () => {
    const keys = newLock()
    await redis.set(keys.counter, "8000000000000000")
    for (const token of [8000000000000001n, 8000000000000002n, 8000000000000003n]) {
      const id = newId()
      assert.strictEqual(tokenOf(await acquire(keys, id)), token)
      await release(keys, id)
    }
  })
})

describe("other clients", () => {
  it("that hold by the common pattern keep us out and are named foreign", async () => {
    const keys = newLock()
    await redis.set(keys.lock, "their-secret", "PX", 5_000, "NX")
    const { holder } = queuedOf(await acquire(keys, newId()))
    assert.isTrue(holder?.foreign)
    assert.strictEqual(holder?.label, "")
    assert.isAtMost(holder?.remaining ?? 0, 5_000)
    assert.strictEqual((await acquire(keys, newId(), { mode: "try" }))._tag, "Busy")
  })

  it("that set no expiry are shown with none", async () => {
    const keys = newLock()
    await redis.set(keys.lock, "their-secret")
    assert.strictEqual(queuedOf(await acquire(keys, newId())).holder?.remaining, -1)
  })

  it("cannot take what we hold", async () => {
    const keys = newLock()
    await acquire(keys, newId())
    assert.isNull(await redis.set(keys.lock, "theirs", "PX", 1_000, "NX"))
  })

  it("get a chance at a release with interop, and the head is woken", async () => {
    const keys = newLock()
    const inbox = await listen("interop")
    const [a, b] = [newId(), newId()]
    await acquire(keys, a)
    await acquire(keys, b, { inbox: "interop" })
    await release(keys, a, { interop: true })
    assert.deepStrictEqual(await inbox.next(), { _tag: "Wake", lock: keys.lock })
    assert.strictEqual(await redis.exists(keys.lock), 0)
    assert.strictEqual((await refresh(keys, b, { inbox: "interop" }))._tag, "Granted")
    await redis.publish("interop", "nothing was published for what the answer said")
    assert.isUndefined(await inbox.next())
    await inbox.stop()
  })
})

describe("a refresh", () => {
  it("asks for many locks at once, and one with a key of a wrong type costs its neighbours nothing", async () => {
    const [held, passed, broken, free, gone] = [newLock(), newLock(), newLock(), newLock(), newLock()]
    const inbox = await listen("refresh-many")
    const mine = { inbox: "refresh-many" }
    const ids = Array.from({ length: 6 }, newId) as [string, string, string, string, string, string]
    const [a, b, c, d, e, f] = ids
    const tokens: Array<bigint> = []
    for (const keys of [held, passed, broken, free]) {
      tokens.push(tokenOf(await acquire(keys, newId(), { label: "x" })))
    }
    await acquire(held, a, mine)
    await acquire(held, b, mine)
    await acquire(passed, c, mine)
    await acquire(broken, d, mine)
    await acquire(free, e, mine)
    await inbox.stop()
    await redis.del(passed.lock, free.lock)
    assert.isFalse(await moveOn(passed))
    assert.strictEqual(await redis.zcard(passed.parked), 1)
    await redis.del(broken.waiters)
    await redis.set(broken.waiters, "no hash")
    const claims = (...ids: ReadonlyArray<string>) => ids.map((id) => ({ id, ttl: 10_000, guard: 1_000 }))
    const replies = await run(redis, Scripts.refresh, {
      ...mine,
      locks: [
        { keys: held, kind: "mutex", claims: claims(b, a) },
        { keys: broken, kind: "mutex", claims: claims(d) },
        { keys: passed, kind: "mutex", claims: claims(c) },
        { keys: free, kind: "mutex", claims: [] },
        { keys: gone, kind: "mutex", claims: claims(f) }
      ]
    })
    const [first, second, third, fourth, fifth] = replies.map((reply) => reply._tag === "Failed" ? reply : reply.claims)
    const holder = { label: "x", foreign: false }
    const places = (first as ReadonlyArray<Scripts.Queued>).map(({ floor, holder, length, place }) => ({
      floor,
      holder: { label: holder?.label, foreign: holder?.foreign },
      length,
      place
    }))
    assert.deepStrictEqual(places, [1, 0].map((place) => ({ floor: tokens[0] as bigint, holder, length: 2, place })))
    assert.match((second as Scripts.Failed).message, /^WRONGTYPE/)
    assert.strictEqual((third as ReadonlyArray<Scripts.Granted>)[0]?._tag, "Granted")
    assert.deepStrictEqual([fourth, fifth], [[], [{ _tag: "Gone" }]])
    assert.deepStrictEqual([await holders(passed), await holders(free)], [[c], []])
    assert.strictEqual(await redis.zcard(free.parked), 1)
  })

  it("that finds all in its place keeps the place as long as any other", async () => {
    const keys = newLock()
    const short = { ttl: 1_000, guard: 0 }
    const [holder, id] = [newId(), newId()]
    await acquire(keys, holder, { ttl: 60_000 })
    await acquire(keys, id, short)
    for (let time = 0; time < 4; time++) {
      await sleep(400)
      assert.strictEqual((await refresh(keys, id, short))._tag, "Queued")
    }
    await sleep(1_100)
    assert.strictEqual((await refresh(keys, id, short))._tag, "Gone")
  })
})

describe("renewal", () => {
  it("answers for each of many locks and never creates", async () => {
    const [held, expired, replaced, broken, shared] = [newLock(), newLock(), newLock(), newLock(), newLock()]
    const id = newId()
    const tokens = {
      held: tokenOf(await acquire(held, id, { ttl: 100, guard: 0 })),
      shared: tokenOf(await acquire(shared, id, { ttl: 100, guard: 0, capacity: 3, permits: 2 }))
    }
    await acquire(replaced, newId())
    await redis.lpush(broken.lock, "a list")
    const claim = (keys: LockKeys, token: bigint, capacity = 1) => ({
      keys,
      id,
      token,
      ttl: 10_000,
      guard: 1_000,
      kind: kindFor(capacity),
      permits: 1,
      capacity
    })
    const claims = [
      claim(held, tokens.held),
      claim(expired, 1n),
      claim(replaced, 1n),
      claim(broken, 1n),
      claim(shared, tokens.shared, 3),
      claim(shared, 1n, 3)
    ]
    assert.deepStrictEqual(
      await run(redis, Scripts.renew, { claims }),
      ["ok", "expired", "replaced", "replaced", "ok", "replaced"]
    )
    assert.isAbove(await redis.pttl(held.lock), 10_000)
    assert.isAbove(await redis.pttl(shared.holders), 10_000)
    assert.strictEqual(await redis.exists(expired.lock), 0)
  })

  it("does not revive a shared holder that expired beside another", async () => {
    const keys = newLock()
    const [short, long] = [newId(), newId()]
    const token = tokenOf(await acquire(keys, short, { capacity: 2, ttl: 50, guard: 0 }))
    await acquire(keys, long, { capacity: 2 })
    await sleep(70)
    const claims = [{
      keys,
      id: short,
      token,
      ttl: 10_000,
      guard: 1_000,
      ...one,
      kind: "semaphore" as const,
      capacity: 2
    }]
    assert.deepStrictEqual(await run(redis, Scripts.renew, { claims }), ["expired"])
    assert.deepStrictEqual(await holders(keys), [long])
  })

  it("does not shorten", async () => {
    const keys = newLock()
    const id = newId()
    const token = tokenOf(await acquire(keys, id, { ttl: 60_000 }))
    assert.strictEqual(await renew(keys, id, token), "ok")
    assert.isAbove(await redis.pttl(keys.lock), 50_000)
  })
})

describe("errors", () => {
  it("a user without channels is still granted, and hands over", async () => {
    await redis.call("ACL", "SETUSER", "mute", "on", "nopass", "~*", "resetchannels", "+@all")
    const client = new Redis(server.port, { username: "mute", password: "x" })
    try {
      const keys = newLock()
      const [a, b] = [newId(), newId()]
      await acquire(keys, a, {}, client)
      assert.strictEqual((await acquire(keys, b, { inbox: "anywhere" }, client))._tag, "Queued")
      assert.strictEqual(
        await client.publish("anywhere", "x").catch((error: Error) => error.message.slice(0, 6)),
        "NOPERM"
      )
      assert.deepStrictEqual(
        await run(client, Scripts.release, { keys, id: a, kind: "mutex", tombstone: false, interop: false }),
        { _tag: "Released", more: false }
      )
      assert.strictEqual((await holders(keys))[0], b)
    } finally {
      client.disconnect()
    }
  })

  it("those who wait are listed by their labels, without who is dead, was passed over or is of a newer version", async () => {
    const keys = newLock()
    const [holder, ...waiters] = Array.from({ length: 6 }, newId) as [string, ...Array<string>]
    await acquire(keys, holder)
    for (const [index, id] of waiters.entries()) await acquire(keys, id, { label: `${index}|a:b\t"` })
    const [, dead, newer, passed] = waiters as [string, string, string, string]
    await redis.zadd(keys.deadlines, 1, dead)
    await redis.hset(keys.waiters, newer, "2|whatever")
    await redis.zrem(keys.queue, passed)
    await redis.zadd(keys.parked, 1, passed)
    const list = (most: number) => run(redis, Scripts.waiting, { keys, most })
    const claim = (index: number) => ({ kind: "mutex" as const, holder: `${index}|a:b\t"` })
    assert.deepStrictEqual(await list(64), [claim(0), claim(4)])
    assert.deepStrictEqual(await list(2), [claim(0)])
    assert.deepStrictEqual(await run(redis, Scripts.waiting, { keys: newLock(), most: 64 }), [])
  })

  it("a user who may not count subscribers grants blind", async () => {
    await redis.call("ACL", "SETUSER", "blind", "on", "nopass", "~*", "&*", "+@all", "-pubsub")
    const client = new Redis(server.port, { username: "blind", password: "x" })
    try {
      const keys = newLock()
      const [a, b] = [newId(), newId()]
      await acquire(keys, a, {}, client)
      assert.strictEqual((await acquire(keys, b, {}, client))._tag, "Queued")
      await run(client, Scripts.release, { keys, id: a, kind: "mutex", tombstone: false, interop: false })
      assert.strictEqual((await holders(keys))[0], b)
    } finally {
      client.disconnect()
    }
  })

  /**
   * A lock that one claim holds and another waits for, so that an acquire does not take the fast path. One of the
   * lock's keys is a stream.
   */
  const inUseWithWrong = async (
    key: "lock" | "counter" | "queue" | "deadlines" | "waiters" | "parked" | "holders" | "totals" | "values"
  ) => {
    const keys = newLock()
    const [a, b] = [newId(), newId()]
    const capacity = ["holders", "totals", "values"].includes(key) ? 3 : 1
    await acquire(keys, a, { capacity, permits: capacity })
    await acquire(keys, b, { capacity })
    await redis.del(keys[key])
    await redis.xadd(keys[key], "*", "field", "value")
    return { a, b, capacity, keys }
  }

  it("a key of a wrong type stops a script before its first write", async () => {
    const dumpAll = async (keys: LockKeys, tombstone: string) => {
      const { counter, deadlines, holders, lock, parked, queue, totals, values, waiters } = keys
      const all = [counter, deadlines, holders, lock, parked, queue, totals, values, waiters, tombstone]
      return Promise.all(all.map(async (key) => (await redis.dumpBuffer(key))?.toString("hex")))
    }
    const names = ["lock", "counter", "queue", "deadlines", "waiters", "parked", "holders", "totals", "values"] as const
    for (const key of names) {
      const { b, capacity, keys } = await inUseWithWrong(key)
      const before = await dumpAll(keys, keys.tombstone(b))
      const calls = {
        acquire: () => acquire(keys, newId(), { capacity }),
        try: () => acquire(keys, newId(), { capacity, mode: "try" }),
        // With another ttl. If nothing changes, the script reads only what proves that.
        refresh: () => refresh(keys, b, { capacity, ttl: 20_000 }),
        release: () => release(keys, b, { capacity, tombstone: true })
      }
      for (const [name, call] of Object.entries(calls)) {
        const error = await call().then(() => "no error", (cause: Error) => cause.message)
        assert.match(error, /^WRONGTYPE/, `${name} with a wrong ${key}`)
        assert.deepStrictEqual(await dumpAll(keys, keys.tombstone(b)), before, `${name} with a wrong ${key}`)
      }
    }
  })

  it("a wrong type among what a release hands over by stops it before its first write", async () => {
    for (const key of ["counter", "queue", "deadlines", "waiters"] as const) {
      const { a, keys } = await inUseWithWrong(key)
      const error = await release(keys, a).then(() => "no error", (cause: Error) => cause.message)
      assert.match(error, /^WRONGTYPE/, key)
      assert.include(await redis.get(keys.lock), a, key)
    }
  })

  it("a counter that is no number keeps nobody from handing over", async () => {
    const keys = newLock()
    const [a, b] = [newId(), newId()]
    const token = tokenOf(await acquire(keys, a))
    await acquire(keys, b)
    await redis.set(keys.counter, "no number")
    assert.strictEqual((await release(keys, a))._tag, "Released")
    assert.isTrue(tokenOf(await refresh(keys, b)) > token)
  })

  it("a lock that is held is found to be by a server that may not write any more", async () => {
    const keys = newLock()
    const a = newId()
    await acquire(keys, a)
    await redis.config("SET", "maxmemory", "1")
    try {
      assert.strictEqual((await acquire(keys, newId(), { mode: "try" }))._tag, "Busy")
      assert.strictEqual((await release(keys, a))._tag, "Released")
    } finally {
      await redis.config("SET", "maxmemory", "0")
    }
  })

  it("a free lock with a wrong type in its place is not taken", async () => {
    for (const key of ["lock", "counter", "queue", "holders"] as const) {
      const keys = newLock()
      await redis.hset(keys[key], "field", "value")
      const error = await acquire(keys, newId()).then(() => "no error", (cause: Error) => cause.message)
      assert.match(error, /^WRONGTYPE/, key)
      assert.strictEqual(await redis.exists(keys.lock), key === "lock" ? 1 : 0)
      assert.strictEqual(await redis.type(keys[key]), "hash")
    }
  })

  it("scripts flushed between all calls lose nothing", async () => {
    const keys = newLock()
    const [a, b] = [newId(), newId()]
    for (
      const call of [() => acquire(keys, a), () => acquire(keys, b), () => refresh(keys, b), () => release(keys, a)]
    ) {
      await redis.script("FLUSH")
      await call()
    }
    assert.strictEqual((await holders(keys))[0], b)
  })
})

describe("capacity above one", () => {
  it("lets a large claim pass before later small ones, and a release grants several", async () => {
    const keys = newLock()
    const [a, b, large, c, d] = [newId(), newId(), newId(), newId(), newId()]
    const of = (permits: number) => ({ capacity: 3, permits })
    tokenOf(await acquire(keys, a, of(1)))
    tokenOf(await acquire(keys, b, of(1)))
    await acquire(keys, large, of(3))
    assert.strictEqual(queuedOf(await acquire(keys, c, of(1))).place, 1)
    await acquire(keys, d, of(2))
    await release(keys, a, { capacity: 3 })
    assert.deepStrictEqual(await holders(keys), [b])
    await release(keys, b, { capacity: 3 })
    assert.deepStrictEqual(await holders(keys), [large])
    await release(keys, large, { capacity: 3 })
    assert.sameMembers(await holders(keys), [c, d])
  })

  it("gives back the permits of a holder that is lost, and forgets it", async () => {
    const keys = newLock()
    const [lost, next] = [newId(), newId()]
    await acquire(keys, lost, { capacity: 2, permits: 2, ttl: 100, guard: 0 })
    await acquire(keys, newId(), { capacity: 2, permits: 1, ttl: 100, guard: 5_000, mode: "try" })
    await sleep(120)
    tokenOf(await acquire(keys, next, { capacity: 2, permits: 2 }))
    assert.deepStrictEqual(await redis.zrange(keys.holders, "0", "-1"), [next])
    assert.deepStrictEqual(await redis.hkeys(keys.values), [next])
  })

  it("refuses another kind than the one in use", async () => {
    const keys = newLock()
    const id = newId()
    await acquire(keys, id, { capacity: 3 })
    const semaphore = { _tag: "Mismatch", kind: "semaphore", capacity: 3 } as const
    assert.deepStrictEqual(await acquire(keys, newId()), semaphore)
    assert.deepStrictEqual(await acquire(keys, newId(), { kind: "readWrite", capacity: readWriteCapacity }), semaphore)
    await release(keys, id, { capacity: 3 })
    await acquire(keys, newId())
    const mutex = { _tag: "Mismatch", kind: "mutex", capacity: 1 } as const
    assert.deepStrictEqual(await acquire(keys, newId(), { capacity: 3 }), mutex)
  })
})

describe("shared holders", () => {
  const full = 1_000
  const shared = { kind: "semaphore", capacity: full } as const

  /** Holders that were added by grants, with the label of a holder that has metadata. */
  const hold = async (keys: LockKeys, count: number, wanted: Wanted = {}): Promise<Array<string>> => {
    const ids = Array.from({ length: count }, newId)
    await Promise.all(ids.map((id) => acquire(keys, id, { ...shared, label: "x".repeat(200), ...wanted })))
    return ids
  }

  const sums = async (keys: LockKeys): Promise<string | undefined> => (await redis.get(keys.totals))?.split("|")[6]

  it("cost a section about twice that of a mutex, however many there are", async () => {
    const sections = 10
    const wide = { ...shared, capacity: 1_000_000 }
    const locks: Array<{ name: string; keys: LockKeys; wanted: Wanted; commands: Set<number>; micros: number }> = []
    const prepare = async (name: string, count: number, wanted: Wanted) => {
      const keys = newLock()
      await hold(keys, count, wide)
      locks.push({ name, keys, wanted, commands: new Set(), micros: Infinity })
    }
    await prepare("a mutex", 0, {})
    for (const count of [1, 100, 1_000, 5_000]) await prepare(`a semaphore with ${count} holders`, count, wide)
    // Other work on the machine only adds to a time, and to any of the locks at its turn. So the least of many counts.
    for (let turn = 0; turn < 40; turn++) {
      for (const lock of locks) {
        await redis.config("RESETSTAT")
        for (let section = 0; section < sections; section++) {
          const id = newId()
          tokenOf(await acquire(lock.keys, id, lock.wanted))
          await release(lock.keys, id, { capacity: lock.wanted.capacity ?? 1 })
        }
        const stats = await redis.info("commandstats")
        const inside = [...stats.matchAll(/^cmdstat_(?!evalsha|config|info)\S+:calls=(\d+)/gm)]
        lock.commands.add(inside.reduce((sum, [, calls]) => sum + Number(calls), 0) / sections)
        const micros = Number(/cmdstat_evalsha:calls=\d+,usec=(\d+)/.exec(stats)?.[1]) / sections
        lock.micros = Math.min(lock.micros, micros)
      }
    }
    for (const { commands, micros, name } of locks) {
      console.log(`a section of ${name}: ${Array.from(commands).join(" or ")} commands in the scripts, ${micros} µs`)
    }
    const [mutex, one, ...crowds] = locks
    // More holders add no command, and none takes longer. The server reads a small sorted set from its beginning.
    for (const crowd of crowds) {
      assert.deepStrictEqual(crowd.commands, one!.commands, crowd.name)
      assert.isBelow(crowd.micros / one!.micros, 2, crowd.name)
    }
    assert.isBelow(one!.micros / mutex!.micros, 3)
  }, 60_000)

  for (const key of ["totals", "values", "holders"] as const) {
    it(`are never more than fit while the server has lost their ${key}`, async () => {
      const keys = newLock()
      const two = { ...shared, capacity: 2 }
      const [a, b] = await hold(keys, 2, { ...two, ttl: 300, guard: 0 })
      const token = BigInt((await redis.hget(keys.values, a!))!.split("|")[1]!)
      await redis.del(keys[key])
      const reply = await acquire(keys, newId(), { ...two, mode: "try" })
      // Without `holders` nobody holds, as a mutex without its key. Without the others, the holders still count.
      assert.strictEqual(reply._tag, key === "holders" ? "Granted" : "Busy")
      const claims = [{
        keys,
        id: a!,
        token,
        ttl: 10_000,
        guard: 0,
        kind: "semaphore" as const,
        permits: 1,
        capacity: 2
      }]
      assert.deepStrictEqual(await run(redis, Scripts.renew, { claims }), [key === "totals" ? "ok" : "expired"])
      await release(keys, b!, { capacity: 2 })
      if (key !== "totals") await sleep(320)
      const next = newId()
      assert.strictEqual((await acquire(keys, next, two))._tag, "Granted", "a permit that came back")
      await readState(redis, keys, [a!, b!, next])
    })
  }

  it("are counted anew in steps, and nothing is granted before", async () => {
    const keys = newLock()
    const ids = await hold(keys, 950)
    await redis.del(keys.totals)
    const asked = newId()
    let reply = await acquire(keys, asked, shared)
    let calls = 1
    for (; reply._tag === "Queued"; calls++) {
      assert.isTrue(reply.more)
      assert.notStrictEqual(await sums(keys), "-")
      // Holders leave meanwhile, some of them counted and some not.
      await release(keys, ids.pop()!, { capacity: full })
      reply = await acquire(keys, asked, shared)
    }
    assert.strictEqual(reply._tag, "Granted")
    assert.isAtLeast(calls, 4)
    assert.strictEqual(await sums(keys), "-")
    await readState(redis, keys, [])
  })

  it("are counted anew where somebody deleted one of them by hand", async () => {
    const keys = newLock()
    const two = { ...shared, capacity: 2 }
    const [a, b] = await hold(keys, 2, two)
    await redis.zrem(keys.holders, a!)
    assert.strictEqual((await acquire(keys, newId(), two))._tag, "Granted")
    await redis.hdel(keys.values, b!)
    assert.strictEqual((await acquire(keys, newId(), { ...two, mode: "try" }))._tag, "Busy", "it may still believe")
  })

  it("that expired are swept a few at a time, and what they held comes back", async () => {
    const keys = newLock()
    await hold(keys, 450, { ttl: 300, guard: 0 })
    const lasting = newId()
    await acquire(keys, lasting, { ...shared, permits: 550 })
    await sleep(320)
    const all = newId()
    let reply = await acquire(keys, all, { ...shared, permits: 450 })
    let calls = 1
    for (; reply._tag === "Queued" && reply.more; calls++) reply = await acquire(keys, all, { ...shared, permits: 450 })
    assert.strictEqual(reply._tag, "Granted")
    assert.isAtLeast(calls, 4)
    await readState(redis, keys, [lasting, all])
  })

  it("come in at most 64 to a script, which tells the caller and the next process to go on", async () => {
    const keys = newLock()
    const name = `readers-${newId()}`
    const inbox = await listen(name)
    const lock = { kind: "readWrite", capacity: readWriteCapacity } as const
    const writer = newId()
    await acquire(keys, writer, { ...lock, permits: readWriteCapacity })
    for (let reader = 0; reader < 150; reader++) await acquire(keys, newId(), { ...lock, inbox: name })
    await run(redis, Scripts.release, { keys, id: writer, kind: "readWrite", tombstone: false, interop: false })
    const first = await redis.zcard(keys.holders)
    assert.isTrue(first > 30 && first <= 64, `${first} at once`)
    assert.isTrue((await inbox.all(first + 1)).includes(`w:${keys.lock}`))
    let more = true
    while (more) {
      const [reply] = await run(redis, Scripts.refresh, { inbox: "", locks: [{ keys, kind: "readWrite", claims: [] }] })
      more = reply?._tag === "Refreshed" && reply.more
    }
    assert.strictEqual(await redis.zcard(keys.holders), 150)
    await inbox.stop()
  })

  it("are of one kind, also while they are counted anew or their values are lost", async () => {
    const reading = { kind: "readWrite", capacity: readWriteCapacity } as const
    for (const key of ["totals", "values"] as const) {
      const keys = newLock()
      const ids = await hold(keys, 250)
      await redis.del(keys[key])
      for (let turn = 0; turn < 6; turn++) {
        const reply = await acquire(keys, newId(), { ...reading, mode: "try" })
        assert.notStrictEqual(reply._tag, "Granted", `${key}, turn ${turn}`)
        if (key === "totals") assert.deepInclude(reply, { _tag: "Mismatch", kind: "semaphore" })
        const strict = await acquire(keys, newId(), { ...shared, isStrict: true, mode: "try" })
        assert.notStrictEqual(strict._tag, "Mismatch")
      }
      for (const id of ids) await release(keys, id, { capacity: full })
    }
  })

  it("are granted again what they hold, whatever came meanwhile", async () => {
    const keys = newLock()
    const [strict, other, waiting] = [newId(), newId(), newId()]
    const asked = { ...shared, capacity: 8, isStrict: true }
    const token = tokenOf(await acquire(keys, strict, asked))
    tokenOf(await acquire(keys, other, { ...shared, capacity: 4, permits: 3 }))
    assert.strictEqual(tokenOf(await acquire(keys, strict, asked)), token)
    assert.strictEqual((await acquire(keys, waiting, { ...shared, capacity: 4, permits: 3 }))._tag, "Queued")
    assert.strictEqual((await acquire(keys, newId(), asked))._tag, "Mismatch")
  })

  it("never have a key that stays for ever, and none that ends before them", async () => {
    for (const key of ["values", "totals"] as const) {
      const keys = newLock()
      const two = { ...shared, capacity: 9 }
      const [long] = await hold(keys, 1, { ...two, ttl: 60_000 })
      await redis.del(keys[key])
      const [later, short] = [newId(), newId()]
      await acquire(keys, later, { ...two, ttl: 60_000 })
      const token = await acquire(keys, short, { ...two, ttl: 300, guard: 0 })
      if (token._tag === "Granted") {
        const claims = [{ keys, id: short, token: token.token, ttl: 300, guard: 0, ...two, permits: 1 }]
        await run(redis, Scripts.renew, { claims })
      }
      await release(keys, long!, { capacity: 9 })
      const lives = await Promise.all([keys.holders, keys.totals, keys.values].map((one) => redis.pttl(one)))
      for (const life of lives) {
        assert.isTrue(life === -2 || life >= Math.max(...lives) - 1_000, `${key}: ${lives.join()}`)
      }
    }
  })

  it("of a newer layout are left alone", async () => {
    const keys = newLock()
    const id = newId()
    await acquire(keys, id, { ...shared, capacity: 2 })
    await redis.set(keys.totals, "2|whatever comes", "KEEPTTL")
    for (const mode of ["queue", "try"] as const) {
      const error = await acquire(keys, newId(), { ...shared, capacity: 2, mode }).then(
        () => "",
        (cause: Error) => cause.message
      )
      assert.match(error, /^DLOCKNEWER/)
    }
    assert.strictEqual(await redis.get(keys.totals), "2|whatever comes")
    assert.strictEqual(await redis.zcard(keys.holders), 1)
  })
})

describe("a mutex", () => {
  it("is found to be one by those who want permits, and finds them, without naming their keys once it waits or holds", async () => {
    const keys = newLock()
    const [id, other] = [newId(), newId()]
    const claims = [{ id, ttl: 1, guard: 1 }]
    const sent = [
      Scripts.release.encode({ keys, id, kind: "mutex", tombstone: true, interop: false }).keys,
      Scripts.refresh.encode({ inbox: "", locks: [{ keys, kind: "mutex", claims }] }).keys
    ].flat()
    assert.notInclude(sent, keys.holders)
    assert.notInclude(sent, keys.values)
    await acquire(keys, id, { capacity: 2, ttl: 200, guard: 0 })
    assert.strictEqual((await acquire(keys, other))._tag, "Mismatch")
    await sleep(220)
    assert.strictEqual((await acquire(keys, other))._tag, "Granted")
    assert.strictEqual((await acquire(keys, id, { capacity: 2 }))._tag, "Mismatch")
  })
})

describe("an acquire inside sections", () => {
  it("waits for none of them, and leaves nothing", async () => {
    for (const capacity of [1, 3]) {
      const keys = newLock()
      const [outer, other, asked] = [newId(), newId(), newId()]
      const held = await acquire(keys, outer, { capacity, permits: capacity })
      const nested = (inside: ReadonlyArray<string>, mode: "queue" | "try" = "queue") =>
        acquire(keys, asked, { capacity, inside, mode })
      const token = held._tag === "Granted" ? held.token : assert.fail(held._tag)
      for (const mode of ["queue", "try"] as const) {
        assert.deepStrictEqual(await nested([newId(), outer], mode), { _tag: "AlreadyHeld", token })
      }
      assert.strictEqual(await redis.exists(keys.queue, keys.deadlines, keys.waiters, keys.parked), 0)
      assert.strictEqual((await acquire(keys, other, { capacity, permits: capacity }))._tag, "Queued")
      assert.strictEqual((await nested([outer]))._tag, "AlreadyHeld")
      // The locks that they hold on other keys block no other claim.
      assert.strictEqual((await nested([newId()]))._tag, "Queued")
      await release(keys, outer, { capacity })
      await release(keys, other, { capacity })
      assert.strictEqual((await nested([outer]))._tag, "Granted")
    }
  })

  it("is granted what there is room for", async () => {
    const keys = newLock()
    const [outer, nested] = [newId(), newId()]
    await acquire(keys, outer, { capacity: 3 })
    assert.strictEqual((await acquire(keys, nested, { capacity: 3, inside: [outer] }))._tag, "Granted")
    const behindLarge = { capacity: 3, inside: [outer, nested] }
    await acquire(keys, newId(), { capacity: 3, permits: 3 })
    assert.strictEqual((await acquire(keys, newId(), behindLarge))._tag, "AlreadyHeld")
  })
})

describe("an evicted companion key", () => {
  for (const key of ["queue", "deadlines", "waiters"] as const) {
    it(`costs the waiters their place and nothing else: ${key}`, async () => {
      const keys = newLock()
      const [a, b, c] = [newId(), newId(), newId()]
      for (const id of [a, b, c]) await acquire(keys, id)
      await redis.del(keys[key])
      assert.strictEqual((await refresh(keys, b))._tag, "Gone")
      assert.strictEqual((await acquire(keys, b))._tag, "Queued")
      await release(keys, a)
      assert.deepStrictEqual(await holders(keys), [b])
      assert.strictEqual((await refresh(keys, c))._tag, "Gone")
      await release(keys, b)
      assert.strictEqual(await redis.exists(keys.lock, keys.queue, keys.deadlines, keys.waiters), 0)
    })
  }
})

describe("a waiter that was passed over", () => {
  /** A lock with one holder and three waiters. The processes of the second and the third waiter no longer listen. */
  const two = async () => {
    const keys = newLock()
    const [holder, live, b, c, away] = [newId(), newId(), newId(), newId(), `away-${newId()}`]
    const inbox = await listen(away)
    await acquire(keys, holder)
    await acquire(keys, b, { inbox: away })
    await acquire(keys, c, { inbox: away })
    await acquire(keys, live)
    await inbox.stop()
    await release(keys, holder)
    assert.deepStrictEqual(await holders(keys), [live])
    assert.deepStrictEqual(await redis.zrange(keys.parked, "0", "-1"), [b, c])
    return { keys, live, b, c, away }
  }

  it("is put back in the order of arrival, in front of who came later, whoever asks first", async () => {
    const { away, b, c, live, keys } = await two()
    const late = newId()
    await acquire(keys, late)
    assert.deepInclude(queuedOf(await refresh(keys, c, { inbox: away })), { place: 0, length: 2 })
    assert.deepInclude(queuedOf(await acquire(keys, b, { inbox: away })), { place: 0, length: 3 })
    assert.strictEqual(await redis.exists(keys.parked), 0)
    for (const id of [live, b, c, late]) {
      assert.deepStrictEqual(await holders(keys), [id])
      await release(keys, id)
    }
    assert.isTrue(await findsFree(keys))
  })

  it("does not stand in the way of a try, and is there when it asks", async () => {
    const { b, c, live, keys } = await two()
    await release(keys, live)
    const [one, other] = [newId(), newId()]
    assert.strictEqual((await acquire(keys, one, { mode: "try" }))._tag, "Granted")
    await release(keys, one)
    assert.strictEqual((await acquire(keys, c, { mode: "try" }))._tag, "Granted")
    assert.strictEqual((await acquire(keys, other, { mode: "try" }))._tag, "Busy")
    assert.deepStrictEqual(await redis.zrange(keys.parked, "0", "-1"), [b])
    await release(keys, c)
    assert.strictEqual((await release(keys, b))._tag, "Cancelled")
    assert.strictEqual(await redis.exists(keys.queue, keys.parked, keys.deadlines, keys.waiters), 0)
  })

  it("is taken for dead at its deadline", async () => {
    const keys = newLock()
    const [holder, b, away] = [newId(), newId(), `away-${newId()}`]
    const inbox = await listen(away)
    await acquire(keys, holder)
    await acquire(keys, b, { inbox: away, ttl: 100, guard: 5_000 })
    await inbox.stop()
    await release(keys, holder)
    await sleep(120)
    assert.strictEqual((await refresh(keys, b, { inbox: away }))._tag, "Gone")
    assert.strictEqual(await redis.exists(keys.queue, keys.parked, keys.deadlines, keys.waiters), 0)
  })

  it("still wants the capacity that it wanted", async () => {
    const keys = newLock()
    const [holder, b, away] = [newId(), newId(), `away-${newId()}`]
    const inbox = await listen(away)
    await acquire(keys, holder, { capacity: 3, permits: 3 })
    await acquire(keys, b, { inbox: away, capacity: 3 })
    await inbox.stop()
    await release(keys, holder, { capacity: 3 })
    assert.strictEqual(await redis.zcard(keys.parked), 1)
    assert.strictEqual((await acquire(keys, newId()))._tag, "Mismatch")
    assert.strictEqual((await refresh(keys, b, { inbox: away, capacity: 3 }))._tag, "Granted")
  })

  it("is one of many, and a waiter behind them is found by further calls", async () => {
    const keys = newLock()
    const [holder, live, away] = [newId(), newId(), `away-${newId()}`]
    const inbox = await listen(away)
    await acquire(keys, holder)
    await Promise.all(Array.from({ length: 1_500 }, () => acquire(keys, newId(), { inbox: away })))
    await acquire(keys, live)
    await inbox.stop()
    let { more } = await release(keys, holder)
    let asked = 0
    while (more) {
      assert.strictEqual(await redis.exists(keys.lock), 0)
      more = await moveOn(keys)
      asked++
    }
    assert.isAbove(asked, 1)
    assert.deepStrictEqual(await holders(keys), [live])
    assert.strictEqual(await redis.zcard(keys.parked), 1_500)
  })

  it("loses its place where the key that keeps it is evicted, and no other waiter does", async () => {
    const { away, b, c, live, keys } = await two()
    const late = newId()
    await acquire(keys, late)
    await redis.del(keys.parked)
    for (const id of [b, c]) assert.strictEqual((await refresh(keys, id, { inbox: away }))._tag, "Gone")
    assert.strictEqual((await acquire(keys, b))._tag, "Queued")
    await release(keys, live)
    assert.deepStrictEqual(await holders(keys), [late])
    await release(keys, late)
    await release(keys, b)
    assert.strictEqual(await redis.exists(keys.lock, keys.queue, keys.deadlines, keys.waiters), 0)
  })
})

describe("waiters in a long queue", () => {
  it("are passed over where they are dead, also more than one sweep takes, and not revived", async () => {
    const keys = newLock()
    const ids = Array.from({ length: 230 }, newId)
    await acquire(keys, newId(), { ttl: 60_000 })
    for (const id of ids) await acquire(keys, id, { ttl: 400, guard: 60_000 })
    const live = newId()
    await acquire(keys, live, { ttl: 60_000 })
    await sleep(500)
    assert.strictEqual((await refresh(keys, ids[200] as string))._tag, "Gone")
    await release(keys, (await holders(keys))[0] as string)
    assert.deepStrictEqual(await holders(keys), [live])
    assert.strictEqual(await redis.zcard(keys.queue), 0)
  })

  it("keep their order", async () => {
    const keys = newLock()
    const ids = Array.from({ length: 50 }, newId)
    for (const id of ids) await acquire(keys, id)
    for (const id of ids) {
      assert.strictEqual((await holders(keys))[0], id)
      await acquire(keys, ids.at(-1) as string)
      await release(keys, id)
    }
    assert.deepInclude((await readState(redis, keys, ids)).server, { holders: [], queue: [] })
  })
})

describe("the cost of a script", () => {
  const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((all, number) => all + number, 0)

  const callsOf = async (section: () => Promise<unknown>): Promise<Record<string, number>> => {
    await redis.config("RESETSTAT")
    await section()
    const info = await redis.info("commandstats")
    return Object.fromEntries(
      [...info.matchAll(/cmdstat_([a-z|]+):calls=(\d+)/g)]
        .filter(([, name]) => !["evalsha", "config|resetstat", "info"].includes(name as string))
        .map(([, name, calls]) => [name as string, Number(calls)])
    )
  }

  it("is twenty-two calls in the script for an acquire that queues behind a holder", async () => {
    const keys = newLock()
    await acquire(keys, newId())
    await acquire(keys, newId())
    assert.strictEqual(sum(Object.values(await callsOf(() => acquire(keys, newId())))), 22)
  })

  it("is eight calls in the script for a refresh of a waiter that keeps its place, and two for each call", async () => {
    const keys = newLock()
    const id = newId()
    await acquire(keys, newId())
    await acquire(keys, id)
    assert.strictEqual(sum(Object.values(await callsOf(() => refresh(keys, id)))), 10)
  })

  // Where a script has too much to do, it tells the head to ask once more. Waiters that only stay cause none of that.
  it("leaves room for as many waiters of semaphores as one call has, of one lock or of many", async () => {
    const most = claimsPerCall / sharedClaimWeight
    const semaphore = { capacity: 2, permits: 2 }
    const one = [{ keys: newLock(), ids: Array.from({ length: most }, newId) }]
    const many = Array.from({ length: most }, () => ({ keys: newLock(), ids: [newId()] }))
    for (const { ids, keys } of [...many, ...one]) {
      await acquire(keys, newId(), semaphore)
      for (const id of ids) await acquire(keys, id, semaphore)
    }
    for (const locks of [many, one]) {
      let replies: Scripts.RefreshReply = []
      const calls = await callsOf(async () => {
        replies = await run(redis, Scripts.refresh, {
          inbox: "nobody",
          locks: locks.map(({ ids, keys }) => ({
            keys,
            kind: "semaphore" as const,
            claims: ids.map((id) => ({ id, ttl: 10_000, guard: 1_000 }))
          }))
        })
      })
      for (const reply of replies) assert.isFalse(reply._tag === "Refreshed" && reply.more)
      assert.strictEqual(calls.hset, most)
      assert.isUndefined(calls.publish)
    }
  })

  it("is four calls in the script for an acquire of a free lock, and four for its release", async () => {
    const keys = newLock()
    const id = newId()
    await release(keys, (await acquire(keys, id), id))
    const fresh = newId()
    assert.deepStrictEqual(await callsOf(() => acquire(keys, fresh)), { exists: 1, time: 1, set: 2 })
    assert.deepStrictEqual(await callsOf(() => release(keys, fresh)), { exists: 1, get: 1, zrange: 1, del: 1 })
  })

  /** The time that the server itself measures for each call of a script, in microseconds. */
  const timesOf = async (calls: ReadonlyArray<() => Promise<unknown>>): Promise<ReadonlyArray<number>> => {
    const times: Array<number> = []
    for (const call of calls) {
      await redis.config("RESETSTAT")
      await call()
      times.push(Number(/cmdstat_evalsha:calls=\d+,usec=(\d+)/.exec(await redis.info("commandstats"))?.[1]))
    }
    return times
  }

  const median = (times: ReadonlyArray<number>): number => times.toSorted((a, b) => a - b)[times.length >> 1] as number

  /** A lock and its holder, with many waiters of a process that no longer listens. */
  const withDead = async (number: number) => {
    const [keys, holder, inbox] = [newLock(), newId(), `dead-${newId()}`]
    const { stop } = await listen(inbox)
    await acquire(keys, holder)
    for (let left = number; left > 0; left -= 1_000) {
      const ids = Array.from({ length: 1_000 }, newId)
      await Promise.all(ids.map((id) => acquire(keys, id, { inbox, ttl: 600_000 })))
    }
    await stop()
    return { keys, holder }
  }

  /** The first release and the first section after the waiters died, as the times of each script. */
  const meet = async ({ holder, keys }: { readonly keys: LockKeys; readonly holder: string }) => {
    const id = newId()
    const times = [...await timesOf([() => release(keys, holder)])]
    let granted = false
    const ask = async () => {
      granted = (await acquire(keys, id))._tag === "Granted"
    }
    while (!granted) times.push(...await timesOf([ask]))
    return [...times, ...await timesOf([() => release(keys, id)])]
  }

  const section = (keys: LockKeys): Promise<ReadonlyArray<number>> => {
    const id = newId()
    return timesOf([() => acquire(keys, id), () => release(keys, id)])
  }

  const handOver = (keys: LockKeys): Promise<ReadonlyArray<number>> => {
    const [a, b] = [newId(), newId()]
    return timesOf([() => acquire(keys, a), () => acquire(keys, b), () => release(keys, a), () => release(keys, b)])
  }

  for (const dead of [1_000, 10_000]) {
    it(`${dead} waiters of a process that died are met once, and cost a section at most its own time more`, {
      timeout: 120_000
    }, async () => {
      // The shortest of three runs counts. Other processes use this machine, and a script is never faster than it is.
      const meetings: Array<ReadonlyArray<number>> = []
      let crowded = newLock()
      for (let time = 0; time < 3; time++) {
        const made = await withDead(dead)
        meetings.push(await meet(made))
        crowded = made.keys
      }
      const scripts = (meetings[0] as ReadonlyArray<number>).map((_, script) =>
        Math.min(...meetings.map((times) => times[script] as number))
      )
      const alone = newLock()
      const times = { section: [] as Array<number>, handOver: [] as Array<number> }
      const besides = { section: [] as Array<number>, handOver: [] as Array<number> }
      for (let turn = 0; turn < 100; turn++) {
        times.section.push(sum(await section(alone)))
        besides.section.push(sum(await section(crowded)))
        times.handOver.push(sum(await handOver(alone)))
        besides.handOver.push(sum(await handOver(crowded)))
      }
      console.log(
        `server time in us, with nobody and with ${dead} dead: a section ${median(times.section)} and ` +
          `${median(besides.section)}, a hand-over ${median(times.handOver)} and ${median(besides.handOver)}; ` +
          `they are met in ${scripts.length} scripts of at most ${Math.max(...scripts)}`
      )
      assert.isBelow(median(besides.section), 2 * median(times.section))
      assert.isBelow(median(besides.handOver), 2 * median(times.handOver))
      // Or the limit that any script must keep, if the machine has other work.
      assert.isBelow(Math.max(...scripts), Math.max(5_000, 20 * median(times.handOver)))
    })
  }

  it("is thirteen calls in the script for a release that hands over", async () => {
    const keys = newLock()
    const ids = [newId(), newId(), newId()] as const
    // One message where a queue forms, and none where it grows.
    assert.isUndefined((await callsOf(() => acquire(keys, ids[0]))).publish)
    assert.strictEqual((await callsOf(() => acquire(keys, ids[1]))).publish, 1)
    assert.isUndefined((await callsOf(() => acquire(keys, ids[2]))).publish)
    // The same, whether others wait behind the next one or not.
    for (const id of ids.slice(0, 2)) {
      assert.deepStrictEqual(await callsOf(() => release(keys, id)), {
        exists: 1,
        get: 2,
        zrange: 1,
        zmscore: 1,
        hget: 1,
        time: 1,
        zrem: 2,
        hdel: 1,
        set: 2,
        publish: 1
      })
    }
  })
})
