import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Option } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import type { Claim } from "effect-dlock/LockStore"
import { claimOf } from "./claim.ts"
import {
  claims,
  ctl,
  eventually,
  keys,
  lag,
  locker,
  type Member,
  members,
  plainClient,
  requests,
  server,
  since,
  timed
} from "./support.ts"

const failure = <A, E>(exit: Exit.Exit<A, E>): E => {
  assert(Exit.isFailure(exit))
  return Option.getOrThrow(Cause.findErrorOption(exit.cause))
}

const many = <A, E>(count: number, make: (index: number) => Effect.Effect<A, E>) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    (index) => Effect.forkChild(Effect.exit(make(index)), { startImmediately: true })
  )

const claim = (id: string, permits: number): Claim => ({
  ...claimOf(10_000, 1_000),
  kind: "semaphore",
  id,
  key: "permits",
  permits,
  capacity: 4
})

describe("a server without space", () => {
  it.live("refuses at once, and what it refused is not asked for again, nor withdrawn", () =>
    Effect.gen(function*() {
      const etcd = yield* server("--quota-backend-bytes=4000000")
      const { withLock } = yield* locker({ hosts: etcd.url })
      const admin = yield* plainClient(etcd.url)
      yield* withLock("before", Effect.void)
      const fill = async (): Promise<void> => {
        for (let index = 0;; index++) await admin.put(`filler-${index}`).value("x".repeat(500_000))
      }
      yield* Effect.ignore(Effect.tryPromise(fill))
      yield* eventually("it has no space", async () => (await ctl(etcd.url, "alarm", "list")).includes("NOSPACE"))
      const recorded = yield* lag
      const before = yield* Effect.promise(() => requests(etcd.url))
      const began = performance.now()
      const fibers = yield* many(50, (index) => withLock(`k${index}`, Effect.void, { ttl: "1 hour" }))
      const errors = (yield* Effect.forEach(fibers, Fiber.join)).map(failure)
      assert.isBelow(performance.now() - began, 1_000 + recorded.max())
      for (const error of errors) {
        assert.strictEqual(error._tag, "LockBackendError")
        assert.include(error.message, "database space exceeded")
        assert.isFalse(error._tag === "LockBackendError" && error.retryable)
      }
      const after = yield* Effect.promise(() => requests(etcd.url))
      assert.isAtMost(since(before, after)["LeaseGrant"] ?? 0, 50)
      yield* Effect.sleep("2 seconds")
      const quiet = since(after, yield* Effect.promise(() => requests(etcd.url)))
      assert.deepStrictEqual({ ...quiet, LeaseKeepAlive: 0, LeaseTimeToLive: 0 }, {
        LeaseKeepAlive: 0,
        LeaseTimeToLive: 0
      })
    }).pipe(Effect.scoped))
})

describe("a server that cannot be reached", () => {
  it.live(
    "is asked by one for all, and nothing of what was never sent is withdrawn when it is back",
    () =>
      Effect.gen(function*() {
        const [member] = yield* members(1)
        const { withLock } = yield* locker({ hosts: member!.url })
        yield* withLock("k", Effect.void)
        yield* Effect.promise(() => member!.kill())
        // A request that is sent before the locker notices the loss may have arrived.
        yield* Effect.flip(withLock("noticed", Effect.void))
        const cpu = process.cpuUsage()
        const began = performance.now()
        const fibers = yield* many(500, (index) => withLock(`k${index}`, Effect.void))
        const errors = (yield* Effect.forEach(fibers, Fiber.join)).map(failure)
        for (const error of errors) assert.strictEqual(error._tag, "LockBackendError")
        const { system, user } = process.cpuUsage(cpu)
        yield* Effect.log(
          `500 acquires failed after ${(performance.now() - began).toFixed(0)} ms and ${
            ((system + user) / 1_000).toFixed(0)
          } ms of the processor`
        )
        yield* Effect.promise(() => member!.start())
        yield* withLock("k", Effect.void)
        const admin = yield* plainClient(member!.url)
        const left = yield* Effect.promise(() => keys(admin))
        assert.deepStrictEqual(left.filter((key) => !key.includes("noticed")), [])
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("sections that one process starts together", () => {
  it.live("run in the order in which they were started", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const { withLock } = yield* locker({ hosts: etcd.url })
      const orders: Array<ReadonlyArray<number>> = []
      for (let round = 0; round < 50; round++) {
        const order: Array<number> = []
        const fibers = yield* many(8, (index) => withLock("k", Effect.sync(() => void order.push(index))))
        yield* Effect.forEach(fibers, Fiber.join)
        orders.push(order)
      }
      for (const order of orders) assert.deepStrictEqual(order, [0, 1, 2, 3, 4, 5, 6, 7])
    }).pipe(Effect.scoped))

  it.live("go on where one of them gives up before its turn", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const { withLock } = yield* locker({ hosts: etcd.url })
      const order: Array<number> = []
      const fibers = yield* many(5, (index) => withLock("k", Effect.sync(() => void order.push(index))))
      yield* Fiber.interrupt(fibers[1]!)
      yield* Fiber.interrupt(fibers[3]!)
      yield* Effect.forEach([0, 2, 4], (index) => Fiber.join(fibers[index]!))
      assert.deepStrictEqual(order.filter((index) => index % 2 === 0), [0, 2, 4])
    }).pipe(Effect.scoped))
})

describe("a crowd of one process for one lock", () => {
  it.live(
    "is served whole; a caller whose time ends before gets LockTimeout, and tries are answered",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const { withLock, withLockIfAvailable } = yield* locker({ hosts: etcd.url })
        const fibers = yield* many(1_000, () => withLock("k", Effect.void))
        const late = yield* many(50, () => withLock("k", Effect.void, { timeout: "100 millis" }))
        const tries = yield* many(50, () => withLockIfAvailable("k", Effect.void))
        for (const exit of yield* Effect.forEach(tries, Fiber.join)) assert.isTrue(Exit.isSuccess(exit), String(exit))
        const ends = (yield* Effect.forEach(late, Fiber.join)).map(failure)
        assert.deepStrictEqual(new Set(ends.map(({ _tag }) => _tag)), new Set(["LockTimeout"]))
        for (const exit of yield* Effect.forEach(fibers, Fiber.join)) assert.isTrue(Exit.isSuccess(exit), String(exit))
        const admin = yield* plainClient(etcd.url)
        assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("a try for permits that does not fit", () => {
  it.live("does not fail another that fits", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const open = Effect.map(
        Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts: etcd.url }))),
        (context) => Context.get(context, LockStore)
      )
      const [one, other] = [yield* open, yield* open]
      const held = claim("held", 2)
      assert.strictEqual((yield* one.request(held, "try"))._tag, "Granted")
      for (let round = 0; round < 200; round++) {
        const large = claim(`large-${round}`, 3)
        const small = claim(`small-${round}`, 2)
        const [first, second] = yield* Effect.all([one.request(large, "try"), other.request(small, "try")], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual([first._tag, second._tag], ["Busy", "Granted"], `round ${round}`)
        yield* other.withdraw(small)
      }
      yield* one.withdraw(held)
    }).pipe(Effect.scoped))

  it.live("is granted once more where it is repeated, and leaves nothing", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const store = Context.get(yield* Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts: etcd.url }))), LockStore)
      const one = claim("one", 1)
      const first = yield* store.request(one, "try")
      assert.deepStrictEqual(yield* store.request(one, "try"), first)
      yield* store.withdraw(one)
      const admin = yield* plainClient(etcd.url)
      assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), [])
    }).pipe(Effect.scoped))
})

describe("a try", () => {
  const strikes = {
    "has frozen": (member: Member) => Effect.sync(() => member.signal("SIGSTOP")),
    "cannot be reached": (member: Member) => Effect.promise(() => member.kill())
  }
  for (const [what, strike] of Object.entries(strikes)) {
    it.live(`ends within a second where the server ${what}, behind others too`, () =>
      Effect.gen(function*() {
        const [member] = yield* members(1)
        const { withLock, withLockIfAvailable } = yield* locker({ hosts: member!.url })
        yield* withLock("warm", Effect.void)
        yield* strike(member!)
        yield* many(10, () => withLock("k", Effect.void))
        const [took, exit] = yield* timed(Effect.exit(withLockIfAvailable("k", Effect.void)))
        assert.strictEqual(failure(exit)._tag, "LockBackendError")
        assert.isAtMost(took, 1_050)
      }).pipe(Effect.scoped))
  }
})
