import { assert, describe, it } from "@effect/vitest"
import { etcdctlProgram } from "dlock-testing"
import { Deferred, Effect, Exit, Fiber } from "effect"
import type { ITxnRequest } from "etcd3"
import { spawn } from "node:child_process"
import { permitsOf } from "./claim.ts"
import { client, clientOver, grant, hold, wait } from "./sharing.ts"
import { keys, lag, locker, lockerOver, plainClient, queued, server } from "./support.ts"

/** Whether a transaction is the release of a lock that was handed over within a process. */
const isHandOver = ({ compare = [], success = [] }: ITxnRequest): boolean =>
  compare.length === 2 && success[0]?.request_delete_range !== undefined

describe.concurrent("a release before a claim of the same process", () => {
  it.live("lets it in without waiting for the server, and nobody else before it", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const order: Array<string> = []
      let held: Effect.Effect<void> = Effect.void
      const { withLock } = yield* lockerOver(url, (port) => ({
        ...port,
        txn: (request, limit, onUnsent) =>
          isHandOver(request)
            ? Effect.andThen(held, port.txn(request, limit, onUnsent))
            : port.txn(request, limit, onUnsent)
      }))
      const other = yield* locker({ hosts: url })
      const [released, arrived] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      held = Deferred.await(arrived)
      const ask = (who: typeof withLock, name: string, program: Effect.Effect<unknown>) =>
        Effect.forkChild(who("k", Effect.andThen(Effect.sync(() => order.push(name)), program)), {
          startImmediately: true
        })
      const fibers = [yield* ask(withLock, "first", Deferred.await(released))]
      yield* queued(url, 1)
      const inside = yield* Deferred.make<void>()
      const left = yield* Deferred.make<void>()
      fibers.push(
        yield* ask(withLock, "second", Effect.andThen(Deferred.succeed(inside, undefined), Deferred.await(left)))
      )
      yield* queued(url, 2)
      fibers.push(yield* ask(other.withLock, "third", Effect.void))
      yield* queued(url, 3)
      yield* Deferred.succeed(released, undefined)
      // No claim is deleted yet.
      yield* Deferred.await(inside)
      yield* queued(url, 3)
      assert.deepStrictEqual(order, ["first", "second"])
      yield* Deferred.succeed(arrived, undefined)
      yield* queued(url, 2)
      yield* Effect.sleep(50)
      assert.deepStrictEqual(order, ["first", "second"])
      yield* Deferred.succeed(left, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order, ["first", "second", "third"])
      yield* queued(url, 0)
    }).pipe(Effect.scoped))

  it.live(
    "keeps the others out where somebody deletes that claim meanwhile, until its section has ended",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        let isMeddled = false
        const { withLock } = yield* lockerOver(url, (port) => ({
          ...port,
          txn: (request, limit, onUnsent) =>
            Effect.andThen(
              Effect.promise(async () => {
                if (!isHandOver(request) || isMeddled) return
                isMeddled = true
                await admin.delete().key(request.compare![1]!.key as Buffer)
              }),
              port.txn(request, limit, onUnsent)
            )
        }))
        const other = yield* locker({ hosts: url })
        const recorded = yield* lag
        const released = yield* Deferred.make<void>()
        let endedAt = Infinity
        let enteredAt = -Infinity
        const options = { ttl: "20 seconds" } as const
        const first = yield* Effect.forkChild(withLock("k", Deferred.await(released), options), {
          startImmediately: true
        })
        yield* queued(url, 1)
        const windDown = Effect.andThen(Effect.sleep(300), Effect.sync(() => endedAt = performance.now()))
        const successor = yield* Effect.forkChild(
          Effect.exit(withLock("k", Effect.onInterrupt(Effect.never, () => windDown), options)),
          { startImmediately: true }
        )
        yield* queued(url, 2)
        const next = yield* Effect.forkChild(
          other.withLock("k", Effect.sync(() => enteredAt = performance.now()), options),
          { startImmediately: true }
        )
        yield* queued(url, 3)
        const releasedAt = performance.now()
        yield* Deferred.succeed(released, undefined)
        yield* Fiber.join(first)
        const exit = yield* Fiber.join(successor)
        assert.include(String(exit), "OwnershipLost")
        yield* Fiber.join(next)
        assert.isTrue(isMeddled)
        assert.isAbove(enteredAt, endedAt)
        // The guard gap, a tenth of the ttl, has passed at the latest.
        assert.isBelow(enteredAt - releasedAt, 2_000 + 500 + recorded.max())
        yield* queued(url, 0)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "keeps nobody out where it reaches the server after the releases that came after it",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        let isLate = false
        const store = yield* clientOver(url, (port) => ({
          ...port,
          txn: (request, ...rest) => {
            if (!isLate) return port.txn(request, ...rest)
            isLate = false
            return Effect.delay(port.txn(request, ...rest), 600)
          }
        }))
        const mutexOf = () => permitsOf(1, 1, { kind: "mutex" })
        const [first, second, third, fourth] = [mutexOf(), mutexOf(), mutexOf(), mutexOf()]
        yield* hold(store, first)
        const waiting = [yield* wait(store, second), yield* wait(store, third)]
        // A release before a claim of the same process waits for another request, with which it is sent.
        isLate = true
        const late = [
          yield* Effect.forkChild(Effect.asVoid(store.withdraw(first)), { startImmediately: true }),
          yield* Effect.forkChild(Effect.asVoid(store.request(fourth, "queue")), { startImmediately: true })
        ]
        yield* grant(waiting[0]!, 1_000)
        yield* Effect.sleep(50)
        assert.isFalse(isLate)
        const next = yield* Effect.forkChild(Effect.asVoid(store.withdraw(second)), { startImmediately: true })
        yield* grant(waiting[1]!, 5_000)
        yield* Effect.forEach([...late, next], Fiber.join)
        yield* store.withdraw(third)
        yield* store.withdraw(fourth)
        const recorded = yield* lag
        const at = performance.now()
        const answer = yield* (yield* client(url)).request(mutexOf(), "queue")
        if (answer._tag === "Queued") yield* Effect.timeout(answer.granted, 10_000)
        assert.isAtMost(performance.now() - at, 1_000 + recorded.max())
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("keeps the order of the queue where a claim of another library stands between", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const { withLock } = yield* locker({ hosts: url })
      const order: Array<string> = []
      const released = yield* Deferred.make<void>()
      const ask = (name: string, program: Effect.Effect<unknown>) =>
        Effect.forkChild(withLock("k", Effect.andThen(Effect.sync(() => order.push(name)), program)), {
          startImmediately: true
        })
      const fibers = [yield* ask("first", Deferred.await(released))]
      yield* queued(url, 1)
      const etcdctl = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(etcdctlProgram(), [`--endpoints=${url}`, "lock", "dlock:k"], { stdio: ["ignore", "pipe", "ignore"] })
        ),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      etcdctl.stdout.on("data", () => {
        if (!order.includes("etcdctl")) order.push("etcdctl")
        etcdctl.kill("SIGINT")
      })
      yield* queued(url, 2)
      fibers.push(yield* ask("second", Effect.void))
      fibers.push(yield* ask("third", Effect.void))
      yield* queued(url, 4)
      yield* Deferred.succeed(released, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order, ["first", "etcdctl", "second", "third"])
    }).pipe(Effect.scoped))
})

describe("a crowd", () => {
  it.live(
    "of 4,000 for one lock in one process is served, in its order",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const { withLock } = yield* locker({ hosts: url })
        const order: Array<number> = []
        const fibers = yield* Effect.forEach(
          Array.from({ length: 4_000 }),
          (_, index) =>
            Effect.forkChild(withLock("k", Effect.sync(() => order.push(index))), { startImmediately: true })
        )
        for (const exit of yield* Effect.forEach(fibers, Fiber.await)) {
          assert.isTrue(Exit.isSuccess(exit), String(exit))
        }
        assert.deepStrictEqual(
          order,
          order.toSorted((a, b) => a - b)
        )
        yield* queued(url, 0)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "of 5,000 locks at once is held in tens of transactions, and leaves nothing when its layer closes",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        let transactions = 0
        yield* Effect.gen(function*() {
          const { scoped } = yield* lockerOver(url, (port) => ({
            ...port,
            txn: (request, limit, onUnsent) =>
              Effect.suspend(() => (transactions++, port.txn(request, limit, onUnsent)))
          }))
          const all = Array.from({ length: 5_000 }, (_, index) => scoped(`k${index}`))
          const leases = yield* Effect.all(all, { concurrency: "unbounded" })
          assert.lengthOf(leases, 5_000)
          assert.isBelow(transactions, 200)
          assert.strictEqual(
            (yield* Effect.promise(() => keys(admin))).filter((key) => key.includes("/")).length,
            5_000
          )
        }).pipe(Effect.scoped)
        assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), [])
        const { leases } = yield* Effect.promise(() => admin.leaseClient.leaseLeases())
        assert.deepStrictEqual(leases, [])
      }).pipe(Effect.scoped),
    120_000
  )
})
