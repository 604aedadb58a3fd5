import { assert, describe, it } from "@effect/vitest"
import { enableAuth, find, freePorts, makeCertificates } from "dlock-testing"
import { ConfigProvider, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Redacted, Scope } from "effect"
import { Locker, type LockTimeout, withLock } from "effect-dlock"
import { EtcdLocker, EtcdLockerLive, type EtcdLockerOptions, EtcdLockStore } from "effect-dlock-etcd"
import { Etcd3 } from "etcd3"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import {
  claims,
  ctlLock,
  eventually,
  keys,
  lag,
  leases,
  locker,
  plainClient,
  proxyTo,
  requests,
  server,
  since,
  timed
} from "./support.ts"

const fails = <A, E>(layer: Layer.Layer<A, E>) => Effect.flip(Effect.scoped(Layer.build(Layer.fresh(layer))))

describe("EtcdLocker", () => {
  it.live("costs two requests a section, and no lease", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const { withLock } = yield* locker({ hosts: etcd.url })
      yield* withLock("k", Effect.void, { ttl: "1 hour" })
      const before = yield* Effect.promise(() => requests(etcd.url))
      const [took] = yield* Effect.timed(
        Effect.repeat(withLock("k", Effect.void, { ttl: "1 hour" }), { times: 999 })
      )
      assert.deepStrictEqual(since(before, yield* Effect.promise(() => requests(etcd.url))), { Txn: 2_000 })
      yield* Effect.log(`1,000 sections in ${Duration.toMillis(took).toFixed(0)} ms`)
    }).pipe(Effect.scoped))

  it.live("lets no observer that throws harm anybody else: no rejection is left, and the layer closes", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const rejections: Array<unknown> = []
      const heard = process.rawListeners("unhandledRejection") as Array<() => void>
      process.removeAllListeners("unhandledRejection").on("unhandledRejection", (why) => void rejections.push(why))
      const scope = yield* Scope.make()
      const { withLock } = yield* Scope.provide(locker({ hosts: etcd.url }), scope)
      const throwing = (key: string) =>
        Effect.map(Effect.forkChild(withLock(key, Effect.void), { startImmediately: true }), (fiber) => {
          fiber.addObserver(() => {
            throw new Error("on purpose")
          })
          return fiber
        })
      // `Fiber.join` would add an observer behind the throwing one, and would not be called. So this polls.
      const hasEnded = (fiber: Fiber.Fiber<void, unknown>): boolean => fiber.pollUnsafe() !== undefined
      const one = yield* throwing("k")
      yield* eventually("a section has ended", () => Promise.resolve(hasEnded(one)))
      const asking = yield* Effect.forEach(["a", "b", "c"], throwing)
      yield* Scope.close(scope, Exit.void)
      yield* eventually("those who asked have", () => Promise.resolve(asking.every(hasEnded)))
      process.removeAllListeners("unhandledRejection")
      for (const listener of heard) process.on("unhandledRejection", listener)
      assert.deepStrictEqual(rejections, [])
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))

  it.live("leaves the server no more names to look through than there were claims at once", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const { withLock } = yield* locker({ hosts: etcd.url })
      const names = new Set<string>()
      const watcher = yield* Effect.promise(() => admin.watch().prefix("dlock:k/").create())
      watcher.on("put", ({ key }) => void names.add(key.toString()))
      yield* Effect.forEach(Array.from({ length: 400 }), () => withLock("k", Effect.void), { concurrency: 4 })
      yield* withLock("last", Effect.void)
      yield* eventually("all is told", async () => (await claims(admin, "dlock:k")).length === 0)
      yield* Effect.promise(() => watcher.cancel())
      assert.isAtLeast(names.size, 1)
      // More than four: a release frees its name only with its answer, and the next section may begin before that.
      assert.isAtMost(names.size, 8)
    }).pipe(Effect.scoped))

  it.live("keeps a thousand locks alive by their leases, not one by one", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const { scoped } = yield* locker({ hosts: etcd.url })
      yield* Effect.scoped(Effect.gen(function*() {
        const held = yield* Effect.forEach(
          Array.from({ length: 1_000 }, (_, index) => index),
          (index) => scoped(`k${index}`, { ttl: "5 seconds" }),
          { concurrency: 10 }
        )
        yield* Effect.sleep("2 seconds")
        assert.strictEqual((yield* Effect.promise(() => leases(admin))).length, 2)
        const before = yield* Effect.promise(() => requests(etcd.url))
        yield* Effect.sleep("10 seconds")
        const sent = since(before, yield* Effect.promise(() => requests(etcd.url)))
        yield* Effect.log(`1,000 locks of 5 s for 10 s: ${JSON.stringify(sent)}`)
        // There are two leases, and each is renewed every third of its ttl: locks that came at different times renew together.
        assert.isAtMost(sent.LeaseKeepAlive ?? 0, 2 * 20)
        assert.isAtMost(sent.Txn ?? 0, 2)
        yield* Effect.forEach(held, (lease) => lease.ensureHeld)
      }))
      assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), [])
    }).pipe(Effect.scoped))

  it.live("stands in one queue with etcdctl lock", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const { scopedIfAvailable, withLock } = yield* locker({ hosts: etcd.url })
      const waiting = (count: number) =>
        eventually(`${count} stand there`, async () => (await claims(admin, "dlock:k")).length === count)
      const order: Array<string> = []

      const first = yield* ctlLock(etcd.url, "dlock:k")
      yield* eventually("etcdctl has it", async () => first.locked())
      assert.isTrue(Option.isNone(yield* Effect.scoped(scopedIfAvailable("k"))))
      const timeout = yield* Effect.flip(withLock("k", Effect.void, { timeout: "100 millis" }))
      assert.strictEqual(timeout._tag, "LockTimeout")
      assert.isUndefined((timeout as LockTimeout).holder)

      const leave = yield* Deferred.make<void>()
      const ours = yield* Effect.forkChild(
        withLock("k", Effect.andThen(Effect.sync(() => order.push("ours")), Deferred.await(leave))),
        { startImmediately: true }
      )
      yield* waiting(2)
      const third = yield* ctlLock(etcd.url, "dlock:k")
      yield* waiting(3)
      const last = yield* Effect.forkChild(withLock("k", Effect.sync(() => order.push("last"))), {
        startImmediately: true
      })
      yield* waiting(4)
      yield* Effect.sleep("300 millis")
      assert.deepStrictEqual(order, [])
      assert.isFalse(third.locked())

      yield* first.unlock
      yield* eventually("ours is in", async () => order.length === 1)
      yield* Effect.sleep("300 millis")
      assert.isFalse(third.locked(), "etcdctl waits for ours")
      yield* Deferred.succeed(leave, undefined)
      yield* Fiber.join(ours)
      yield* eventually("etcdctl is in", async () => third.locked())
      yield* Effect.sleep("300 millis")
      assert.deepStrictEqual(order, ["ours"], "ours waits for etcdctl")
      yield* third.unlock
      yield* Fiber.join(last)
      assert.deepStrictEqual(order, ["ours", "last"])
    }).pipe(Effect.scoped))

  it.live("keeps keys apart, whatever they look like", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const { scoped, scopedIfAvailable } = yield* locker({ hosts: etcd.url })
      const odd = [
        "a",
        "a/b",
        "a/",
        "/a",
        "a%2Fb",
        "%2F",
        "%",
        "/",
        "0",
        "a0",
        "schlüssel/鍵 🔑",
        "k".repeat(1_018),
        "/".repeat(1_018),
        "鍵".repeat(339)
      ]
      yield* Effect.scoped(Effect.gen(function*() {
        // In both orders, no key waits for another one.
        yield* Effect.scoped(Effect.forEach(odd.toReversed(), (key) => scoped(key, { timeout: "1 second" })))
        for (const key of odd) yield* scoped(key, { timeout: "1 second" })
        for (const key of odd) assert.isTrue(Option.isNone(yield* Effect.scoped(scopedIfAvailable(key))), key)
        // etcdctl must use the encoded name of a key.
        const foreign = yield* ctlLock(etcd.url, "dlock:a%2Fb")
        yield* Effect.sleep("300 millis")
        assert.isFalse(foreign.locked())
        const apart = yield* ctlLock(etcd.url, "dlock:b")
        yield* eventually("another key is free", async () => apart.locked())
        yield* foreign.unlock
        yield* apart.unlock
      }))
      assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), [])
      const error = yield* Effect.flip(Effect.scoped(scoped("k".repeat(1_019))))
      assert.strictEqual(error._tag, "InvalidLockRequest")
    }).pipe(Effect.scoped))

  it.live("lets one in at a time: two lockers, a hundred fibers", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const lockers = [yield* locker({ hosts: etcd.url }), yield* locker({ hosts: etcd.url })]
      let inside = 0
      let most = 0
      let last = 0n
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, index) => index),
        (index) =>
          lockers[index % 2]!.withLock("k", (lease) =>
            Effect.gen(function*() {
              most = Math.max(most, ++inside)
              assert.isTrue(lease.fencingToken > last)
              last = lease.fencingToken
              yield* Effect.sleep(Math.random() * 4)
              inside--
            })),
        { concurrency: "unbounded", discard: true }
      )
      assert.strictEqual(most, 1)
    }).pipe(Effect.scoped))

  it.live("takes hosts and credentials from a client, and leaves the client alone", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const app = new Etcd3({
        hosts: etcd.url,
        defaultCallOptions: () => assert.fail("not for a lock"),
        faultHandling: { global: { execute: () => assert.fail("not for a lock") } as never }
      })
      app.mock({ exec: () => assert.fail("used"), withConnection: () => assert.fail("used") } as never)
      yield* withLock(
        "k",
        Effect.gen(function*() {
          assert.strictEqual((yield* Effect.promise(() => claims(admin, "lock:k"))).length, 1)
          // Long enough for a watch, a keep-alive and an inspection of the lease.
          yield* Effect.sleep("1500 millis")
        }),
        { ttl: "1800 millis" }
      ).pipe(Effect.provide(Layer.fresh(EtcdLocker.layerClient(app, { prefix: "lock:" }))))
      app.unmock()
      assert.deepStrictEqual(
        yield* Effect.promise(() => Promise.resolve((app as unknown as Pool).pool.hosts[0]!.closed)),
        false
      )
      app.close()
      const closed = fails(EtcdLocker.layerClient(app, { connectTimeout: "never" as never }))
      assert.strictEqual((yield* closed)._tag, "ConfigError")
      // A closed client works as well.
      yield* withLock("k", Effect.void).pipe(Effect.provide(Layer.fresh(EtcdLocker.layerClient(app))))
    }).pipe(Effect.scoped))

  it.live("takes all its settings from Config", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          // A ttl of 12 s and a guard gap of 1.2 s give a lease of 14 whole seconds.
          assert.strictEqual(Duration.toMillis(lease.ttl), 12_800)
          assert.strictEqual((yield* Effect.promise(() => claims(admin, "shop:k"))).length, 1)
        })).pipe(
          Effect.provide(Layer.fresh(EtcdLockerLive)),
          Effect.provideService(
            ConfigProvider.ConfigProvider,
            ConfigProvider.fromUnknown({
              DLOCK_ETCD_HOSTS: ` ${etcd.url} , ${etcd.url}`,
              DLOCK_PREFIX: "shop:",
              DLOCK_DEFAULT_TTL: "12 seconds"
            })
          )
        )
    }).pipe(Effect.scoped))

  it.live("takes an address as other tools take it: without a scheme, or with a slash behind it", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      for (const hosts of [`127.0.0.1:${etcd.port}`, `http://127.0.0.1:${etcd.port}/`]) {
        const { withLock } = yield* locker({ hosts })
        assert.strictEqual(yield* withLock("k", Effect.succeed(hosts)), hosts)
      }
    }).pipe(Effect.scoped))

  it.effect("refuses bad configuration before it connects to anything", () =>
    Effect.gen(function*() {
      const hosts = "http://127.0.0.1:1"
      const tls = { ca: "pem" }
      const bad: Array<object> = [
        { hosts: "" },
        { hosts: [] },
        { hosts: 5 },
        { hosts: "127.0.0.1" },
        { hosts: "http://127.0.0.1" },
        { hosts: "127.0.0.1:1/path" },
        { hosts: "redis://127.0.0.1" },
        { hosts: "http://127.0.0.1:1/path" },
        { hosts: "http://user:s3cret@127.0.0.1:1" },
        { hosts: `${hosts},` },
        { hosts: [hosts, "https://127.0.0.1:1"] },
        { hosts, username: "root" },
        { hosts, password: "s3cret" },
        { hosts, username: "", password: "s3cret" },
        { hosts, tls },
        { hosts: "https://127.0.0.1:1", tls: {} },
        { hosts: "https://127.0.0.1:1", tls: { ca: "pem", cert: "pem" } },
        { hosts: "https://127.0.0.1:1", tls: { ...tls, pfx: "typo" } },
        { hosts, prefix: "a}b" },
        { hosts, defaultTtl: "soon" },
        { hosts, defaultTtl: 50 },
        { hosts, guardGap: -1 },
        { hosts, connectTimeout: "never" },
        { hosts, operationTimeout: Infinity },
        { hosts, holder: "" },
        { hosts, prefx: "typo" }
      ]
      for (const options of bad) {
        const error = yield* fails(EtcdLocker.layer(options as EtcdLockerOptions))
        assert.strictEqual(error._tag, "ConfigError", JSON.stringify(options))
        assert.notInclude(JSON.stringify(error) + String(error), "s3cret")
      }
      const portless = yield* fails(EtcdLocker.layer({ hosts: "etcd-1:2379,etcd-2" }))
      assert.include(portless.message, "needs a port for etcd-2")
      const from = (config: Record<string, string>) =>
        Effect.provideService(
          fails(EtcdLockerLive),
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromUnknown(config)
        )
      const unset = yield* from({})
      assert.strictEqual(unset._tag, "ConfigError")
      assert.include(unset.message, "DLOCK_ETCD_HOSTS")
      const missing = yield* from({ DLOCK_ETCD_HOSTS: "https://127.0.0.1:1", DLOCK_ETCD_CA: "/no/such/file" })
      assert.strictEqual(missing._tag, "ConfigError")
      assert.include(missing.message, "DLOCK_ETCD_CA")
      const alone = yield* from({ DLOCK_ETCD_HOSTS: "https://127.0.0.1:1", DLOCK_ETCD_KEY: import.meta.filename })
      assert.strictEqual(alone._tag, "ConfigError")
      assert.include(alone.message, "DLOCK_ETCD_CERT")
      const file = import.meta.filename
      const noAuthority = yield* from({
        DLOCK_ETCD_HOSTS: "https://127.0.0.1:1",
        DLOCK_ETCD_KEY: file,
        DLOCK_ETCD_CERT: file
      })
      assert.strictEqual(noAuthority._tag, "ConfigError")
      assert.include(noAuthority.message, "DLOCK_ETCD_CA")
    }))

  it.live("fails when nobody answers within connectTimeout", () =>
    Effect.gen(function*() {
      const [port] = yield* Effect.promise(() => freePorts(1))
      const layer = EtcdLocker.layer({ hosts: `http://127.0.0.1:${port}`, connectTimeout: "300 millis" })
      const recorded = yield* lag
      const [took, error] = yield* Effect.timed(fails(layer))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "ECONNREFUSED")
      assert.isBelow(Duration.toMillis(took), 300 + 200 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("fails when the server accepts and then says nothing", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const recorded = yield* lag
      etcd.signal("SIGSTOP")
      const [took, error] = yield* Effect.timed(
        fails(EtcdLocker.layer({ hosts: etcd.url, connectTimeout: "500 millis" }))
      )
      etcd.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isBelow(Duration.toMillis(took), 500 + 200 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("goes with a store of its own options", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const layer = Locker.layer({ prefix: "own:" }).pipe(Layer.provide(EtcdLockStore.layer({ hosts: etcd.url })))
      const key = yield* withLock("k", (lease) => Effect.succeed(lease.key)).pipe(Effect.provide(layer))
      assert.strictEqual(key, "k")
    }).pipe(Effect.scoped))
})

interface Pool {
  readonly pool: { readonly hosts: ReadonlyArray<{ readonly closed: boolean }> }
}

describe("with authentication", () => {
  it.live("a holder and a waiter go on past the expiry of their tokens", () =>
    Effect.gen(function*() {
      const etcd = yield* server("--auth-token-ttl=5", "--bcrypt-cost=4")
      yield* Effect.promise(() => enableAuth(etcd.url))
      const proxy = yield* proxyTo(etcd.port)
      const options = { hosts: proxy.url, username: "app", password: Redacted.make("right") }
      const holder = yield* locker(options)
      const waiting = yield* locker(options)
      const inside = yield* Deferred.make<void>()
      const waiter = yield* holder.withLock(
        "k",
        (lease) =>
          Effect.gen(function*() {
            const waiter = yield* Effect.forkDetach(
              waiting.withLock(
                "k",
                Effect.andThen(Deferred.succeed(inside, undefined), Effect.sync(() => performance.now())),
                { ttl: "30 seconds" }
              ),
              { startImmediately: true }
            )
            yield* Effect.sleep("7 seconds")
            // The reset makes the locker open new watches with an expired token.
            proxy.reset()
            yield* Effect.sleep("1 second")
            const before = yield* Effect.promise(() => requests(etcd.url))
            yield* Effect.sleep("2 seconds")
            const sent = since(before, yield* Effect.promise(() => requests(etcd.url)))
            assert.isAtMost(sent.Txn ?? 0, 2, "their watches were accepted")
            yield* lease.ensureHeld
            assert.isUndefined(waiter.pollUnsafe())
            return waiter
          }),
        { ttl: "30 seconds" }
      )
      const recorded = yield* lag
      const releasedAt = performance.now()
      const took = (yield* Fiber.join(waiter)) - releasedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the release`)
      assert.isAtMost(took, 500 + recorded.max())
      yield* Effect.sleep("6 seconds")
      yield* waiting.withLock("k", Effect.void, { timeout: "1 second" })
    }).pipe(Effect.scoped))

  it.live("a wrong password, or none, fails at once, and is told to nobody", () =>
    Effect.gen(function*() {
      const etcd = yield* server("--bcrypt-cost=4")
      yield* Effect.promise(() => enableAuth(etcd.url))
      const lines: Array<string> = []
      const logger = Logger.make(({ cause, message }) => void lines.push(JSON.stringify([message, cause])))
      const credentials = [
        { username: "app", password: "s3cret" },
        { username: "app", password: Redacted.make("s3cret") },
        { username: "nobody", password: "s3cret" },
        {}
      ]
      for (const given of credentials) {
        const [took, error] = yield* timed(fails(EtcdLocker.layer({ hosts: etcd.url, ...given }))).pipe(
          Effect.provide(Logger.layer([logger]))
        )
        assert.strictEqual(error._tag, "LockBackendError", JSON.stringify(given))
        assert.isFalse((error as { readonly retryable?: boolean }).retryable)
        assert.isBelow(took, 1_000)
        for (const text of [JSON.stringify(error), String(error), (error as Error).stack ?? "", lines.join()]) {
          assert.notInclude(text, "s3cret")
        }
      }
      const { withLock } = yield* locker({ hosts: etcd.url, username: "app", password: "right" })
      yield* withLock("k", Effect.sleep("100 millis"))
      // A role without permission to write there gets that error, and soon.
      const outside = yield* locker({ hosts: etcd.url, username: "app", password: "right", prefix: "other:" })
      const error = yield* Effect.flip(outside.withLock("k", Effect.void))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "permission denied")
      assert.isFalse((error as { readonly retryable?: boolean }).retryable)
    }).pipe(Effect.scoped))
})

/** A certificate authority, and the certificates that it signed for a server and a client, as PEM files. */
const certificates = Effect.acquireRelease(
  Effect.sync(() => {
    const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-tls-"))
    makeCertificates(dir)
    return (name: string) => Path.join(dir, name)
  }),
  (file) => Effect.sync(() => Fs.rmSync(file("."), { recursive: true, force: true }))
)

/** An etcd server that accepts only TLS, and only clients with a certificate that its authority signed. */
const serverOverTls = (file: (name: string) => string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const [port, peer] = await freePorts(2)
      const url = `https://127.0.0.1:${port}`
      const child = spawn(find("etcd"), [
        `--data-dir=${file("data")}`,
        `--listen-client-urls=${url}`,
        `--advertise-client-urls=${url}`,
        `--listen-peer-urls=http://127.0.0.1:${peer}`,
        `--cert-file=${file("server.pem")}`,
        `--key-file=${file("server.key")}`,
        `--trusted-ca-file=${file("ca.pem")}`,
        "--client-cert-auth"
      ], { stdio: "ignore" })
      return { child, url }
    }),
    ({ child }) => Effect.sync(() => void child.kill("SIGKILL"))
  )

describe("over TLS", () => {
  it.live("trusts the authority that the configuration names, and no other", () =>
    Effect.gen(function*() {
      const file = yield* certificates
      const { url } = yield* serverOverTls(file)
      const live = (ca: string, who: Record<string, string> = {}) =>
        Effect.provideService(
          timed(Effect.result(
            withLock("k", Effect.as(Effect.sleep("100 millis"), "inside")).pipe(
              Effect.provide(Layer.fresh(EtcdLockerLive))
            )
          )),
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromUnknown({ DLOCK_ETCD_HOSTS: url, DLOCK_ETCD_CA: file(ca), ...who })
        )
      const us = { DLOCK_ETCD_CERT: file("client.pem"), DLOCK_ETCD_KEY: file("client.key") }
      assert.deepInclude((yield* live("ca.pem", us))[1], { _tag: "Success", success: "inside" })
      const [took, foreign] = yield* live("other.pem", us)
      assert.strictEqual(foreign._tag === "Failure" && foreign.failure._tag, "LockBackendError")
      assert.isBelow(took, 1_000, "it does not wait for what cannot come")
      const [, anonymous] = yield* live("ca.pem")
      assert.strictEqual(anonymous._tag === "Failure" && anonymous.failure._tag, "LockBackendError")
    }).pipe(Effect.scoped))
})
