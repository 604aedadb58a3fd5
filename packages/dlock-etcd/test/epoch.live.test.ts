import { assert, describe, it } from "@effect/vitest"
import { enableAuth, freePorts } from "dlock-testing"
import { Duration, Effect, Fiber } from "effect"
import type { Locker, LockStore } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"
import type { Claim } from "effect-dlock/LockStore"
import type { Etcd3 } from "etcd3"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { open } from "../src/internal/client/connection.ts"
import { silentFailure } from "../src/internal/client/failure.ts"
import type { Port } from "../src/internal/client/port.ts"
import { parse } from "../src/internal/options.ts"
import * as Store from "../src/internal/store/store.ts"
import { claimOf } from "./claim.ts"
import {
  ctl,
  eventually,
  keys,
  locker,
  lockerOver,
  members,
  plainClient,
  proxyTo,
  requests,
  server,
  since
} from "./support.ts"

const tokenOf = ({ withLock }: Locker["Service"], key = "k") =>
  withLock(key, ({ fencingToken }) => Effect.succeed(fencingToken))

const raise = (hosts: string, above: bigint) => EtcdLocker.raiseTokenEpoch({ hosts, above })

/** The value of the epoch's key, and the revision that put it. */
const epoch = (admin: Etcd3, prefix = "dlock:") =>
  Effect.promise(async () => {
    const [kv] = (await admin.kv.range({ key: Buffer.from(`${prefix}\0epoch`) })).kvs
    return { text: kv?.value.toString(), revision: kv?.mod_revision }
  })

const storeOver = (hosts: string, meddle: (port: Port) => Port) =>
  Effect.flatMap(parse({ hosts }), (settings) => Effect.flatMap(open(settings), (port) => Store.make(meddle(port))))

const grantOf = (store: LockStore["Service"], claim: Claim) =>
  Effect.map(store.request(claim, "queue"), (answer) => {
    assert(answer._tag === "Granted")
    return answer.fencingToken
  })

describe("a raised epoch", () => {
  it.live("puts the tokens of all keys and forms above what was asked for, once and for all, at a request once a process", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const one = yield* locker({ hosts: etcd.url })
      const low = yield* tokenOf(one)
      assert.isBelow(Number(low), 1_000)
      assert.deepStrictEqual(yield* raise(etcd.url, 5_000n), { base: 5_000n, previous: 0n })
      assert.strictEqual((yield* epoch(admin)).text, "5000")
      const before = yield* Effect.promise(() => requests(etcd.url))
      assert.isAbove(Number(yield* tokenOf(one)), 5_000)
      // The locker sends one request in the old epoch.
      assert.deepStrictEqual(since(before, yield* Effect.promise(() => requests(etcd.url))), { Txn: 3 })
      const taught = yield* Effect.promise(() => requests(etcd.url))
      yield* tokenOf(one)
      yield* tokenOf(one, "another")
      assert.deepStrictEqual(since(taught, yield* Effect.promise(() => requests(etcd.url))), { Txn: 4 })
      // The same holds for a new locker, and for a try, which takes no place where it would have to wait.
      const other = yield* locker({ hosts: etcd.url })
      assert.isAbove(Number(yield* tokenOf(other)), 5_000)
      const tries = yield* locker({ hosts: etcd.url })
      yield* tries.scopedIfAvailable("tried").pipe(
        Effect.map((lease) => assert.isAbove(Number(lease._tag === "Some" && lease.value.fencingToken), 5_000)),
        Effect.scoped
      )
      yield* other.withLock(
        "held",
        () => Effect.map(tries.scopedIfAvailable("held"), ({ _tag }) => assert.strictEqual(_tag, "None"))
      )
      // The tokens of another prefix are not raised.
      const elsewhere = yield* locker({ hosts: etcd.url, prefix: "other:" })
      assert.isBelow(Number(yield* tokenOf(elsewhere)), 1_000)
      assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), ["dlock:\0epoch"])
    }).pipe(Effect.scoped))

  it.live("is that of shared claims too, whether they wait or try", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const store = yield* storeOver(etcd.url, (port) => port)
      const shared = (id: string): Claim => ({
        ...claimOf(10_000, 1_000),
        id: id.padEnd(22, "_"),
        kind: "semaphore",
        permits: 1,
        capacity: 3
      })
      const first = yield* grantOf(store, shared("first"))
      yield* EtcdLocker.raiseTokenEpoch({ hosts: etcd.url, above: 1_000n, prefix: "" })
      assert.isAbove(Number(yield* grantOf(store, shared("second"))), 1_000)
      yield* EtcdLocker.raiseTokenEpoch({ hosts: etcd.url, above: 2_000n, prefix: "" })
      const third = yield* store.request(shared("third"), "try")
      assert.isAbove(Number(third._tag === "Granted" && third.fencingToken), 2_000)
      // A claim that was put before keeps its token.
      assert.strictEqual(yield* grantOf(store, shared("first")), first)
    }).pipe(Effect.scoped))

  it.live("changes nothing where tokens are above that already", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      assert.deepStrictEqual(yield* raise(etcd.url, 0n), { base: 0n, previous: 0n })
      assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), [])
      yield* raise(etcd.url, 700n)
      const put = yield* epoch(admin)
      assert.deepStrictEqual(yield* raise(etcd.url, 699n), { base: 700n, previous: 700n })
      assert.deepStrictEqual(yield* raise(etcd.url, 700n), { base: 700n, previous: 700n })
      assert.deepStrictEqual(yield* epoch(admin), put)
    }).pipe(Effect.scoped))

  it.live("is the highest of those that are asked for at once", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const wanted = [3n, 90n, 41n, 8n, 1_000n, 999n, 2n, 500n]
      const raised = yield* Effect.forEach(wanted, (above) => raise(etcd.url, above), { concurrency: "unbounded" })
      raised.forEach(({ base }, index) => assert.isTrue(base >= wanted[index]!))
      assert.strictEqual((yield* epoch(admin)).text, "1000")
    }).pipe(Effect.scoped))

  it.live("lets a claim keep the base in which it was put, when its answer was lost and it is asked for again", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      yield* EtcdLocker.raiseTokenEpoch({ hosts: etcd.url, above: 1_000n, prefix: "" })
      let isDeaf = false
      const store = yield* storeOver(etcd.url, (port) => ({
        ...port,
        txn: (...args) =>
          Effect.flatMap(port.txn(...args), (reply) => isDeaf ? Effect.fail(silentFailure) : Effect.succeed(reply))
      }))
      const other = claimOf(10_000, 1_000)
      assert.isAbove(Number(yield* grantOf(store, { ...other, id: "b".repeat(22), key: "warm" })), 1_000)
      isDeaf = true
      const claim = claimOf(10_000, 1_000)
      const error = yield* Effect.flip(store.request(claim, "queue"))
      assert.strictEqual(error._tag, "LockBackendError")
      isDeaf = false
      const [kv] = (yield* Effect.promise(() =>
        admin.kv.range({ key: Buffer.from("k/"), range_end: Buffer.from("k0") })
      )).kvs
      assert.strictEqual((JSON.parse(kv!.value.toString()) as { readonly base: string }).base, "1000")
      yield* EtcdLocker.raiseTokenEpoch({ hosts: etcd.url, above: 1_000_000n, prefix: "" })
      const token = yield* grantOf(store, claim)
      assert.strictEqual(token, 1_000n + BigInt(kv!.create_revision))
      // The request is repeated in the epoch that the store knows by now.
      assert.strictEqual(yield* grantOf(store, claim), token)
      assert.strictEqual(yield* store.withdraw(claim), "released")
      assert.isAbove(Number(yield* grantOf(store, { ...claim, id: "c".repeat(22) })), 1_000_000)
    }).pipe(Effect.scoped))

  it.live("never lets a token fall, however often it is raised under load", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const hosts = etcd.url
      const lockers = [yield* locker({ hosts }), yield* locker({ hosts }), yield* locker({ hosts })]
      // This locker gets no events and is slow because of that, so it uses only one key.
      const deaf = yield* lockerOver(hosts, (port) => ({ ...port, watch: () => Effect.never }))
      const last = new Map<string, bigint>()
      let floor = 0n
      let sections = 0
      let goesOn = true
      const section = ({ withLock }: Locker["Service"], key: string) =>
        Effect.suspend(() => {
          const above = floor
          return withLock(key, ({ fencingToken }) =>
            Effect.sync(() => {
              assert.isTrue(fencingToken > (last.get(key) ?? 0n), `${key}: ${fencingToken} after ${last.get(key)}`)
              assert.isTrue(fencingToken > above, `${key}: ${fencingToken} is not above ${above}`)
              last.set(key, fencingToken)
              sections++
            }))
        })
      const all = [...lockers.flatMap((one) => ["a", "b", "c"].map((key) => [one, key] as const)), [deaf, "c"] as const]
      const load = yield* Effect.forkChild(
        Effect.forEach(
          [...all, ...all],
          ([one, key]) => Effect.whileLoop({ while: () => goesOn, body: () => section(one, key), step: () => {} }),
          { concurrency: "unbounded", discard: true }
        )
      )
      for (let nth = 1; nth <= 100; nth++) {
        const highest = Array.from(last.values()).reduce((a, b) => a > b ? a : b, floor)
        floor = (yield* raise(hosts, highest + 10_000n)).base
        yield* Effect.sleep("20 millis")
      }
      goesOn = false
      yield* Fiber.join(load)
      yield* Effect.log(`${sections} sections, the epoch is at ${floor}`)
      assert.isAbove(sections, 300)
      yield* Effect.forEach(all, ([one, key]) => section(one, key), { discard: true })
    }).pipe(Effect.scoped))

  it.live("needs no more than the permission for the prefix", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      yield* Effect.promise(() => enableAuth(etcd.url))
      const options = { hosts: etcd.url, username: "app", password: "right" }
      const one = yield* locker(options)
      yield* tokenOf(one)
      yield* EtcdLocker.raiseTokenEpoch({ ...options, above: 1_000n })
      assert.isAbove(Number(yield* tokenOf(one)), 1_000)
    }).pipe(Effect.scoped))

  it.live("goes with six operations in a transaction, and in a crowd with nine", () =>
    Effect.gen(function*() {
      const five = yield* server("--max-txn-ops=5")
      const error = yield* Effect.flip(locker({ hosts: five.url, connectTimeout: "1 second" }))
      assert(error._tag === "LockBackendError")
      assert.include(error.message, "too many operations")
      const six = yield* server("--max-txn-ops=6")
      const few = [yield* locker({ hosts: six.url }), yield* locker({ hosts: six.url })]
      yield* Effect.forEach([...few, ...few], (one) => tokenOf(one), { concurrency: "unbounded" })
      const etcd = yield* server("--max-txn-ops=9")
      yield* raise(etcd.url, 1_000n)
      const lockers = [yield* locker({ hosts: etcd.url }), yield* locker({ hosts: etcd.url })]
      yield* Effect.forEach(
        Array.from({ length: 80 }, (_, index) => lockers[index % 2]!),
        (one) => tokenOf(one),
        { concurrency: "unbounded" }
      )
    }).pipe(Effect.scoped))
})

describe("a restored snapshot", () => {
  it.live(
    "is raised before anybody reaches it, and no token repeats: not to those who knew another epoch at the same revision",
    () =>
      Effect.gen(function*() {
        const [member] = yield* members(1)
        const { port, url } = member!
        const proxy = yield* proxyTo(port)
        const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-snapshot-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true })))
        const snapshot = Path.join(folder, "snapshot")
        const survivor = yield* locker({ hosts: proxy.url })
        for (let nth = 0; nth < 5; nth++) yield* tokenOf(survivor)
        yield* Effect.promise(() => ctl(url, "snapshot", "save", snapshot))
        const admin = yield* plainClient(url)
        yield* raise(url, 1_000n)
        const raisedFirst = yield* epoch(admin)
        let highest = 0n
        for (let nth = 0; nth < 20; nth++) highest = yield* tokenOf(survivor)
        assert.isAbove(Number(highest), 1_020)

        // No client reaches the cluster until its tokens are raised.
        proxy.refuse()
        proxy.reset()
        yield* Effect.promise(async () => {
          await member!.kill()
          await member!.restore(snapshot)
          await member!.start()
        })
        assert.deepStrictEqual(yield* raise(url, highest), { base: highest, previous: 0n })
        const raisedAgain = yield* epoch(yield* plainClient(url))
        assert.strictEqual(raisedAgain.revision, raisedFirst.revision)
        yield* Effect.promise(() => proxy.accept())

        for (const one of [survivor, yield* locker({ hosts: proxy.url })]) {
          const token = yield* tokenOf(one).pipe(Effect.retry({ times: 10 }))
          assert.isTrue(token > highest, `${token} after ${highest}`)
          highest = token
        }
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("an epoch that makes no sense", () => {
  it.live("is refused before anything is sent", () =>
    Effect.gen(function*() {
      // No server listens on this port.
      const [port] = yield* Effect.promise(() => freePorts(1))
      const hosts = `http://127.0.0.1:${port}`
      const fails = (options: object) =>
        Effect.flip(EtcdLocker.raiseTokenEpoch({ hosts, above: 1n, ...options } as EtcdLocker.RaiseOptions))
      const bad = [
        { above: -1n },
        { above: 2n ** 63n },
        { above: 2n ** 63n - 2n ** 53n + 1n },
        { above: 7 },
        { above: "7" },
        { above: undefined },
        { prefix: "a\0b" },
        { prefix: 7 },
        { hosts: "nowhere at all" },
        { defaultTtl: "1 second" }
      ]
      for (const options of bad) {
        const [took, error] = yield* Effect.timed(fails(options))
        assert.strictEqual(error._tag, "ConfigError", String(error))
        assert.isBelow(Duration.toMillis(took), 100)
      }
      const error = yield* fails({ connectTimeout: "200 millis" })
      assert.strictEqual(error._tag, "LockBackendError")
    }))

  it.live("fails each acquire, and nobody gets a lock", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const one = yield* locker({ hosts: etcd.url })
      for (const text of ["many", "-1", "", "0x10", "9223372036854775807", "99999999999999999999"]) {
        yield* Effect.promise(() => admin.put("dlock:\0epoch").value(text))
        for (const error of [yield* Effect.flip(tokenOf(one)), yield* Effect.flip(raise(etcd.url, 1n))]) {
          assert(error._tag === "LockBackendError")
          assert.isFalse(error.retryable)
          assert.match(error.message, /the token epoch at "dlock:\\u0000epoch" is/)
        }
      }
      assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), ["dlock:\0epoch"])
      // An administrator who repairs the epoch by hand may write it with a leading zero.
      yield* Effect.promise(() => admin.put("dlock:\0epoch").value("0500"))
      assert.isAbove(Number(yield* tokenOf(one)), 500)
      yield* Effect.promise(() => admin.delete().key("dlock:\0epoch"))
      assert.isBelow(Number(yield* tokenOf(one)), 500)
      yield* eventually("nothing is left", async () => (await keys(admin)).length === 0)
    }).pipe(Effect.scoped))
})
