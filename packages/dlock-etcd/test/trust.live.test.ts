import { assert, describe, it } from "@effect/vitest"
import {
  addLearner,
  enableAuth,
  etcdctl,
  jwtTokens,
  type Server,
  simpleTokens,
  startEtcdCluster,
  startGrpcProxy,
  startMemberProxy
} from "dlock-testing"
import { Effect, Fiber } from "effect"
import type { Locker, OwnershipLost } from "effect-dlock"
import { lag, locker, plainClient, requests, server, since, timed } from "./support.ts"

const credentials = { username: "app", password: "right" }
const root = "--user=root:toor"

/** A server with authentication. */
const guarded = (...args: ReadonlyArray<string>) =>
  Effect.tap(server(...args), ({ url }) => Effect.promise(() => enableAuth(url)))

/** How long the next waiter, of another process, waits after a release, in milliseconds. */
const handOver = (one: Locker["Service"], other: Locker["Service"], key: string) =>
  Effect.gen(function*() {
    const recorded = yield* lag
    let enteredAt = 0
    const { leftAt, waiter } = yield* one.withLock(
      key,
      Effect.gen(function*() {
        const section = other.withLock(key, Effect.sync(() => void (enteredAt = performance.now())))
        const waiter = yield* Effect.forkDetach(section, { startImmediately: true })
        yield* Effect.sleep("200 millis")
        return { waiter, leftAt: performance.now() }
      })
    )
    yield* Fiber.join(waiter)
    return enteredAt - leftAt - recorded.max()
  }).pipe(Effect.scoped)

const promptly = 300

describe("a token that has run out", () => {
  const life = 3

  it.live("disturbs neither calls, nor hand-overs, nor holders", () =>
    Effect.gen(function*() {
      const etcd = yield* guarded(...simpleTokens(life))
      const options = { hosts: etcd.url, ...credentials }
      const [one, other] = [yield* locker(options), yield* locker(options)]
      const held = yield* one.scoped("held", { ttl: "4 seconds" })
      assert.isBelow(yield* handOver(one, other, "k"), promptly)
      // The locker is idle except for renewals of the held lock.
      yield* Effect.sleep("8 seconds")
      for (let round = 0; round < 3; round++) assert.isBelow(yield* handOver(one, other, "k"), promptly)
      yield* held.ensureHeld
      const waiting = yield* Effect.forkDetach(Effect.flip(held.lost), { startImmediately: true })
      const [took, lost] = yield* timed(Effect.andThen(
        Effect.promise(() => etcdctl(etcd.url, root, "del", "--prefix", "dlock:held/")),
        Fiber.join(waiting)
      ))
      assert.strictEqual((lost as OwnershipLost).reason, "Expired")
      assert.isBelow(took, 1_000, "a deleted key is told at once")
    }).pipe(Effect.scoped))

  it.live("is replaced by one request, however many calls need another", () =>
    Effect.gen(function*() {
      const etcd = yield* guarded(...simpleTokens(life))
      const { withLock } = yield* locker({ hosts: etcd.url, ...credentials })
      yield* withLock("k", Effect.void)
      yield* Effect.sleep("7 seconds")
      const before = yield* Effect.promise(() => requests(etcd.url))
      yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => `k${index}`),
        (key) => withLock(key, Effect.void),
        {
          concurrency: "unbounded"
        }
      )
      const after = yield* Effect.promise(() => requests(etcd.url))
      assert.strictEqual(since(before, after)["Authenticate"], 1)
    }).pipe(Effect.scoped))
})

describe("a signed token", () => {
  it.live("is replaced when it has run out, and when the users have changed", () =>
    Effect.gen(function*() {
      const etcd = yield* guarded(...jwtTokens(5))
      const options = { hosts: etcd.url, ...credentials }
      const [one, other] = [yield* locker(options), yield* locker(options)]
      const held = yield* one.scoped("held", { ttl: "3 seconds" })
      for (let round = 0; round < 3; round++) {
        yield* Effect.promise(() => etcdctl(etcd.url, root, "user", "add", `somebody-${round}:else`))
        assert.isBelow(yield* handOver(one, other, "k"), promptly)
        yield* Effect.sleep("3 seconds")
        assert.isBelow(yield* handOver(other, one, "k"), promptly)
      }
      yield* held.ensureHeld
    }).pipe(Effect.scoped))
})

describe("a user that is removed", () => {
  it.live("fails by name, and is served again when it is back", () =>
    Effect.gen(function*() {
      const etcd = yield* guarded(...simpleTokens(300))
      const { withLock } = yield* locker({ hosts: etcd.url, ...credentials })
      yield* withLock("k", Effect.void)
      yield* Effect.promise(() => etcdctl(etcd.url, root, "user", "delete", "app"))
      const error = yield* Effect.flip(withLock("k", Effect.void))
      assert.strictEqual(error._tag, "LockBackendError")
      yield* Effect.promise(() => etcdctl(etcd.url, root, "user", "add", "app:right"))
      yield* Effect.promise(() => etcdctl(etcd.url, root, "user", "grant-role", "app", "locks"))
      yield* withLock("k", Effect.void)
    }).pipe(Effect.scoped))
})

describe("credentials that nobody asks for", () => {
  it.live("are not used, and are used from the moment at which the server asks for them", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const { withLock } = yield* locker({ hosts: etcd.url, ...credentials })
      yield* withLock("k", Effect.void)
      yield* Effect.promise(() => enableAuth(etcd.url))
      yield* withLock("k", Effect.void)
    }).pipe(Effect.scoped))
})

describe("a proxy that names watches itself", () => {
  const all = { concurrency: "unbounded" } as const

  it.live("keeps a lock and its watch when another one ends, and hands locks over promptly", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startGrpcProxy([etcd.url])),
        (proxy) => Effect.promise(() => proxy.stop())
      )
      const options = { hosts: proxy.url }
      const [one, other] = [yield* locker(options), yield* locker(options)]
      // Pairs of locks, one pair after the other. The watches of a pair begin in one moment.
      const pairs = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, nth) => nth),
        (nth) =>
          Effect.all([one.scoped(`held-${nth}`), one.scoped(`ends-${nth}`)], all).pipe(
            Effect.tap(Effect.sleep("10 millis"))
          )
      )
      const [held, ends] = [pairs.map(([held]) => held), pairs.map(([, ends]) => ends)]
      yield* Effect.sleep("500 millis")
      yield* Effect.forEach(ends, (lease) => lease.release, all)
      yield* Effect.sleep("200 millis")
      yield* Effect.forEach(held, (lease) => lease.ensureHeld)
      for (let round = 0; round < 3; round++) assert.isBelow(yield* handOver(one, other, "k"), promptly)
      const waiting = yield* Effect.forkDetach(
        Effect.forEach(held, (lease) => Effect.flip(lease.lost), all),
        { startImmediately: true }
      )
      const [took] = yield* timed(Effect.andThen(
        Effect.promise(() => etcdctl(etcd.url, "del", "--prefix", "dlock:held-")),
        Fiber.join(waiting)
      ))
      assert.isBelow(took, 1_000, "the real loss is told at once")
    }).pipe(Effect.scoped))
})

describe("a member that refuses", () => {
  it.live(
    "is left for one that does not: a learner among the hosts, and the voter frozen for a while",
    () =>
      Effect.gen(function*() {
        const { servers } = yield* Effect.acquireRelease(
          Effect.promise(() => startEtcdCluster(1, ["--strict-reconfig-check=false"])),
          (cluster) => Effect.promise(() => cluster.stop())
        )
        const voter = servers[0] as Server
        const learner = yield* Effect.acquireRelease(
          Effect.promise(() => addLearner({ servers })),
          (learner) => Effect.promise(() => learner.stop())
        )
        const { scoped, withLock } = yield* locker({ hosts: [voter.url, learner.url] })
        const held = yield* scoped("held", { ttl: "9 seconds" })
        voter.signal("SIGSTOP")
        yield* Effect.sleep("1500 millis")
        voter.signal("SIGCONT")
        const [took] = yield* timed(withLock("k", Effect.void))
        assert.isBelow(took, 1_000)
        yield* Effect.sleep("10 seconds")
        yield* held.ensureHeld
      }).pipe(Effect.scoped),
    120_000
  )

  for (
    const [what, refusal] of [
      ["has too much to do", { code: 8, message: "etcdserver: too many requests" }],
      ["is corrupt", { code: 15, message: "etcdserver: corrupt cluster" }],
      ["knows no token", { code: 16, message: "etcdserver: invalid auth token" }]
    ] as const
  ) {
    it.live(`is left for one that does not, where it ${what}`, () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startMemberProxy(etcd.port)),
          (proxy) => Effect.promise(() => proxy.stop())
        )
        const { scoped, withLock } = yield* locker({ hosts: [proxy.url, etcd.url] })
        const held = yield* scoped("held", { ttl: "2 seconds" })
        proxy.refuse(refusal)
        const [took] = yield* timed(
          Effect.forEach(Array.from({ length: 20 }, (_, index) => `k${index}`), (key) => withLock(key, Effect.void))
        )
        assert.isBelow(took, 2_000)
        yield* Effect.sleep("3 seconds")
        yield* held.ensureHeld
        const admin = yield* plainClient(etcd.url)
        assert.strictEqual((yield* Effect.promise(() => admin.getAll().prefix("dlock:k").keys())).length, 0)
      }).pipe(Effect.scoped))
  }
})
