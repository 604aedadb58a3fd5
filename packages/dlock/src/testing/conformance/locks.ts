import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { Lease } from "../../Lease.ts"
import { LockBackendError } from "../../LockError.ts"
import * as FaultyLockStore from "../FaultyLockStore.ts"
import { type Body, equal, expect } from "./bench.ts"

/** Tests of lockers over several clients of one backend. */
export const locks: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["of many contenders never two are inside, over several clients", (bench) =>
    Effect.gen(function*() {
      const lockers = yield* Effect.all([
        Effect.flatMap(bench.client, bench.locker),
        Effect.flatMap(bench.client, bench.locker),
        Effect.flatMap(bench.client, bench.locker)
      ])
      const key = bench.key()
      let inside = 0
      let most = 0
      let last = -1n
      let sections = 0
      const section = Effect.fnUntraced(function*(lease: Lease) {
        most = Math.max(most, ++inside)
        expect(lease.fencingToken > last, `a token above ${last}, but it was ${lease.fencingToken}`)
        last = lease.fencingToken
        yield* Effect.yieldNow
        yield* Effect.sleep("1 milli")
        sections++
        inside--
      })
      const contenders = yield* bench.fork(Effect.forEach(
        Array.from({ length: 24 }, (_, index) => index),
        (index) => lockers[index % 3]!.withLock(key, section, { ttl: Math.max(bench.ttl, 5_000) }),
        { concurrency: "unbounded", discard: true }
      ))
      yield* bench.drive(contenders, "24 contenders to have had their turn", 30_000)
      equal(sections, 24, "the number of sections that ran")
      equal(most, 1, "the largest number of contenders inside at once")
    })],

  ["lockers are served in the order in which they came, over several clients", (bench) =>
    Effect.gen(function*() {
      const clients = yield* Effect.forEach(
        [bench.client, bench.client, bench.client],
        (client) => Effect.flatMap(client, FaultyLockStore.make)
      )
      const lockers = yield* Effect.forEach(clients, (client) => bench.locker(client.store))
      const key = bench.key()
      const holder = bench.claim(key, { ttl: Duration.minutes(1) })
      yield* bench.hold(clients[0]!.store, holder)
      const order: Array<number> = []
      const fibers = []
      for (let i = 0; i < 6; i++) {
        const client = clients[i % 3]!
        const before = client.calls.length
        fibers.push(yield* bench.fork(lockers[i % 3]!.withLock(key, Effect.sync(() => order.push(i)))))
        yield* bench.until(`contender ${i} to queue`, () =>
          client.calls.slice(before).some((call) => call.answer === "Queued"))
      }
      yield* clients[0]!.store.withdraw(holder)
      for (const fiber of fibers) {
        yield* bench.drive(fiber, "all contenders to have had their turn", 10_000)
      }
      equal(order, [0, 1, 2, 3, 4, 5], "the order of the sections")
    })],

  [
    "what is re-entered sends nothing, and is held until the outermost section has ended",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([Effect.flatMap(bench.client, FaultyLockStore.make), bench.client])
        const locker = yield* bench.locker(client.store)
        const key = bench.key()
        const enter = <A, E>(program: Effect.Effect<A, E, Lease>) => locker.withLock(key, program, { reentrant: true })
        const requests = () => client.calls.filter(({ operation }) => operation !== "renew").length
        yield* locker.withLock(key, (outer) =>
          Effect.gen(function*() {
            const before = requests()
            const inner = yield* enter(Effect.tap(Lease, () => bench.expectHeld(other, key, "inside")))
            equal(inner.fencingToken, outer.fencingToken, "the token inside")
            yield* bench.expectHeld(other, key, "after the inner section")
            yield* enter(bench.advance(bench.ttl * 1.5))
            yield* bench.expectHeld(other, key, "after an inner section that was longer than the ttl")
            equal(requests() - before, 0, "the requests inside, without renewals")
            yield* outer.ensureHeld
          }))
        yield* bench.expectFree(other, key, "after the outermost section")
      })
  ],

  ["a held lock outlives its ttl many times over", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const locker = yield* bench.locker(client)
      const key = bench.key()
      const lease = yield* locker.scoped(key)
      for (let i = 0; i < 24; i++) {
        yield* bench.advance(bench.ttl / 6)
        yield* lease.ensureHeld
        if (i % 4 === 0) yield* bench.expectHeld(other, key, "while it is held and renewed")
      }
      yield* lease.release
      yield* bench.expectFree(other, key, "after the release")
    })],

  ["a lock that is held is none for those who do not wait", (bench) =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([
        Effect.flatMap(bench.client, bench.locker),
        Effect.flatMap(bench.client, bench.locker)
      ])
      const key = bench.key()
      const scope = yield* Scope.make()
      yield* Scope.provide(one.scoped(key), scope)
      const section = yield* two.withLockIfAvailable(key, Effect.succeed("inside"))
      equal(Option.isNone(section), true, "whether withLockIfAvailable is none while it is held")
      const lease = yield* Effect.scoped(two.scopedIfAvailable(key))
      equal(Option.isNone(lease), true, "whether scopedIfAvailable is none while it is held")
      yield* Scope.close(scope, Exit.void)
      const free = yield* two.withLockIfAvailable(key, Effect.succeed("inside"))
      equal(Option.getOrUndefined(free), "inside", "the result of a try once it is free")
    })],

  ["a timeout names the holder and the queue's length, and leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const one = yield* bench.locker(client, { holder: "alpha" })
      const two = yield* bench.locker(other, { holder: "beta" })
      const key = bench.key()
      const scope = yield* Scope.make()
      yield* Scope.provide(one.scoped(key, { metadata: { job: "nightly" } }), scope)
      const waiting = yield* bench.fork(Effect.flip(two.withLock(key, Effect.void, { timeout: bench.ttl / 2 })))
      const error = yield* bench.drive(waiting, "the wait to time out", bench.ttl + bench.soon)
      if (error._tag !== "LockTimeout") return expect(false, `a LockTimeout, but it was ${error._tag}`)
      equal(error.key, key, "the key of the LockTimeout")
      equal(error.holder, "alpha", "the holder that it names")
      equal(error.metadata, { job: "nightly" }, "the holder's metadata")
      equal(error.queueLength, 1, "the queue's length")
      expect(Duration.toMillis(error.waited) >= bench.ttl / 2, "waited to be at least the timeout")
      const next = bench.claim(key)
      equal((yield* bench.queue(other, next)).ahead().waiting, 1, "the queue's length after the timeout")
      yield* other.withdraw(next)
      yield* Scope.close(scope, Exit.void)
      yield* bench.expectFree(other, key, "after a timeout and the release")
    })],

  ["a timeout and an interruption are kept where the backend is silent", (bench) =>
    Effect.gen(function*() {
      const faulty = yield* Effect.flatMap(bench.client, FaultyLockStore.make)
      const scope = yield* Scope.make()
      const locker = yield* Scope.provide(bench.locker(faulty.store, { defaultTtl: "1 minute" }), scope)
      const key = bench.key()
      const held = yield* bench.hold(faulty.store, bench.lasting(key))
      for (const silent of ["who asks", "who waits"]) {
        if (silent === "who asks") yield* faulty.hang("request")
        else yield* faulty.heal("request")
        yield* faulty.hang("withdraw")
        for (const timeout of [0, 100, 300]) {
          const asking = yield* bench.fork(Effect.flip(locker.withLock(key, Effect.void, { timeout })))
          const { _tag } = yield* bench.drive(asking, `${silent} to time out after ${timeout} ms`, timeout + 1_000)
          if (silent === "who asks") equal(_tag, "LockBackendError", "the error of a timeout that was not answered")
        }
        const asking = yield* bench.fork(locker.withLock(key, Effect.void))
        yield* bench.advance(50)
        yield* bench.drive(yield* bench.fork(Fiber.interrupt(asking)), `${silent} to be interrupted`, 1_000)
        yield* faulty.heal()
      }
      yield* faulty.store.withdraw(held.claim)
      yield* bench.drive(yield* bench.fork(Scope.close(scope, Exit.void)), "the locker to close", 10_000)
    })],

  ["sections that give up at once, many over many keys, leave everything free", (bench) =>
    Effect.gen(function*() {
      const [one, two, other] = yield* Effect.all([bench.client, bench.client, bench.client])
      const scope = yield* Scope.make()
      const lockers = yield* Effect.forEach([one, two], (client) =>
        Scope.provide(bench.locker(client, { defaultTtl: "1 minute" }), scope))
      const keys = Array.from({ length: 20 }, bench.key)
      const sections = yield* bench.fork(Effect.forEach(
        Array.from({ length: 400 }, (_, index) =>
          index),
        (index) =>
          Effect.ignore(
            lockers[index % 2]!.withLock(keys[index % 20]!, Effect.sleep(index % 3), { timeout: index % 11 })
          ),
        { concurrency: 40, discard: true }
      ))
      yield* bench.drive(sections, "400 sections to have been served or given up", 30_000)
      // Until here the claims that were given up may still be in withdrawal.
      yield* bench.drive(yield* bench.fork(Scope.close(scope, Exit.void)), "the lockers to close", 10_000)
      for (const key of keys) yield* bench.expectFree(other, key, "after all of them")
    })],

  ["asking for a key inside what holds it fails at once", (bench) =>
    Effect.gen(function*() {
      const locker = yield* Effect.flatMap(bench.client, bench.locker)
      const key = bench.key()
      const again = Effect.flip(locker.withLock(key, Effect.void))
      const body = Effect.gen(function*() {
        const lease = yield* Lease
        const seen = [
          yield* again,
          yield* Effect.flip(locker.scoped(key)),
          yield* Effect.flip(locker.withLockIfAvailable(key, Effect.void)),
          yield* Effect.flatMap(Effect.forkChild(again), Fiber.join)
        ]
        for (const error of seen) {
          if (error._tag !== "LockAlreadyHeld") return expect(false, `LockAlreadyHeld, but it was ${error._tag}`)
          equal(error.fencingToken, lease.fencingToken, "the token that LockAlreadyHeld names")
        }
        yield* locker.withLock(bench.key(), again)
        yield* lease.release
        yield* locker.withLock(key, Effect.void)
      })
      const section = yield* bench.fork(locker.withLock(key, body))
      yield* bench.drive(section, "a nested request to fail at once, and to succeed after a release")

      const lease = yield* locker.scoped(key)
      const inScope = yield* bench.fork(Effect.flip(locker.scoped(key)))
      equal((yield* bench.drive(inScope, "a second request of the same scope to fail"))._tag, "LockAlreadyHeld", "it")
      yield* lease.release
      const after = yield* bench.fork(Effect.scoped(locker.scoped(key)))
      yield* bench.drive(after, "the key to be free for its scope after the release")
    })],

  ["two fibers that share nothing queue", (bench) =>
    Effect.gen(function*() {
      const locker = yield* Effect.flatMap(bench.client, bench.locker)
      const key = bench.key()
      const lease = yield* locker.scoped(key)
      const other = yield* bench.fork(Effect.scoped(locker.scoped(key)))
      yield* bench.advance(20)
      expect(other.pollUnsafe() === undefined, "the second fiber to wait")
      yield* lease.release
      yield* bench.drive(other, "the second fiber to be granted")
    })],

  ["a lock is released when its scope closes, and early only once", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const faulty = yield* FaultyLockStore.make(client)
      const locker = yield* bench.locker(faulty.store)
      const key = bench.key()
      yield* Effect.scoped(Effect.andThen(locker.scoped(key), bench.expectHeld(other, key, "inside the scope")))
      yield* bench.expectFree(other, key, "after the scope has closed")

      yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* locker.scoped(key)
        yield* lease.release
        yield* bench.expectFree(other, key, "after an early release")
        const next = yield* bench.hold(other, bench.claim(key))
        yield* lease.release
        equal((yield* Effect.flip(lease.ensureHeld))._tag, "LockNotHeld", "ensureHeld after the release")
        equal(
          (yield* bench.renewOne(other, next))._tag,
          "Confirmed",
          "the next holder's renewal after a second release"
        )
        yield* other.withdraw(next.claim)
      }))
      equal(faulty.calls.filter((call) => call.operation === "withdraw").length, 2, "the number of releases sent")
    })],

  ["a release that fails does not hide the program's result", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const faulty = yield* FaultyLockStore.make(client)
      const locker = yield* bench.locker(faulty.store)
      const failure = new LockBackendError({ operation: "release", retryable: false, cause: new Error("down") })
      yield* faulty.fail("withdraw", failure)
      const key = bench.key()
      equal(yield* locker.withLock(key, Effect.succeed(42)), 42, "the program's result")
      equal(yield* Effect.flip(locker.withLock(bench.key(), Effect.fail("own"))), "own", "the program's own failure")
      yield* faulty.hang("withdraw")
      const silent = yield* bench.fork(locker.withLock(bench.key(), Effect.succeed(43)))
      equal(yield* bench.drive(silent, "a silent release to be given up", bench.ttl + bench.soon), 43, "the result")
      yield* bench.advance(bench.freeAfter + 50)
      yield* bench.expectFree(other, key, "once the time to live has ended what the release did not")
    })],

  ["a release whose answer is lost is repeated, and releases", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const faulty = yield* FaultyLockStore.make(client)
      const locker = yield* bench.locker(faulty.store)
      const key = bench.key()
      yield* faulty.dropReplies("withdraw", 1)
      const section = yield* bench.fork(locker.withLock(key, Effect.void))
      yield* bench.drive(section, "the section to end")
      yield* bench.expectFree(other, key, "after a release whose first answer was lost")
    })],

  [
    "a request whose answers are lost is repeated under the same id, and nobody else is let in",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const faulty = yield* FaultyLockStore.make(client)
        const locker = yield* bench.locker(faulty.store)
        const key = bench.key()
        yield* faulty.dropReplies("request", 2)
        const scope = yield* Scope.make()
        const taking = yield* bench.fork(Scope.provide(locker.scoped(key), scope))
        yield* bench.drive(taking, "the lock to be had after two lost answers")
        const ids = new Set(faulty.calls.flatMap((call) => call.operation === "request" ? [call.claims[0]!.id] : []))
        equal(ids.size, 1, "the number of ids that were asked for")
        yield* bench.expectHeld(other, key, "after the repeats")
        yield* Scope.close(scope, Exit.void)
        yield* bench.expectFree(other, key, "after one release")
      })
  ],

  [
    "a backend that does not answer a request is a LockBackendError, soon, and leaves nothing behind",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const faulty = yield* FaultyLockStore.make(client)
        const locker = yield* bench.locker(faulty.store)
        const key = bench.key()
        const held = yield* faulty.holdCalls("request")
        const taking = yield* bench.fork(Effect.flip(locker.withLock(key, Effect.void)))
        const error = yield* bench.drive(taking, "the request to be given up", 3 * bench.ttl + bench.soon)
        equal(error._tag, "LockBackendError", "the error")
        // The backend receives the calls now, after their caller has gone.
        yield* held.release
        yield* bench.advance(10)
        yield* bench.expectFree(other, key, "after late requests of a claim that was given up")
      })
  ],

  ["the locker's end releases what it still holds", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const scope = yield* Scope.make()
      const locker = yield* Scope.provide(bench.locker(client), scope)
      const lease = yield* locker.scoped(key)
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(lease.ensureHeld)
      equal(error._tag, "OwnershipLost", "the error of ensureHeld")
      yield* bench.expectFree(other, key, "after the locker has gone")
    })]
]
