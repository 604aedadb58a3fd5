import { assert, describe, it } from "@effect/vitest"
import { enableAuth } from "dlock-testing"
import { Clock, Context, Duration, Effect, Fiber, Layer, Queue, type Scope, Stream } from "effect"
import { type LockBackendError, LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { LockAdmin, type LockState } from "effect-dlock/LockAdmin"
import { type Claim, type Granted, type Held, readWriteCapacity, type RevocationNotice } from "effect-dlock/LockStore"
import type { ConfigError } from "effect/Config"
import { Etcd3 } from "etcd3"
import { open } from "../src/internal/client/connection.ts"
import type { Port } from "../src/internal/client/port.ts"
import { parse } from "../src/internal/options.ts"
import * as Stores from "../src/internal/store/store.ts"
import { permitsOf, readerOf, writerOf } from "./claim.ts"
import { grant, hold, wait } from "./sharing.ts"
import { ctl, ctlLock, eventually, lag, plainClient, requests, server, since, within } from "./support.ts"

interface Client {
  readonly store: LockStore["Service"]
  readonly admin: LockAdmin["Service"]
}

const clientOf = (context: Context.Context<LockStore | LockAdmin>): Client => ({
  store: Context.get(context, LockStore),
  admin: Context.get(context, LockAdmin)
})

/** A process, as far as the server can tell. */
const client = (
  hosts: string,
  options: Partial<EtcdLockStore.EtcdLockStoreOptions> = {}
): Effect.Effect<Client, ConfigError | LockBackendError, Scope.Scope> =>
  Effect.map(Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts, ...options }))), clientOf)

const clientOver = (hosts: string, meddle: (port: Port) => Port) =>
  Effect.gen(function*() {
    return clientOf(yield* Stores.makeWithAdmin(meddle(yield* open(yield* parse({ hosts })))))
  })

const mutexOf = (options: Parameters<typeof permitsOf>[2] = {}): Claim => permitsOf(1, 1, { kind: "mutex", ...options })

const on = (key: string) => ({ key: `dlock:${key}`, prefix: "dlock:" })

/** All keys of the server with their values, revisions and leases. */
const dump = async (client: Etcd3): Promise<ReadonlyArray<unknown>> => {
  const { kvs } = await client.getAll().exec()
  return kvs.map(({ create_revision, key, lease, mod_revision, value }) => [
    String(key),
    create_revision,
    mod_revision,
    lease,
    String(value)
  ])
}

const keysOf = (client: Etcd3) => Effect.promise(async () => (await client.getAll().keys()).map(String))

const tokens = ({ holders }: LockState): ReadonlyArray<bigint> => holders.map(({ token }) => token)

/** What a store tells its holders. */
const notices = (store: LockStore["Service"]) =>
  Effect.gen(function*() {
    const told = yield* Queue.unbounded<RevocationNotice>()
    yield* Effect.forkScoped(
      Stream.runForEach(store.losses, (news) => "revocation" in news ? Queue.offer(told, news) : Effect.void),
      { startImmediately: true }
    )
    return told
  })

const setting = Effect.gen(function*() {
  const { url } = yield* server()
  const plain = yield* plainClient(url)
  return { url, plain, one: yield* client(url), other: yield* client(url) }
})

const held = (claim: Claim, { fencingToken }: Granted): Held => ({ claim, fencingToken })

describe("inspect on etcd", () => {
  it.live("tells the holder of a mutex and who waits, in their order, and changes nothing", () =>
    Effect.gen(function*() {
      const { one, other, plain } = yield* setting
      const free = yield* other.admin.inspect(on("k"))
      assert.deepStrictEqual(free, {
        key: "dlock:k",
        kind: undefined,
        capacity: undefined,
        holders: [],
        holderCount: 0,
        permitsHeld: 0,
        waiting: [],
        queueLength: 0,
        lastToken: undefined
      })
      const { fencingToken } = yield* hold(one.store, mutexOf({ holder: "a" }))
      for (const holder of ["b", "c", "d"]) yield* wait(holder === "c" ? other.store : one.store, mutexOf({ holder }))
      const before = yield* Effect.promise(() => dump(plain))
      const state = yield* other.admin.inspect(on("k"))
      const [holder] = state.holders
      assert.isAtLeast(holder!.expiresIn!, 30_000)
      assert.isAtMost(holder!.expiresIn!, 34_000)
      assert.deepStrictEqual(state, {
        key: "dlock:k",
        kind: "mutex",
        capacity: 1,
        holders: [{
          holder: "a",
          token: fencingToken,
          permits: 1,
          since: undefined,
          expiresIn: holder!.expiresIn,
          isForeign: false,
          isRevoked: false
        }],
        holderCount: 1,
        permitsHeld: 1,
        waiting: ["b", "c", "d"].map((holder) => ({ holder, permits: 1 })),
        queueLength: 3,
        lastToken: fencingToken
      })
      assert.deepStrictEqual(yield* Effect.promise(() => dump(plain)), before)
    }).pipe(Effect.scoped))

  it.live("counts the permits of a semaphore by the strictest capacity, and those that were given back", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const large = permitsOf(4, 8)
      const a = yield* hold(one.store, large)
      const b = yield* hold(one.store, permitsOf(1, 6))
      yield* wait(other.store, permitsOf(2, 6))
      yield* wait(other.store, permitsOf(1, 8))
      let state = yield* other.admin.inspect(on("k"))
      assert.deepStrictEqual(tokens(state), [a.fencingToken, b.fencingToken])
      assert.deepStrictEqual([state.kind, state.capacity, state.permitsHeld, state.queueLength], ["semaphore", 6, 5, 2])
      assert.deepStrictEqual(state.lastToken, b.fencingToken)
      yield* one.store.shrink!(held(large, a), 3)
      yield* Effect.sleep("100 millis")
      state = yield* other.admin.inspect(on("k"))
      assert.deepStrictEqual(state.holders.map(({ permits }) => permits), [3, 1, 2])
      assert.deepStrictEqual([state.permitsHeld, state.queueLength], [6, 1])
    }).pipe(Effect.scoped))

  it.live("takes a writer's two keys for one claim, and a foreign client for a mutex", () =>
    Effect.gen(function*() {
      const { one, other, url } = yield* setting
      const readers = [readerOf({ key: "rw" }), readerOf({ key: "rw" })]
      const granted = yield* Effect.forEach(readers, (reader) => hold(one.store, reader))
      const writer = writerOf({ key: "rw" })
      const queued = yield* wait(other.store, writer)
      yield* wait(other.store, readerOf({ key: "rw" }))
      let state = yield* one.admin.inspect(on("rw"))
      assert.deepStrictEqual(tokens(state), granted.map(({ fencingToken }) => fencingToken))
      assert.deepStrictEqual(state.waiting.map(({ permits }) => permits), [readWriteCapacity, 1])
      for (const reader of readers) yield* one.store.withdraw(reader)
      const { fencingToken } = yield* grant(queued, 2_000)
      state = yield* one.admin.inspect(on("rw"))
      assert.deepStrictEqual([state.kind, state.permitsHeld, state.queueLength], ["readWrite", readWriteCapacity, 1])
      assert.deepStrictEqual(tokens(state), [fencingToken])

      const foreign = yield* ctlLock(url, "dlock:a%2Fb%25")
      yield* eventually("it is locked", async () => foreign.locked())
      yield* wait(one.store, mutexOf({ key: "a/b%", holder: "behind" }))
      state = yield* one.admin.inspect(on("a/b%"))
      assert.deepStrictEqual(
        state.holders.map(({ isForeign, permits }) => [isForeign, permits]),
        [[true, 1]]
      )
      assert.deepStrictEqual([state.kind, state.waiting], ["mutex", [{ holder: "behind", permits: 1 }]])
    }).pipe(Effect.scoped))

  it.live("tells no id of a claim, of a newer version neither", () =>
    Effect.gen(function*() {
      const { one, plain } = yield* setting
      const claim = mutexOf()
      yield* hold(one.store, claim)
      yield* wait(one.store, mutexOf())
      const newer = JSON.stringify({ layout: 2, holder: "me", id: "secret" })
      yield* Effect.promise(() => plain.put("dlock:newer/1").value(newer))
      const states = [yield* one.admin.inspect(on("k")), yield* one.admin.inspect(on("newer"))]
      const told = states.map(({ holders, waiting }) => [...holders, ...waiting].map(({ holder }) => holder))
      assert.deepStrictEqual(told, [[claim.holder, claim.holder], [""]])
    }).pipe(Effect.scoped))

  it.live("names the first hundred of many and counts all, in answers of a bounded size", () =>
    Effect.gen(function*() {
      const { one, other, url } = yield* setting
      const [holders, waiting] = [320, 260]
      const holder = "x".repeat(1_000)
      const all = yield* Effect.forEach(
        Array.from({ length: holders }),
        () => hold(one.store, permitsOf(1, holders, { holder })),
        { concurrency: 64 }
      )
      yield* Effect.forEach(
        Array.from({ length: waiting }),
        () => Effect.forkScoped(one.store.request(permitsOf(1, holders, { holder }), "queue")),
        { discard: true }
      )
      const sent = async () =>
        Number(
          /^etcd_network_client_grpc_sent_bytes_total (\S+)$/m.exec(
            await (await fetch(`${url}/metrics`)).text()
          )?.[1]
        )
      yield* eventually(
        "all wait",
        async () => (await Effect.runPromise(other.admin.inspect(on("k")))).queueLength === waiting,
        10_000
      )
      const before = yield* Effect.promise(sent)
      const state = yield* other.admin.inspect(on("k"))
      const bytes = (yield* Effect.promise(sent)) - before
      assert.deepStrictEqual([state.holderCount, state.permitsHeld, state.queueLength], [holders, holders, waiting])
      assert.deepStrictEqual([state.holders.length, state.waiting.length], [100, 100])
      const inOrder = all.map(({ fencingToken }) => fencingToken).toSorted((a, b) => a < b ? -1 : 1)
      assert.deepStrictEqual(tokens(state), inOrder.slice(0, 100))
      assert.strictEqual(state.lastToken, inOrder[holders - 1])
      // 580 names of less than a hundred bytes, and 201 values of 1.2 kilobytes.
      assert.isBelow(bytes, 500_000)
      assert.isAbove(bytes, 200_000, "the server counted the answer")
    }).pipe(Effect.scoped), 30_000)

  it.live("finds the token of every base, at the smallest limit of operations too", () =>
    Effect.gen(function*() {
      const { url } = yield* server("--max-txn-ops=9")
      const one = yield* client(url)
      const plain = yield* plainClient(url)
      const claims: Array<Claim> = []
      const granted: Array<Granted> = []
      for (let nth = 0; nth < 12; nth++) {
        const claim = permitsOf(1, 20)
        claims.push(claim)
        granted.push(yield* hold(one.store, claim))
        yield* Effect.promise(() => plain.put("dlock:\0epoch").value(String(1_000 * (nth + 1))))
      }
      const expected = granted.map(({ fencingToken }) => fencingToken)
      assert.deepStrictEqual(tokens(yield* one.admin.inspect(on("k"))), expected)
      for (const token of expected) {
        const answer = yield* one.admin.revoke(on("k"), { token, grace: 60_000, by: "me" })
        assert.strictEqual(answer, "asked")
      }
      const state = yield* one.admin.inspect(on("k"))
      assert.isTrue(state.holders.every(({ isRevoked }) => isRevoked))
      assert.isTrue(yield* one.admin.breakLock(on("k"), expected[7]!))
      assert.deepStrictEqual(tokens(yield* one.admin.inspect(on("k"))), expected.filter((_, index) => index !== 7))
    }).pipe(Effect.scoped))
})

describe("list on etcd", () => {
  it.live("finds each lock under the prefix, and nothing else", () =>
    Effect.gen(function*() {
      const { one, other, plain } = yield* setting
      const names = ["a", "a!", "a/b", "a%2Fb", "a0", "b:1", "b:2", "é", "~"]
      for (const key of names) yield* hold(one.store, mutexOf({ key }))
      yield* wait(one.store, mutexOf({ key: "b:1" }))
      const put = (key: string) => Effect.promise(() => plain.put(key).value(""))
      yield* Effect.forEach(
        ["dlock:c\0bell", "dlock:d", "dlock:a%zz/1", "dlocl:e/1", "dlock:\0alive\0/x", "dlock/f"],
        put
      )
      const list = (key: string) =>
        Effect.map(Stream.runCollect(other.admin.list(on(key))), (states) => states.map(({ key }) => key.slice(6)))
      assert.sameMembers(yield* list(""), names)
      assert.sameMembers(yield* list("a"), ["a", "a!", "a/b", "a%2Fb", "a0"])
      assert.sameMembers(yield* list("a/"), ["a/b"])
      assert.sameMembers(yield* list("b:"), ["b:1", "b:2"])
      assert.sameMembers(yield* list("é"), ["é"])
      const [state] = yield* Stream.runCollect(other.admin.list(on("b:1")))
      assert.deepStrictEqual([state?.holderCount, state?.queueLength], [1, 1])
    }).pipe(Effect.scoped))

  it.live("ends, whatever bytes another application names its keys with", () =>
    Effect.gen(function*() {
      const { one, other, plain } = yield* setting
      yield* hold(one.store, mutexOf({ key: "a" }))
      // As text, the first of these names comes before its own bytes. The second is that of a lock without a name.
      for (const name of [Buffer.from([0xff, 0xfe]), Buffer.of()]) {
        for (let index = 0; index < 600; index++) {
          const key = Buffer.concat([Buffer.from("dlock:"), name, Buffer.from(`/${index}`)])
          yield* Effect.promise(() => plain.put(key).value(""))
        }
      }
      yield* hold(one.store, mutexOf({ key: "\u{10ffff}" }))
      const found = yield* Effect.timeout(Stream.runCollect(other.admin.list(on(""))), "10 seconds")
      assert.deepStrictEqual(found.map(({ key }) => key), ["dlock:a", "dlock:\u{10ffff}"])
    }).pipe(Effect.scoped))
})

/** How many watches are open at the server. */
const openWatches = async (url: string): Promise<number> =>
  Number(/^etcd_debugging_mvcc_watcher_total (\S+)$/m.exec(await (await fetch(`${url}/metrics`)).text())?.[1])

describe("changes on etcd", () => {
  it.live("tells of grants, releases and waiters, shares one watch, and goes on after an interruption", () =>
    Effect.gen(function*() {
      const { one, other, plain, url } = yield* setting
      const watchers = () => requests(url)
      const before = yield* Effect.promise(watchers)
      const heard = yield* Queue.unbounded<number>()
      const observe = (nth: number) =>
        Effect.forkScoped(Stream.runForEach(other.admin.changes!(on("k")), () => Queue.offer(heard, nth)), {
          startImmediately: true
        })
      yield* observe(1)
      const second = yield* observe(2)
      const hear = Effect.gen(function*() {
        yield* within(Effect.timeout(Queue.take(heard), "2 seconds"), 200)
        yield* Effect.sleep("30 millis")
        yield* Queue.clear(heard)
      })
      yield* hear
      assert.isAtMost(since(before, yield* Effect.promise(watchers)).Watch ?? 0, 1)
      assert.strictEqual(yield* Effect.promise(() => openWatches(url)), 2)
      const claim = mutexOf()
      const { fencingToken } = yield* hold(one.store, claim)
      yield* hear
      yield* one.admin.revoke(on("k"), { token: fencingToken, grace: 60_000, by: "me" })
      yield* hear
      const waiter = mutexOf()
      yield* wait(one.store, waiter)
      yield* hear
      yield* Fiber.interrupt(second)
      yield* one.store.withdraw(waiter)
      yield* hear
      yield* Effect.promise(() => plain.delete().key("other").exec())
      yield* one.store.withdraw(claim)
      yield* hear
    }).pipe(Effect.scoped))

  it.live("are heard at once on a cluster that compacts, and nothing else", () =>
    Effect.gen(function*() {
      const { one, plain } = yield* setting
      const { header } = yield* Effect.promise(() => plain.put("other").value("").exec())
      yield* Effect.promise(() => plain.kv.compact({ revision: header.revision, physical: true }))
      const heard = yield* Queue.unbounded<void>()
      yield* Effect.forkScoped(Stream.runForEach(one.admin.changes!(on("k")), () => Queue.offer(heard, undefined)))
      yield* Effect.sleep("500 millis")
      yield* Queue.clear(heard)
      yield* Effect.sleep("2.5 seconds")
      assert.strictEqual(yield* Queue.size(heard), 0)
      const claim = mutexOf()
      const { fencingToken } = yield* hold(one.store, claim)
      yield* Effect.timeout(Queue.take(heard), 200)
      yield* Effect.sleep("30 millis")
      yield* Queue.clear(heard)
      yield* one.admin.revoke(on("k"), { token: fencingToken, grace: 60_000, by: "me" })
      yield* Effect.timeout(Queue.take(heard), 200)
    }).pipe(Effect.scoped))
})

describe("revoke on etcd", () => {
  it.live("tells the holder at once, and forbids every extension after the grace", () =>
    Effect.gen(function*() {
      const { one, other, plain } = yield* setting
      const recorded = yield* lag
      const told = yield* notices(one.store)
      const claim = mutexOf({ ttl: 4_000 })
      const granted = yield* hold(one.store, claim)
      const waiter = mutexOf({ ttl: 4_000 })
      const queued = yield* wait(other.store, waiter)
      const token = granted.fencingToken
      yield* Effect.sleep("100 millis")
      assert.strictEqual((yield* one.store.renew([held(claim, granted)]))[0]?._tag, "Confirmed")

      assert.strictEqual(
        yield* other.admin.revoke(on("k"), { token, grace: 600, by: "ops", why: "a deploy" }),
        "asked"
      )
      const asked = performance.now()
      const notice = yield* Effect.timeout(Queue.take(told), "2 seconds")
      assert.isBelow(performance.now() - asked, 100 + recorded.max())
      assert.deepStrictEqual([notice.id, notice.revocation.by, notice.revocation.why], [claim.id, "ops", "a deploy"])
      assert.isAtMost(Duration.toMillis(notice.revocation.grace), 600)
      assert.isAtLeast(Duration.toMillis(notice.revocation.grace), 500 - recorded.max())
      const state = yield* other.admin.inspect(on("k"))
      assert.isTrue(state.holders[0]?.isRevoked)

      const [early] = yield* one.store.renew([held(claim, granted)])
      assert(early?._tag === "Confirmed")
      assert.strictEqual(early.revocation?.by, "ops")
      yield* Effect.sleep(700)
      const renewed = yield* one.store.renew([held(claim, granted)])
      assert.deepStrictEqual(renewed.map((one) => one._tag), ["Revoked"])
      // A repeated request tells of the same grant, and of no later confirmation.
      const again = yield* one.store.request(claim, "queue")
      assert(again._tag === "Granted")
      assert.deepStrictEqual([again.fencingToken, again.confirmedAt], [token, early.confirmedAt])

      // Nobody is let in before the claim's last confirmation is over, though its lease goes on for others.
      const neighbour = mutexOf({ key: "neighbour", ttl: 4_000 })
      const its = yield* hold(one.store, neighbour)
      yield* Effect.forkScoped(Effect.forever(Effect.delay(one.store.renew([held(neighbour, its)]), "1 second")))
      const next = yield* Effect.timeout(queued.granted, "10 seconds")
      const last = Number(early.confirmedAt) / 1_000_000
      const clock = yield* Clock.clockWith(Effect.succeed)
      const took = Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000 - last
      const lease = Duration.toMillis(granted.ttl) + Duration.toMillis(claim.guardGap)
      assert.isAtLeast(took, lease - 1)
      assert.isAtMost(took, lease + 250 + recorded.max())
      assert(next._tag === "Granted")
      assert.isAbove(Number(next.fencingToken), Number(token))
      assert.deepStrictEqual((yield* one.store.renew([held(neighbour, its)])).map((one) => one._tag), ["Confirmed"])
      const left = yield* keysOf(plain)
      assert.deepStrictEqual(left.filter((key) => key.includes("revoked\0")), [])
    }).pipe(Effect.scoped), 20_000)

  it.live("is found by the next renewal if the push was lost, and by a process that could not watch", () =>
    Effect.gen(function*() {
      const { other, url } = yield* setting
      const deaf = yield* clientOver(url, (port) => ({ ...port, watch: () => Effect.never }))
      const told = yield* notices(deaf.store)
      const claim = mutexOf({ ttl: 4_000 })
      const granted = yield* hold(deaf.store, claim)
      yield* Effect.sleep("100 millis")
      yield* other.admin.revoke(on("k"), { token: granted.fencingToken, grace: 0, by: "ops", why: "why" })
      yield* Effect.sleep("300 millis")
      assert.strictEqual(yield* Queue.size(told), 0)
      const [renewed] = yield* deaf.store.renew([held(claim, granted)])
      assert(renewed?._tag === "Revoked")
      assert.deepStrictEqual([renewed.revocation?.by, renewed.revocation?.why], ["ops", "why"])
      assert.strictEqual((yield* Queue.take(told)).id, claim.id)
      const [again] = yield* deaf.store.renew([held(claim, granted)])
      assert.strictEqual(again?._tag, "Revoked")
      assert.isTrue((yield* other.admin.inspect(on("k"))).holders[0]?.isRevoked)
    }).pipe(Effect.scoped))

  it.live("makes a watch anew that has not told of it, so that the next one is told at once", () =>
    Effect.gen(function*() {
      const { other, url } = yield* setting
      const recorded = yield* lag
      let isDeaf = false
      const holder = yield* clientOver(url, (port) => ({
        ...port,
        // As behind a proxy that took one watch for another: the bell's events go to an id that nobody has.
        watch: ({ onEnd, onResponse }) =>
          port.watch({
            onEnd,
            onResponse: (response) => {
              if (response.created && isDeaf) isDeaf = false
              const isRing = response.events.some(({ kv }) => kv.key.toString() === "dlock:\0revoked")
              if (!isRing || !isDeaf) onResponse(response)
            }
          })
      }))
      const told = yield* notices(holder.store)
      const claims = [mutexOf(), mutexOf({ key: "next" })]
      const [one, next] = [yield* hold(holder.store, claims[0]!), yield* hold(holder.store, claims[1]!)]
      yield* Effect.sleep("200 millis")
      isDeaf = true
      yield* other.admin.revoke(on("k"), { token: one.fencingToken, grace: 5_000, by: "ops" })
      yield* Effect.sleep("300 millis")
      assert.strictEqual(yield* Queue.size(told), 0)
      yield* holder.store.renew([held(claims[0]!, one)])
      assert.strictEqual((yield* Queue.take(told)).id, claims[0]!.id)
      yield* Effect.sleep("200 millis")
      yield* other.admin.revoke(on("next"), { token: next.fencingToken, grace: 5_000, by: "ops" })
      const asked = performance.now()
      assert.strictEqual((yield* Effect.timeout(Queue.take(told), "2 seconds")).id, claims[1]!.id)
      assert.isBelow(performance.now() - asked, 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("is heard of a claim that was marked before its process watched", () =>
    Effect.gen(function*() {
      const { one, other } = yield* setting
      const recorded = yield* lag
      const told = yield* notices(one.store)
      const claim = mutexOf()
      const { fencingToken } = yield* hold(one.store, claim)
      yield* other.admin.revoke(on("k"), { token: fencingToken, grace: 5_000, by: "ops" })
      const asked = performance.now()
      assert.strictEqual((yield* Effect.timeout(Queue.take(told), "2 seconds")).id, claim.id)
      assert.isBelow(performance.now() - asked, 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("shortens the grace and never lengthens it", () =>
    Effect.gen(function*() {
      const { one, other, plain } = yield* setting
      const told = yield* notices(one.store)
      const claim = permitsOf(2, 4)
      const granted = yield* hold(one.store, claim)
      yield* Effect.sleep("100 millis")
      const revoke = (grace: number, by: string) =>
        other.admin.revoke(on("k"), { token: granted.fencingToken, grace, by })
      const graceOf = Effect.map(Effect.timeout(Queue.take(told), "2 seconds"), ({ revocation }) => revocation)
      assert.strictEqual(yield* revoke(60_000, "first"), "asked")
      assert.strictEqual((yield* graceOf).by, "first")
      assert.strictEqual(yield* revoke(1_000, "second"), "asked")
      const { by, grace } = yield* graceOf
      assert.strictEqual(by, "second")
      assert.isAtMost(Duration.toMillis(grace), 1_000)
      assert.strictEqual(yield* revoke(30_000, "third"), "asked")
      // The latest mark replaced the one before it, and the longer grace left none.
      const marks = (yield* keysOf(plain)).filter((key) => key.includes("revoked\0"))
      assert.deepStrictEqual(marks.map((key) => key.split("\0")[4]), ["1000"])
      // Two that ask at the same moment may both leave a mark.
      const late = `${marks[0]!.slice(0, -4)}50000`
      const lease = yield* Effect.promise(async () => (await plain.get(marks[0]!).exec()).kvs[0]!.lease)
      const bell = JSON.stringify({ layout: 1, by: "late", mark: late })
      yield* Effect.promise(() => plain.put(late).value(JSON.stringify({ layout: 1, by: "late" })).lease(lease))
      yield* Effect.promise(() => plain.put("dlock:\0revoked").value(bell))
      yield* Effect.sleep("200 millis")
      const [renewed] = yield* one.store.renew([held(claim, granted)])
      assert(renewed?._tag === "Confirmed")
      assert(renewed.revocation !== undefined)
      assert.strictEqual(renewed.revocation.by, "second")
      assert.isAtMost(Duration.toMillis(renewed.revocation.grace), 850)
      yield* Effect.sleep("1 second")
      // A shrink that was on its way gives back permits and extends nothing.
      const shrunk = yield* one.store.shrink!(held(claim, granted), 1)
      assert.strictEqual(shrunk._tag, "Revoked")
      const again = yield* one.store.request(claim, "queue")
      assert(again._tag === "Granted")
      assert.strictEqual(again.confirmedAt, renewed.confirmedAt)
    }).pipe(Effect.scoped))

  it.live("changes nothing for a wrong token, a waiter, or the client of another library", () =>
    Effect.gen(function*() {
      const { one, other, plain, url } = yield* setting
      const { fencingToken } = yield* hold(one.store, mutexOf())
      const waiter = mutexOf()
      yield* wait(one.store, waiter)
      const foreign = yield* ctlLock(url, "dlock:foreign")
      yield* eventually("it is locked", async () => foreign.locked())
      const its = (yield* other.admin.inspect(on("foreign"))).holders[0]!.token
      const [, second] = yield* Effect.promise(async () =>
        (await plain.getAll().prefix("dlock:k/").sort("Create", "Ascend").exec()).kvs
      )
      yield* Effect.sleep("100 millis")
      const before = yield* Effect.promise(() => dump(plain))
      const wrong = [fencingToken - 1n, fencingToken + 1n, BigInt(second!.create_revision), 0n, 2n ** 62n]
      for (const token of wrong) {
        assert.strictEqual(yield* other.admin.revoke(on("k"), { token, grace: 0, by: "ops" }), "notHeld")
        assert.isFalse(yield* other.admin.breakLock(on("k"), token))
        assert.strictEqual(yield* other.admin.revoke(on("nothing"), { token, grace: 0, by: "ops" }), "notHeld")
      }
      assert.strictEqual(yield* other.admin.revoke(on("foreign"), { token: its, grace: 0, by: "ops" }), "foreign")
      assert.deepStrictEqual(yield* Effect.promise(() => dump(plain)), before)
    }).pipe(Effect.scoped))

  it.live(
    "leaves no mark when the claim is released, and none that its process has not heard of",
    () =>
      Effect.gen(function*() {
        const { one, other, plain, url } = yield* setting
        const deaf = yield* clientOver(url, (port) => ({ ...port, watch: () => Effect.never }))
        for (const { store } of [one, deaf]) {
          const claims = [mutexOf({ ttl: 3_000 }), writerOf({ key: "rw", ttl: 3_000 })]
          for (const claim of claims) {
            const { fencingToken } = yield* hold(store, claim)
            yield* Effect.sleep("60 millis")
            const name = { key: claim.key, prefix: "dlock:" }
            yield* other.admin.revoke(name, { token: fencingToken, grace: 9_000, by: "ops" })
            assert.isTrue((yield* other.admin.inspect(name)).holders[0]?.isRevoked)
          }
          yield* Effect.sleep("100 millis")
          yield* Effect.forEach(claims, (claim) => store.withdraw(claim))
          // The loop of the store confirms the lease after 0.4 of 4 seconds.
          yield* eventually(
            "no mark is left",
            async () => !(await plain.getAll().keys()).some((key) => String(key).includes("revoked\0")),
            store === deaf.store ? 2_500 : 300
          )
        }
      }).pipe(Effect.scoped),
    20_000
  )
})

describe("breakLock on etcd", () => {
  it.live("deletes what is held and lets the next in, and the holder hears of it", () =>
    Effect.gen(function*() {
      const { one, other, plain } = yield* setting
      for (const claimed of [mutexOf({ key: "m" }), writerOf({ key: "w" }), permitsOf(2, 2, { key: "s" })]) {
        const name = { key: claimed.key, prefix: "dlock:" }
        const granted = yield* hold(one.store, claimed)
        const queued = yield* wait(other.store, { ...claimed, id: `${claimed.id.slice(0, 20)}-n` })
        const lost = yield* Effect.forkScoped(
          Stream.runHead(Stream.filter(one.store.losses, (loss) => loss.id === claimed.id)),
          { startImmediately: true }
        )
        yield* Effect.sleep("100 millis")
        yield* other.admin.revoke(name, { token: granted.fencingToken, grace: 60_000, by: "ops" })
        assert.isTrue(yield* within(other.admin.breakLock(name, granted.fencingToken), 200))
        yield* within(grant(queued, 1_000), 250)
        yield* Effect.timeout(Fiber.join(lost), "1 second")
        assert.isFalse(yield* other.admin.breakLock(name, granted.fencingToken))
        const [renewed] = yield* one.store.renew([held(claimed, granted)])
        assert.strictEqual(renewed?._tag, claimed.kind === "semaphore" ? "Gone" : "Replaced")
      }
      assert.isFalse((yield* keysOf(plain)).some((key) => key.includes("revoked\0")))
    }).pipe(Effect.scoped))
})

describe("breakLock of a lock whose process hears nothing", () => {
  it.live("deletes both keys of a writer", () =>
    Effect.gen(function*() {
      const { other, url } = yield* setting
      const deaf = yield* clientOver(url, (port) => ({ ...port, watch: () => Effect.never }))
      const { fencingToken } = yield* hold(deaf.store, writerOf({ key: "w" }))
      const reader = yield* wait(other.store, readerOf({ key: "w" }))
      assert.isTrue(yield* other.admin.breakLock(on("w"), fencingToken))
      yield* within(grant(reader, 1_000), 250)
    }).pipe(Effect.scoped))
})

describe("a role that may not touch the bell of revocations", () => {
  it.live("locks as ever, and its admin says what it lacks", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      yield* Effect.promise(() => enableAuth(url))
      const root = ["--user=root:toor"]
      yield* Effect.promise(() => ctl(url, ...root, "role", "add", "narrow"))
      yield* Effect.promise(() =>
        ctl(url, ...root, "role", "grant-permission", "narrow", "readwrite", "dlock:k", "dlock:l")
      )
      const rootClient = new Etcd3({ hosts: url, auth: { username: "root", password: "toor" } })
      yield* Effect.promise(() => rootClient.role("narrow").grant({ permission: "Read", key: "dlock:\0epoch" }))
      rootClient.close()
      yield* Effect.promise(() => ctl(url, ...root, "user", "add", "narrow:narrow"))
      yield* Effect.promise(() => ctl(url, ...root, "user", "grant-role", "narrow", "narrow"))
      const narrow = yield* client(url, { username: "narrow", password: "narrow" })
      const claim = mutexOf({ ttl: 3_000 })
      const granted = yield* hold(narrow.store, claim)
      yield* Effect.sleep("200 millis")
      const error = yield* Effect.flip(
        narrow.admin.revoke(on("k"), { token: granted.fencingToken, grace: 0, by: "me" })
      )
      assert.deepStrictEqual([error.operation, error.retryable], ["revoke", false])
      assert.include(error.message, "permission denied")
      // Somebody with more rights asks: the mark is where the role may read, so the lease is still confirmed.
      const app = yield* client(url, { username: "app", password: "right" })
      assert.strictEqual(
        yield* app.admin.revoke(on("k"), { token: granted.fencingToken, grace: 0, by: "app" }),
        "asked"
      )
      const neighbour = mutexOf({ key: "k2", ttl: 3_000 })
      const its = yield* hold(narrow.store, neighbour)
      const renewals = yield* narrow.store.renew([held(claim, granted), held(neighbour, its)])
      assert.deepStrictEqual(renewals.map(({ _tag }) => _tag), ["Revoked", "Confirmed"])
      yield* narrow.store.withdraw(claim)
      yield* narrow.store.withdraw(neighbour)
    }).pipe(Effect.scoped), 20_000)
})
