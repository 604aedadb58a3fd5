import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch, Stream } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import type { Etcd3, ITxnRequest, IWatchResponse } from "etcd3"
import { silentFailure } from "../src/internal/client/failure.ts"
import { permitsOf, readerOf, writerOf } from "./claim.ts"
import { client, clientOver, clients, grant, hold, staysOut, traffic, wait } from "./sharing.ts"
import { claims, eventually, lag, members, plainClient, proxyTo, server, timed, watched } from "./support.ts"

describe("a waiting claim of a semaphore", () => {
  it.live("is granted though the past was compacted while its watch was cut", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const proxy = yield* proxyTo(etcd.port)
      const [holder, waiter] = [yield* client(etcd.url), yield* client(proxy.url)]
      const held = permitsOf(4, 4)
      yield* hold(holder, held)
      const waiting = yield* Effect.forEach([1, 2, 1], (permits) => wait(waiter, permitsOf(permits, 4)))
      yield* watched(etcd.url, 2)
      proxy.hold()
      yield* holder.withdraw(held)
      const { header } = yield* Effect.promise(() => admin.kv.range({ key: Buffer.from("x") }))
      yield* Effect.promise(() => admin.kv.compact({ revision: header.revision, physical: true }))
      const recorded = yield* lag
      const healedAt = performance.now()
      proxy.reset()
      proxy.release()
      for (const queued of waiting) yield* grant(queued, 10_000)
      const took = performance.now() - healedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the network was back`)
      assert.isAtMost(took, 1_500 + recorded.max())
    }).pipe(Effect.scoped))

  it.live(
    "is granted though the server ended its watch, at the pace of looks and then of a new watch",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        let refusals = 0
        const holder = yield* client(url)
        // The first three watches end right after they began.
        const waiter = yield* clientOver(url, (port) => ({
          ...port,
          watch: ({ onEnd, onResponse }) =>
            port.watch({
              onEnd,
              onResponse: (response: IWatchResponse) => {
                onResponse(response)
                if (!response.created || refusals >= 3) return
                refusals++
                onResponse({ ...response, created: false, canceled: true })
              }
            })
        }))
        const held = permitsOf(4, 4)
        yield* hold(holder, held)
        const queued = yield* wait(waiter, permitsOf(1, 4))
        yield* Effect.sleep(1_000)
        const before = yield* traffic(url)
        assert.isAbove(refusals, 2)
        const [took] = yield* timed(Effect.andThen(holder.withdraw(held), grant(queued, 5_000)))
        assert.isAtMost(took, 500)
        assert.isAtMost(before.transactions, 30)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("is gone when somebody deletes it, and is not granted, and the next one is", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const [holder, waiter] = yield* clients(url, 2)
      for (const make of [() => permitsOf(1, 1), writerOf]) {
        const held = make()
        yield* hold(holder!, held)
        const [first, second] = [yield* wait(waiter!, make()), yield* wait(waiter!, make())]
        const gone = yield* Effect.forkChild(first.granted, { startImmediately: true })
        const all = yield* Effect.promise(() => claims(admin, "dlock:k"))
        // Of a writer, one of its two keys.
        const [doomed] = all.filter((name) => !name.includes("~")).slice(1)
        yield* Effect.promise(() => admin.delete().key(doomed!))
        assert.deepStrictEqual(yield* Effect.timeout(Fiber.join(gone), 1_000), { _tag: "Gone" })
        yield* staysOut(second)
        yield* holder!.withdraw(held)
        yield* grant(second, 1_000)
        yield* Effect.promise(() => admin.delete().prefix("dlock:k/"))
      }
    }).pipe(Effect.scoped))

  it.live("keeps its place over a restart of the server, and is granted after it", () =>
    Effect.gen(function*() {
      const [member] = yield* members(1)
      const [holder, waiter] = yield* clients(member!.url, 2)
      const held = permitsOf(4, 4)
      yield* hold(holder!, held)
      const waiting = yield* Effect.forEach([1, 2, 1], (permits) => wait(waiter!, permitsOf(permits, 4)))
      const reader = readerOf({ key: "other" })
      const writer = writerOf({ key: "other" })
      yield* hold(holder!, writer)
      const reading = yield* wait(waiter!, reader)
      yield* Effect.promise(() => member!.kill())
      yield* Effect.promise(() => member!.start())
      yield* eventually("the holder is back", async () =>
        (await Effect.runPromise(Effect.exit(holder!.withdraw(held))))._tag === "Success")
      for (const queued of waiting) {
        yield* grant(queued, 10_000)
      }
      yield* staysOut(reading)
      yield* holder!.withdraw(writer)
      yield* grant(reading, 10_000)
    }).pipe(Effect.scoped))
})

describe("a held claim of a shared lock", () => {
  it.live(
    "is lost at once when somebody deletes it, and the others are not, with one watch for all",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        const store = yield* client(url)
        const lost: Array<string> = []
        yield* Effect.forkScoped(Stream.runForEach(store.losses, ({ id }) => Effect.sync(() => void lost.push(id))), {
          startImmediately: true
        })
        const held = Array.from({ length: 40 }, () => permitsOf(1, 100))
        yield* Effect.forEach(held, (claim) => hold(store, claim), { concurrency: "unbounded" })
        yield* watched(url, 1)
        yield* Effect.sleep(100)
        assert.isAtMost((yield* traffic(url)).watches, 2)
        const [, , doomed] = yield* Effect.promise(() => claims(admin, "dlock:k"))
        yield* Effect.promise(() => admin.delete().key(doomed!))
        yield* eventually("one is lost", async () => lost.length === 1)
        yield* Effect.sleep(100)
        assert.strictEqual(lost.length, 1)
        const renewals = yield* store.renew(held.map((claim) => ({ claim, fencingToken: 1n })))
        assert.strictEqual(renewals.filter(({ _tag }) => _tag === "Confirmed").length, 39)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "is lost with either key of a writer, but not with the one that a shrink deletes",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        const store = yield* client(url)
        const lost: Array<string> = []
        yield* Effect.forkScoped(Stream.runForEach(store.losses, ({ id }) => Effect.sync(() => void lost.push(id))), {
          startImmediately: true
        })
        for (const [index, part] of ["~", "writer"].entries()) {
          const writer = writerOf({ key: `k${index}` })
          yield* hold(store, writer)
          yield* Effect.sleep(100)
          const [doomed] = (yield* Effect.promise(() => claims(admin, `dlock:k${index}`))).filter((name) =>
            name.includes(part)
          )
          yield* Effect.promise(() => admin.delete().key(doomed!))
          yield* eventually("it is lost", async () => lost.includes(writer.id))
        }
        const writer = writerOf()
        const { fencingToken } = yield* hold(store, writer)
        yield* Effect.sleep(100)
        const shrunk = yield* store.shrink!({ claim: writer, fencingToken }, 1)
        assert.strictEqual(shrunk._tag, "Confirmed")
        yield* Effect.sleep(200)
        assert.strictEqual((yield* store.renew([{ claim: writer, fencingToken }]))[0]?._tag, "Confirmed")
        assert.isFalse(lost.includes(writer.id))
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("permits that are given back", () => {
  it.live("are there for others at once, time and again", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const [holder, waiter] = yield* clients(url, 2)
      const claim = permitsOf(4, 4)
      const held = { claim, fencingToken: (yield* hold(holder!, claim)).fencingToken }
      const waiting = yield* Effect.forEach([1, 1, 1], (permits) => wait(waiter!, permitsOf(permits, 4)))
      const recorded = yield* lag
      for (const [index, queued] of waiting.entries()) {
        assert.strictEqual((yield* holder!.shrink!(held, 3 - index))._tag, "Confirmed")
        yield* grant(queued, 500 + recorded.max())
      }
      assert.strictEqual((yield* waiter!.request(permitsOf(1, 4), "try"))._tag, "Busy")
      yield* holder!.withdraw(claim)
      assert.strictEqual((yield* waiter!.request(permitsOf(1, 4), "try"))._tag, "Granted")
      // The bell is no claim: it goes when the lease is confirmed next.
      assert.strictEqual((yield* Effect.promise(() => claims(admin, "dlock:k"))).length, 4)
    }).pipe(Effect.scoped))
})

/** A client whose answer to the request for one claim waits for a latch. Returns it and how to name the claim. */
const lateClient = (url: string) =>
  Effect.gen(function*() {
    let late: string | undefined
    const answers = Latch.makeUnsafe()
    const store = yield* clientOver(url, (port) => ({
      ...port,
      txn: (request, ...rest) => {
        const isLate = late !== undefined && bytesOf(request).includes(late)
        return isLate ? Effect.tap(port.txn(request, ...rest), () => answers.await) : port.txn(request, ...rest)
      }
    }))
    return { store, answers, delay: (claim: Claim) => void (late = claim.id) }
  })

const bytesOf = (request: ITxnRequest): string =>
  JSON.stringify(request, (_, value) => value?.type === "Buffer" ? Buffer.from(value.data).toString() : value)

describe("a claim that somebody deletes before its process has the answer", () => {
  /** Requests the claim, deletes what it put, and lets the answer come. */
  const requestAndDelete = (
    { answers, delay, store }: Effect.Success<ReturnType<typeof lateClient>>,
    admin: Etcd3,
    claim: Claim,
    half: (name: string) => boolean = () => true
  ) =>
    Effect.gen(function*() {
      const before = new Set(yield* Effect.promise(() => claims(admin, "dlock:k")))
      delay(claim)
      const asked = yield* Effect.forkScoped(store.request(claim, "queue"), { startImmediately: true })
      let put: ReadonlyArray<string> = []
      yield* eventually("the claim is there", async () => {
        put = (await claims(admin, "dlock:k")).filter((name) => !before.has(name))
        return put.length > 0
      })
      for (const name of put.filter(half)) yield* Effect.promise(() => admin.delete().key(name))
      // Until the watch has told of it.
      yield* Effect.sleep(300)
      yield* answers.open
      return yield* Effect.timeout(Fiber.join(asked), 2_000)
    })

  it.live("is gone, and not granted, though the watch told of it before the answer did", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const late = yield* lateClient(url)
      const other = yield* client(url)
      const held = permitsOf(7, 8)
      yield* hold(other, held)
      const first = yield* wait(late.store, permitsOf(2, 8))
      yield* watched(url, 2)
      assert.deepStrictEqual(yield* requestAndDelete(late, admin, permitsOf(5, 8)), { _tag: "Gone" })
      yield* other.withdraw(held)
      yield* grant(first, 1_000)
      yield* hold(other, permitsOf(6, 8))
    }).pipe(Effect.scoped))

  it.live(
    "is gone, though its permits were free, and the watch on the held claims began before",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        for (const make of [() => permitsOf(1, 2), readerOf]) {
          const late = yield* lateClient(url)
          const before = yield* traffic(url)
          const held = make()
          yield* hold(late.store, held)
          yield* watched(url, before.watches + 1)
          assert.deepStrictEqual(yield* requestAndDelete(late, admin, make()), { _tag: "Gone" })
          yield* late.store.withdraw(held)
          assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
        }
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "is gone though only one of a writer's two keys was deleted, and the other is removed",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        for (const isFirst of [true, false]) {
          const late = yield* lateClient(url)
          const other = yield* client(url)
          const held = writerOf()
          yield* hold(other, held)
          const waiting = yield* wait(late.store, writerOf())
          yield* watched(url, 1)
          const answer = yield* requestAndDelete(late, admin, writerOf(), (name) => name.includes("~") === isFirst)
          assert.deepStrictEqual(answer, { _tag: "Gone" })
          yield* eventually("both keys are gone", async () => (await claims(admin, "dlock:k")).length === 4)
          yield* other.withdraw(held)
          yield* grant(waiting, 1_000)
          yield* Effect.promise(() => admin.delete().prefix("dlock:k/"))
        }
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("a writer of which somebody deletes one key", () => {
  it.live("is lost while it is held, and keeps nobody out with the other key", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const [holder, other] = yield* clients(url, 2)
      const losses: Array<string> = []
      yield* Effect.forkScoped(Stream.runForEach(holder!.losses, ({ id }) => Effect.sync(() => void losses.push(id))))
      for (const isFirst of [true, false]) {
        const writer = writerOf()
        yield* hold(holder!, writer)
        const waiting = yield* wait(other!, readerOf())
        yield* Effect.sleep(200)
        const [doomed] = (yield* Effect.promise(() => claims(admin, "dlock:k")))
          .filter((name) => name.includes("~") === isFirst)
        yield* Effect.promise(() => admin.delete().key(doomed!))
        yield* grant(waiting, 1_000)
        yield* eventually("the holder has learned of it", async () => losses.includes(writer.id))
        yield* Effect.promise(() => admin.delete().prefix("dlock:k/"))
      }
    }).pipe(Effect.scoped))

  it.live("leaves nothing when it is released before it learns of that", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const holder = yield* client(url)
      for (const isFirst of [true, false]) {
        const writer = writerOf()
        yield* hold(holder, writer)
        const [doomed] = (yield* Effect.promise(() => claims(admin, "dlock:k")))
          .filter((name) => name.includes("~") === isFirst)
        yield* Effect.promise(() => admin.delete().key(doomed!))
        yield* holder.withdraw(writer)
        assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
      }
    }).pipe(Effect.scoped))
})

describe("a writer that becomes a reader", () => {
  it.live(
    "keeps its lock though the answer to that was lost, and the next attempt was refused",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        let attempts = 0
        const store = yield* clientOver(url, (port) => ({
          ...port,
          txn: (request, ...rest) => {
            const isShrink = request.compare?.length === 1 && request.success?.length === 1 &&
              request.success[0]!.request_delete_range !== undefined
            if (!isShrink || ++attempts > 2) return port.txn(request, ...rest)
            return attempts === 1
              ? Effect.andThen(port.txn(request, ...rest), Effect.fail(silentFailure))
              : Effect.fail({ ...silentFailure, notDone: true })
          }
        }))
        const losses: Array<string> = []
        yield* Effect.forkScoped(Stream.runForEach(store.losses, ({ id }) => Effect.sync(() => void losses.push(id))))
        const claim = writerOf()
        const { fencingToken } = yield* hold(store, claim)
        const held = { claim, fencingToken }
        yield* Effect.sleep(100)
        assert.strictEqual((yield* store.shrink!(held, 1))._tag, "Unknown")
        assert.strictEqual((yield* store.shrink!(held, 1))._tag, "Unknown")
        assert.strictEqual((yield* store.renew([held]))[0]!._tag, "Confirmed")
        yield* Effect.sleep(200)
        assert.deepStrictEqual(losses, [])
        assert.strictEqual((yield* store.shrink!(held, 1))._tag, "Confirmed")
        assert.strictEqual(yield* store.withdraw(claim), "released")
      }).pipe(Effect.scoped),
    120_000
  )
})
