import { assert, describe, it } from "@effect/vitest"
import { startWorker } from "dlock-testing"
import { Deferred, Duration, Effect, Exit, Fiber, Option } from "effect"
import type { LockBackendError, OwnershipLost } from "effect-dlock"
import * as Path from "node:path"
import { open } from "../src/internal/client/connection.ts"
import { type CallFailure, silentFailure } from "../src/internal/client/failure.ts"
import type { Reply } from "../src/internal/client/port.ts"
import { parse } from "../src/internal/options.ts"
import { placesIn } from "./claim.ts"
import {
  claims,
  eventually,
  keys,
  lag,
  leases,
  leasesOfClaims,
  locker,
  lockerOver,
  members,
  plainClient,
  proxiedSetting,
  proxyTo,
  requests,
  server,
  setting,
  since,
  timed,
  watched,
  within
} from "./support.ts"

const program = (name: string): string => Path.join(import.meta.dirname, "programs", name)

// Each test has a server of its own, and nearly all of their time is waiting.
describe.concurrent("a holder", () => {
  it.live("is out by its deadline when the server freezes for 14 s", () =>
    Effect.gen(function*() {
      const { etcd, withLock } = yield* setting()
      const recorded = yield* lag
      const inside = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        Effect.timed(Effect.flip(
          withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Effect.never), { ttl: "3 seconds" })
        ))
      )
      yield* Deferred.await(inside)
      yield* Effect.sleep("1500 millis")
      etcd.signal("SIGSTOP")
      const frozenAt = performance.now()
      const error = (yield* Fiber.join(fiber))[1] as OwnershipLost
      const after = performance.now() - frozenAt
      yield* Effect.sleep(Math.max(0, 14_000 - after))
      etcd.signal("SIGCONT")
      assert.strictEqual(error._tag, "OwnershipLost")
      assert.strictEqual(error.reason, "Unreachable")
      // The ttl of 3 s plus the guard gap gives a lease of 4 whole seconds. The holder trusts all of it but the gap.
      const ago = Duration.toMillis(error.lastConfirmedAgo)
      assert.isAtLeast(ago, 3_700)
      assert.isAtMost(ago, 3_700 + 100 + recorded.max())
      assert.isAtMost(after, 3_700 + 100 + recorded.max())
      yield* Effect.log(`lost ${ago.toFixed(0)} ms after the last confirmation (lag ${recorded.max().toFixed(0)} ms)`)
      // After the server is back, the old claim blocks the next one no longer than its lease.
      yield* withLock("k", Effect.void, { timeout: "5 seconds" })
    }).pipe(Effect.scoped))

  it.live("learns by a renewal that its key was deleted when its watch is deaf", () =>
    Effect.gen(function*() {
      const { admin, etcd, proxy, withLock } = yield* proxiedSetting()
      const error = yield* Effect.flip(
        withLock(
          "k",
          Effect.gen(function*() {
            yield* watched(etcd.url, 1)
            proxy.hold()
            yield* Effect.promise(() => admin.delete().prefix("dlock:k/"))
            // The events of that connection are lost, and compacted before the locker reconnects.
            const { header } = yield* Effect.promise(() => admin.kv.range({ key: Buffer.from("x") }))
            yield* Effect.promise(() => admin.kv.compact({ revision: header.revision, physical: true }))
            proxy.reset()
            proxy.release()
            return yield* Effect.never
          }),
          { ttl: "3 seconds" }
        )
      )
      assert.strictEqual((error as OwnershipLost).reason, "Expired")
    }).pipe(Effect.scoped))

  it.live("keeps its lock through a third of its time without a server", () =>
    Effect.gen(function*() {
      const { etcd, withLock } = yield* setting()
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          for (let freeze = 0; freeze < 3; freeze++) {
            yield* Effect.sleep("1100 millis")
            etcd.signal("SIGSTOP")
            yield* Effect.sleep("1 second")
            etcd.signal("SIGCONT")
          }
          yield* lease.ensureHeld
        }), { ttl: "3 seconds" })
    }).pipe(Effect.scoped))

  // Before, two layers of one process shared a connection, and neither could make a new one while the other had the old one.
  it.live(
    "keeps its lock when a NAT forgets its connection, with an idle layer for the same address in its process",
    () =>
      Effect.gen(function*() {
        const { another, proxy, withLock } = yield* proxiedSetting()
        yield* locker({ hosts: proxy.url })
        const recorded = yield* lag
        const held = yield* Deferred.make<void>()
        const released = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(
          withLock("held", Effect.andThen(Deferred.succeed(held, undefined), Deferred.await(released)), {
            ttl: "4 seconds"
          })
        )
        yield* Deferred.await(held)
        proxy.forget()
        const forgottenAt = performance.now()
        yield* withLock("k", Effect.void)
        const took = performance.now() - forgottenAt
        yield* Effect.log(`an acquire took ${took.toFixed(0)} ms (lag ${recorded.max().toFixed(0)} ms)`)
        // One call to the connection that is dead takes 2 seconds. The rest is for the new connection.
        assert.isAtMost(took, 3_000 + recorded.max())
        // Longer than the lease and the time that the server may be late to end the lease.
        yield* Effect.sleep(Math.max(0, 8_000 - took))
        assert.isTrue(Option.isNone(yield* (yield* another).withLockIfAvailable("held", Effect.void)))
        yield* Deferred.succeed(released, undefined)
        yield* Fiber.join(holder)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("that is killed lets the first waiter in when its lease is over", () =>
    Effect.gen(function*() {
      const { admin, etcd, withLock } = yield* setting()
      const recorded = yield* lag
      const holder = startWorker<{ held: string }>(program("holder.ts"), { args: [etcd.url, "k", "2000"] })
      const { held } = yield* Effect.promise(() => holder.waitFor(() => true))
      const waiter = yield* Effect.forkChild(
        withLock("k", (lease) => Effect.succeed({ token: lease.fencingToken, at: performance.now() })),
        { startImmediately: true }
      )
      yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
      yield* Effect.promise(() => holder.kill())
      const killedAt = performance.now()
      const { at, token } = yield* Fiber.join(waiter)
      assert.isTrue(token > BigInt(held))
      // The lease has 3 whole seconds, and the server needs up to half a second to expire it.
      assert.isAtMost(at - killedAt, 3_000 + 1_000 + 100 + recorded.max())
      yield* Effect.log(`in ${(at - killedAt).toFixed(0)} ms after the kill`)
    }).pipe(Effect.scoped))
})

describe.concurrent("waiters", () => {
  it.live("fail when the server has been silent for their ttl, and not before", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const [holder, other] = yield* Effect.all([locker({ hosts: etcd.url }), locker({ hosts: etcd.url })])
      yield* holder.scoped("k", { ttl: "1 minute" })
      const waiting = yield* Effect.forkChild(Effect.flip(other.withLock("k", Effect.void, { ttl: "3 seconds" })))
      yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
      yield* Effect.sleep("6 seconds")
      etcd.signal("SIGSTOP")
      const [took, error] = yield* timed(Fiber.join(waiting))
      etcd.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      // The waiter's lease has 4 seconds, of which two fifths may have passed. A poll may have to time out at the end.
      assert.isAtLeast(took, 2_400 - 100)
      assert.isAtMost(took, 6_000)
    }).pipe(Effect.scoped))

  it.live("go on by their poll when the connection falls silent", () =>
    Effect.gen(function*() {
      const { admin, another, etcd, proxy, ...waiting } = yield* proxiedSetting()
      const holder = yield* another
      const waiter = yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          const waiter = yield* Effect.forkDetach(
            waiting.withLock("k", Effect.sync(() => performance.now()), { ttl: "6 seconds" }),
            { startImmediately: true }
          )
          yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
          yield* watched(etcd.url, 2)
          proxy.holdReplies()
          return waiter
        })
      )
      const recorded = yield* lag
      const releasedAt = performance.now()
      // The old connection stays silent. New connections work.
      yield* Effect.sleep("500 millis")
      proxy.reset()
      proxy.release()
      const took = (yield* Fiber.join(waiter)) - releasedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the release`)
      assert.isAtMost(took, 5_000 + recorded.max())
    }).pipe(Effect.scoped))
})

describe.concurrent("a quiet process", () => {
  it.live("does not ask again and again for a past that was compacted", () =>
    Effect.gen(function*() {
      const { admin, etcd, proxy, withLock } = yield* proxiedSetting()
      yield* withLock(
        "k",
        Effect.gen(function*() {
          yield* watched(etcd.url, 1)
          for (let put = 0; put < 3; put++) yield* Effect.promise(() => admin.put("other").value(`${put}`))
          const { header } = yield* Effect.promise(() => admin.kv.range({ key: Buffer.from("x") }))
          yield* Effect.promise(() => admin.kv.compact({ revision: header.revision, physical: true }))
          proxy.reset()
          yield* Effect.sleep("1 second")
          const before = yield* Effect.promise(() => requests(etcd.url))
          const bytes = proxy.bytes()
          yield* Effect.sleep("2 seconds")
          const sent = since(before, yield* Effect.promise(() => requests(etcd.url)))
          assert.isAtMost(sent.Txn ?? 0, 2, JSON.stringify(sent))
          assert.isAtMost(proxy.bytes().requests - bytes.requests, 1_000)
          // The watch works too.
          yield* Effect.forkChild(Effect.delay(Effect.promise(() => admin.delete().prefix("dlock:k/")), 100))
          return yield* Effect.never
        }),
        { ttl: "30 seconds" }
      ).pipe(Effect.flip, timed, Effect.map(([took]) => assert.isBelow(took, 4_000)))
    }).pipe(Effect.scoped))

  it.live("keeps one connection a host, however many sections watch", () =>
    Effect.gen(function*() {
      const { proxy, withLock } = yield* proxiedSetting()
      for (let section = 0; section < 20; section++) yield* withLock("k", Effect.sleep(60))
      assert.isAtMost(proxy.accepted(), 2)
    }).pipe(Effect.scoped))
})

describe.concurrent("an acquire", () => {
  it.live("that a frozen server executes after its caller gave up leaves no claim", () =>
    Effect.gen(function*() {
      const { admin, etcd, withLock } = yield* setting()
      yield* withLock("warm", Effect.void, { ttl: "9 seconds" })
      etcd.signal("SIGSTOP")
      const [took, error] = yield* timed(Effect.flip(withLock("k", Effect.void, { ttl: "9 seconds" })))
      etcd.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isBelow(took, 6_000)
      // The claim is deleted at the next renewal of its lease at the latest.
      yield* eventually("no claim", async () => (await claims(admin, "dlock:k")).length === 0, 4_000)
      yield* Effect.sleep("1 second")
      assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
      yield* withLock("k", Effect.void, { timeout: "5 seconds" })
    }).pipe(Effect.scoped))

  it.live("that another member executes first is not executed again after its release", () =>
    Effect.gen(function*() {
      const [first, second, third] = yield* members(3)
      const all = [first!, second!, third!]
      for (const one of all) {
        if (yield* Effect.promise(one.leads)) all.push(...all.splice(all.indexOf(one), 1))
      }
      const [follower, other] = all as [typeof first & {}, typeof first & {}]
      const admin = yield* plainClient(other.url)
      const { withLock } = yield* locker({ hosts: [follower.url, other.url], operationTimeout: "1 second" })
      yield* withLock("warm", Effect.void)
      follower.signal("SIGSTOP")
      yield* withLock("k", Effect.void)
      const before = yield* Effect.promise(() => admin.kv.range({ key: Buffer.from("x") }))
      follower.signal("SIGCONT")
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
      // The claim was not there for a moment either.
      const late: Array<string> = []
      const watcher = yield* Effect.promise(() =>
        admin.watch().prefix("dlock:k/").startRevision(String(BigInt(before.header.revision) + 1n)).create()
      )
      watcher.on("put", ({ key }) => late.push(key.toString()))
      yield* Effect.sleep("300 millis")
      yield* Effect.promise(() => watcher.cancel())
      assert.deepStrictEqual(late, [])
    }).pipe(Effect.scoped))
})

describe.concurrent("a release", () => {
  it.live("of the last watched section does not cut what others have under way", () =>
    Effect.gen(function*() {
      const { withLock } = yield* setting()
      yield* Effect.all([
        Effect.repeat(withLock("long", Effect.sleep(40)), { times: 30 }),
        Effect.repeat(withLock("short", Effect.void), { times: 500 })
      ], { concurrency: "unbounded" })
    }).pipe(Effect.scoped))
})

describe.concurrent("a layer that closes", () => {
  it.live("lets its process end by itself, with nothing left at the server", () =>
    Effect.gen(function*() {
      const { admin, etcd, withLock } = yield* setting()
      yield* withLock(
        "busy",
        Effect.gen(function*() {
          const before = yield* Effect.promise(() => leases(admin))
          const visitor = startWorker<{ closed?: number; exit?: number }>(program("visitor.ts"), {
            args: [etcd.url, "busy"]
          })
          const { closed } = yield* Effect.promise(() => visitor.waitFor((message) => message.closed !== undefined))
          const { exit } = yield* Effect.promise(() => visitor.waitFor((message) => message.exit !== undefined))
          assert.isBelow(exit! - closed!, 1_000)
          assert.deepStrictEqual(yield* Effect.promise(() => visitor.exited), { code: 0, signal: null })
          assert.strictEqual(visitor.output(), "")
          assert.sameMembers([...(yield* Effect.promise(() => leases(admin)))], [...before])
        })
      )
    }).pipe(Effect.scoped))

  it.live("fails whoever still waits", () =>
    Effect.gen(function*() {
      const { admin, etcd, ...holder } = yield* setting()
      yield* holder.scoped("k")
      const waiter = yield* Effect.scoped(Effect.gen(function*() {
        const { withLock } = yield* locker({ hosts: etcd.url })
        const waiter = yield* Effect.forkDetach(Effect.flip(withLock("k", Effect.void)), { startImmediately: true })
        yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
        return waiter
      }))
      const error = yield* Fiber.join(waiter).pipe(Effect.timeoutOrElse({
        duration: "3 seconds",
        orElse: () => Effect.die("it still waits")
      }))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isFalse((error as LockBackendError).retryable)
    }).pipe(Effect.scoped))
})

describe.concurrent("a layer that closes while an answer is under way", () => {
  it.live("leaves no lease behind that was granted meanwhile", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const proxy = yield* proxyTo(etcd.port)
      yield* Effect.scoped(Effect.gen(function*() {
        const { withLock } = yield* locker({ hosts: proxy.url })
        proxy.holdReplies()
        yield* Effect.forkDetach(Effect.exit(withLock("k", Effect.void, { ttl: "1 hour" })), { startImmediately: true })
        yield* eventually("a lease is granted", async () => (await leases(admin)).length === 1)
      }))
      yield* eventually("it has been revoked", async () => (await leases(admin)).length === 0)
    }).pipe(Effect.scoped))

  it.live("fails whoever is told of a place in the queue only then", () =>
    Effect.gen(function*() {
      const { admin, etcd, ...holder } = yield* setting()
      yield* holder.scoped("k")
      let slow = false
      const waiter = yield* Effect.scoped(Effect.gen(function*() {
        const { withLock } = yield* lockerOver(etcd.url, (port) => ({
          ...port,
          txn: (request, limit) =>
            Effect.tap(port.txn(request, limit), () => slow ? Effect.sleep("500 millis") : Effect.void)
        }))
        yield* withLock("warm", Effect.void)
        slow = true
        const waiter = yield* Effect.forkDetach(Effect.flip(withLock("k", Effect.void)), { startImmediately: true })
        yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
        return waiter
      }))
      const error = yield* within(Fiber.join(waiter), 5_000)
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isFalse((error as LockBackendError).retryable)
    }).pipe(Effect.scoped))
})

describe.concurrent("a locker over a server that answers some calls only", () => {
  it.live("asks a server that refuses watches at the pace of polls", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const holder = yield* locker({ hosts: etcd.url })
      for (const refused of [true, false]) {
        let calls = 0
        const waiting = yield* lockerOver(etcd.url, (port) => ({
          ...port,
          txn: (request, limit) => {
            calls++
            return port.txn(request, limit)
          },
          // The stream is refused at once, or ends as soon as it is open.
          watch: (listeners) =>
            refused
              ? Effect.fail(silentFailure)
              : Effect.tap(port.watch(listeners), (stream) =>
                Effect.sync(() =>
                  setTimeout(() => {
                    stream.close()
                    listeners.onEnd()
                  }, 1)
                ))
        }))
        const waiter = yield* holder.withLock(
          "k",
          Effect.gen(function*() {
            const waiters = yield* Effect.forEach([1, 2, 3], () =>
              Effect.forkDetach(waiting.withLock("k", Effect.void, { ttl: "5 seconds" }), { startImmediately: true }))
            yield* waiting.scoped("held")
            yield* eventually("they wait", async () =>
              (await claims(admin, "dlock:k")).length === 4)
            const before = calls
            const [took] = yield* Effect.timed(Effect.sleep("3 seconds"))
            yield* Effect.log(`${calls - before} transactions of 3 waiters and a holder in 3 s`)
            // At most one look every 200 ms for each waiter, one a second for the holder, and a few for the stream. Without the
            // limit there would be hundreds.
            assert.isAtMost(calls - before, Duration.toSeconds(took) * (3 * 5 + 1) + 12)
            return waiters
          }).pipe(Effect.scoped)
        )
        yield* Effect.forEach(waiter, Fiber.join)
      }
    }).pipe(Effect.scoped))

  it.live("leaves a tombstone for the first sending where the second was answered", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      let late: Effect.Effect<unknown> | undefined
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        txn: (request, limit) => {
          if (late !== undefined || !request.compare?.length) return port.txn(request, limit)
          late = Effect.ignore(port.txn(request))
          return Effect.map(port.txn(request, limit), (reply) => ({ ...reply, doubled: true }))
        }
      }))
      yield* withLock("k", Effect.void, { ttl: "30 seconds" })
      yield* late!
      assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
      yield* withLock("k", Effect.void, { timeout: "5 seconds" })
    }).pipe(Effect.scoped))

  it.live("keeps the key usable for others where an acquire asked with another capacity", () =>
    Effect.gen(function*() {
      const { admin, another, withLock } = yield* setting()
      const other = yield* another
      const waiter = yield* other.withLock(
        "k",
        Effect.gen(function*() {
          // A claim of a semaphore with capacity 3 is still in the queue.
          const value = JSON.stringify({ layout: 1, kind: "semaphore", permits: 1, capacity: 3, holder: "other" })
          yield* Effect.promise(() => admin.put("dlock:k/mismatched").value(value))
          const waiter = yield* Effect.forkDetach(withLock("k", Effect.succeed("inside")), { startImmediately: true })
          yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 3)
          yield* Effect.promise(() => admin.delete().key("dlock:k/mismatched"))
          return waiter
        })
      )
      assert.strictEqual(yield* Fiber.join(waiter), "inside")
    }).pipe(Effect.scoped))

  it.live("asks a server that ends every watch with a refusal at the pace of polls", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      const holder = yield* locker({ hosts: etcd.url })
      let calls = 0
      const waiting = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        txn: (request, limit) => {
          calls++
          return port.txn(request, limit)
        },
        watch: ({ onResponse }) =>
          Effect.succeed({
            send: (request) => {
              if (request.create_request === undefined) return
              const answer = { watch_id: "-1", created: true, canceled: true, cancel_reason: "", events: [] }
              setTimeout(() => onResponse(answer as never), 1)
            },
            close: () => {}
          })
      }))
      const waiters = yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          const waiters = yield* Effect.forEach([1, 2, 3], () =>
            Effect.forkDetach(waiting.withLock("k", Effect.void, { ttl: "5 seconds" }), { startImmediately: true }))
          yield* waiting.scoped("held")
          yield* eventually("they wait", async () =>
            (await claims(admin, "dlock:k")).length === 4)
          const before = calls
          const [took] = yield* Effect.timed(Effect.sleep("3 seconds"))
          yield* Effect.log(`${calls - before} transactions of 3 waiters and a holder in 3 s`)
          assert.isAtMost(calls - before, Duration.toSeconds(took) * (3 * 5 + 1) + 12)
          return waiters
        }).pipe(Effect.scoped)
      )
      yield* Effect.forEach(waiters, Fiber.join)
    }).pipe(Effect.scoped))

  it.live("asks again for a claim whose lease is found lost before its answer comes", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const admin = yield* plainClient(etcd.url)
      let hold: Deferred.Deferred<void> | undefined
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        // The answer to the request for the claim is delayed: others may be sent just then, for the watch on the held claim.
        txn: (request, limit) => {
          const held = placesIn(request).some((place) => place.startsWith("dlock:k/")) ? hold : undefined
          if (held !== undefined) hold = undefined
          return Effect.tap(port.txn(request, limit), () => held === undefined ? Effect.void : Deferred.await(held))
        }
      }))
      const held = yield* Effect.forkChild(Effect.flip(withLock("held", Effect.never, { ttl: "5 seconds" })))
      yield* eventually("it is held", async () => (await claims(admin, "dlock:held")).length === 1)
      const answer = hold = yield* Deferred.make<void>()
      const asked = yield* Effect.forkChild(withLock("k", Effect.succeed("inside"), { ttl: "9 seconds" }), {
        startImmediately: true
      })
      // A claim with another ttl needs another lease, so the grant of the lease comes first.
      yield* eventually("it was executed", async () => (await claims(admin, "dlock:k")).length === 1)
      for (const ID of yield* Effect.promise(() => leases(admin))) {
        yield* Effect.promise(() => admin.leaseClient.leaseRevoke({ ID }))
      }
      assert.strictEqual((yield* Fiber.join(held) as Effect.Effect<OwnershipLost>).reason, "Expired")
      // A transaction on the same lease finds out that the lease has ended.
      yield* withLock("other", Effect.void, { ttl: "9 seconds" })
      yield* Deferred.succeed(answer, undefined)
      assert.strictEqual(yield* Fiber.join(asked), "inside")
      assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
    }).pipe(Effect.scoped))

  it.live("does not serve a grant that failed to a later acquire", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      let failing = true
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        grant: (id, seconds) => failing ? Effect.fail({ ...silentFailure, retryable: false }) : port.grant(id, seconds),
        revoke: (id) => failing ? Effect.delay(Effect.fail(silentFailure), "10 seconds") : port.revoke(id)
      }))
      // Long enough to leave 3 seconds for the calls of the second section.
      const first = yield* Effect.exit(withLock("k", Effect.void, { ttl: "9 seconds" }))
      assert.isTrue(Exit.isFailure(first))
      failing = false
      yield* withLock("k", Effect.void, { ttl: "9 seconds" })
    }).pipe(Effect.scoped))

  it.live("does not end a lease because its whole seconds have run down to zero", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        inspect: (id, limit) =>
          Effect.map(port.inspect(id, limit), (reply) => ({ ...reply, value: { ...reply.value, ttl: 0 } }))
      }))
      yield* withLock("k", Effect.sleep("4 seconds"), { ttl: "1800 millis" })
    }).pipe(Effect.scoped))
})

// These have little time for a call, are promised an answer within a moment, or measure this process: nothing of this
// file runs beside them.
describe("a holder", () => {
  it.live("keeps its lock when one connection goes silent just before a renewal", () =>
    Effect.gen(function*() {
      const { proxy, withLock } = yield* proxiedSetting()
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          // The lease has 7 seconds. A third has passed at the renewal, and another third when the renewal gives up.
          yield* Effect.sleep("2100 millis")
          proxy.hold()
          yield* Effect.sleep("2700 millis")
          proxy.reset()
          proxy.release()
          yield* Effect.sleep("3 seconds")
          yield* lease.ensureHeld
        }), { ttl: "6 seconds" })
    }).pipe(Effect.scoped))

  it.live("has the deadline of its lease, not one of its own", () =>
    Effect.gen(function*() {
      const { admin, proxy, withLock } = yield* proxiedSetting({ operationTimeout: "300 millis" })
      yield* withLock("warm", Effect.void, { ttl: "5400 millis" })
      const [id] = yield* Effect.promise(() => leases(admin))
      // For two thirds of the lease's 6 seconds no keep-alive arrives.
      yield* Effect.sleep("200 millis")
      proxy.hold()
      yield* Effect.sleep("4 seconds")
      proxy.reset()
      proxy.release()
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          const remaining = Duration.toMillis(yield* lease.remaining)
          const state = yield* Effect.promise(() => admin.leaseClient.leaseTimeToLive({ ID: id as string }))
          // The server keeps the lease longer than the holder trusts it. (The server reports whole seconds, rounded down.)
          assert.isBelow(remaining, (Number(state.TTL) + 1) * 1_000)
          assert.isAtLeast(Number(state.TTL), 4, "a keep-alive was confirmed first")
          yield* Effect.log(`believes in ${remaining.toFixed(0)} ms, the server has ${state.TTL} s`)
        }), { ttl: "5400 millis" })
    }).pipe(Effect.scoped))

  it.live("counts from the lease's last confirmation when its claim is new", () =>
    Effect.gen(function*() {
      const { withLock } = yield* setting()
      const grantedAt = performance.now()
      yield* withLock("warm", Effect.void, { ttl: "5400 millis" })
      yield* Effect.sleep("1500 millis")
      const remaining = yield* withLock("k", (lease) => lease.remaining, { ttl: "5400 millis" })
      assert.isAtMost(Duration.toMillis(remaining), 5_460 - 1_500)
      assert.isAtLeast(Duration.toMillis(remaining), 5_460 - (performance.now() - grantedAt))
    }).pipe(Effect.scoped))

  it.live("is out at once when its key is deleted, and nothing re-creates it", () =>
    Effect.gen(function*() {
      const { admin, etcd, withLock } = yield* setting()
      const recorded = yield* lag
      for (const early of [true, false]) {
        // The loss may be reported before the answer to the deletion arrives.
        let deletedAt = Infinity
        const error = yield* Effect.flip(
          withLock(
            "k",
            Effect.andThen(
              Effect.promise(async () => {
                // The claim is deleted before its watch has begun, or after.
                if (!early) await Effect.runPromise(watched(etcd.url, 1))
                await admin.delete().prefix("dlock:k/")
                deletedAt = performance.now()
              }),
              Effect.never
            )
          )
        )
        const took = Math.max(0, performance.now() - deletedAt)
        assert.strictEqual((error as OwnershipLost).reason, "Expired")
        // A watch begins 30 ms into a section, and the server reports past events within another 100 ms.
        assert.isAtMost(took, (early ? 230 : 100) + recorded.max())
        assert.deepStrictEqual(yield* Effect.promise(() => keys(admin)), [])
        yield* Effect.log(`out ${took.toFixed(0)} ms after the deletion (lag ${recorded.max().toFixed(0)} ms)`)
      }
    }).pipe(Effect.scoped))

  it.live("is out at once when its lease is revoked", () =>
    Effect.gen(function*() {
      const { admin, etcd, withLock } = yield* setting()
      const recorded = yield* lag
      let revokedAt = Infinity
      const error = yield* Effect.flip(
        withLock(
          "k",
          Effect.andThen(
            Effect.promise(async () => {
              await Effect.runPromise(watched(etcd.url, 1))
              const [ID] = await leases(admin)
              await admin.leaseClient.leaseRevoke({ ID: ID as string })
              revokedAt = performance.now()
            }),
            Effect.never
          )
        )
      )
      const took = Math.max(0, performance.now() - revokedAt)
      assert.strictEqual((error as OwnershipLost).reason, "Expired")
      assert.isAtMost(took, 100 + recorded.max())
      yield* Effect.log(`out ${took.toFixed(0)} ms after the revocation (lag ${recorded.max().toFixed(0)} ms)`)
      // The next claim gets a new lease.
      yield* withLock("k", Effect.void, { timeout: "5 seconds" })
    }).pipe(Effect.scoped))
})

describe("waiters", () => {
  it.live("keep their places when one keep-alive fails", () =>
    Effect.gen(function*() {
      const { admin, etcd, proxy, ...waiting } = yield* proxiedSetting({ operationTimeout: "600 millis" })
      const holder = yield* locker({ hosts: etcd.url })
      yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          const waiter = yield* Effect.forkDetach(waiting.withLock("k", Effect.void, { ttl: "4800 millis" }), {
            startImmediately: true
          })
          yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
          const place = (yield* Effect.promise(() => claims(admin, "dlock:k")))[1]
          // The lease is due for a keep-alive after 0.4 of its 5 seconds, and this keep-alive gets no answer.
          yield* Effect.sleep("1800 millis")
          proxy.hold()
          yield* Effect.sleep("1 second")
          proxy.reset()
          proxy.release()
          yield* Effect.sleep("4 seconds")
          assert.strictEqual((yield* Effect.promise(() => claims(admin, "dlock:k")))[1], place)
          return waiter
        })
      ).pipe(Effect.flatMap(Fiber.join))
    }).pipe(Effect.scoped))

  it.live("are told when the connection that watches was cut and the past compacted meanwhile", () =>
    Effect.gen(function*() {
      const { admin, another, etcd, proxy, ...waiting } = yield* proxiedSetting()
      const holder = yield* another
      const waiter = yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          const waiter = yield* Effect.forkDetach(
            waiting.withLock("k", Effect.sync(() => performance.now()), { ttl: "30 seconds" }),
            { startImmediately: true }
          )
          yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
          yield* watched(etcd.url, 2)
          proxy.hold()
          return waiter
        })
      )
      yield* eventually("it was released", async () => (await claims(admin, "dlock:k")).length === 1)
      const { header } = yield* Effect.promise(() => admin.kv.range({ key: Buffer.from("x") }))
      yield* Effect.promise(() => admin.kv.compact({ revision: header.revision, physical: true }))
      const recorded = yield* lag
      const healedAt = performance.now()
      proxy.reset()
      proxy.release()
      const took = (yield* Fiber.join(waiter)) - healedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the network was back`)
      assert.isAtMost(took, 1_500 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("go on, and so do holders, after the server was killed and started again", () =>
    Effect.gen(function*() {
      const [etcd] = yield* members(1)
      const admin = yield* plainClient(etcd!.url)
      const holder = yield* locker({ hosts: etcd!.url })
      const waiting = yield* locker({ hosts: etcd!.url })
      const waiter = yield* holder.withLock(
        "k",
        (lease) =>
          Effect.gen(function*() {
            const waiter = yield* Effect.forkDetach(
              waiting.withLock("k", Effect.sync(() => performance.now()), { ttl: "10 seconds" }),
              { startImmediately: true }
            )
            yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
            yield* Effect.promise(() => etcd!.kill())
            yield* Effect.sleep("1 second")
            yield* Effect.promise(() => etcd!.start())
            yield* Effect.sleep("2 seconds")
            yield* lease.ensureHeld
            assert.isUndefined(waiter.pollUnsafe())
            return waiter
          }),
        { ttl: "10 seconds" }
      )
      const recorded = yield* lag
      const releasedAt = performance.now()
      const took = (yield* Fiber.join(waiter)) - releasedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the release`)
      assert.isAtMost(took, 500 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("are woken one by one: a release costs the same however many wait", () =>
    Effect.gen(function*() {
      const { admin, another, etcd, ...holder } = yield* setting()
      const { withLock } = yield* another
      const other = yield* another
      const lease = yield* holder.scoped("k", { ttl: "30 seconds" })
      const waiters = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: 100 }, (_, index) => (index % 2 === 0 ? withLock : other.withLock)),
          (withLock) => withLock("k", Effect.sleep(2), { ttl: "30 seconds" }),
          { concurrency: "unbounded", discard: true }
        ),
        { startImmediately: true }
      )
      yield* eventually("all wait", async () => (await claims(admin, "dlock:k")).length === 101, 20_000)
      yield* Effect.sleep("1 second")
      const before = yield* Effect.promise(() => requests(etcd.url))
      const releasedAt = performance.now()
      yield* lease.release
      yield* Fiber.join(waiters)
      const sent = since(before, yield* Effect.promise(() => requests(etcd.url)))
      yield* Effect.log(`100 waiters: ${sent.Txn} transactions, ${(performance.now() - releasedAt).toFixed(0)} ms`)
      // One request for each release, and one for the look of the next waiter.
      assert.isAtMost(sent.Txn ?? 0, 201 + 10)
    }).pipe(Effect.scoped))

  it.live("hear of a claim that was deleted before their watch began", () =>
    Effect.gen(function*() {
      const { another, withLock } = yield* setting()
      const other = yield* another
      // The lock changes hands without a pause, so every watch begins while its claim is being deleted.
      const recorded = yield* lag
      const entered: Array<number> = []
      const enter = Effect.sync(() => void entered.push(performance.now()))
      yield* Effect.all(
        [withLock, other.withLock].map((withLock) => Effect.repeat(withLock("k", enter), { times: 149 })),
        { concurrency: "unbounded" }
      )
      const longest = Math.max(...entered.slice(1).map((at, index) => at - entered[index]!))
      // A waiter that missed a deletion would wait for a poll.
      assert.isBelow(longest, 1_000 + recorded.max())
      yield* Effect.log(`300 hand-overs, the longest in ${longest.toFixed(0)} ms`)
    }).pipe(Effect.scoped))
})

describe("a quiet process", () => {
  it.live("does not spin while there is no server", () =>
    Effect.gen(function*() {
      const { admin, another, etcd, proxy, scoped } = yield* proxiedSetting()
      const other = yield* another
      yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => index),
        (index) => scoped(`k${index}`, { ttl: "30 seconds" }),
        { concurrency: "unbounded" }
      )
      yield* other.scoped("w", { ttl: "30 seconds" })
      yield* Effect.forkChild(scoped("w", { ttl: "30 seconds" }), { startImmediately: true })
      yield* eventually("it waits", async () => (await claims(admin, "dlock:w")).length === 2)
      yield* watched(etcd.url, 202)
      proxy.refuse()
      proxy.reset()
      yield* Effect.sleep("200 millis")
      const before = process.cpuUsage()
      yield* Effect.sleep("3 seconds")
      const { system, user } = process.cpuUsage(before)
      yield* Effect.log(`${((system + user) / 3_000).toFixed(0)} ms of processor time a second`)
      assert.isBelow((system + user) / 3_000, 250)
      yield* Effect.promise(() => proxy.accept())
    }).pipe(Effect.scoped))
})

describe("an acquire", () => {
  it.live("whose request arrives after its caller gave up leaves no claim", () =>
    Effect.gen(function*() {
      const { admin, proxy, withLock } = yield* proxiedSetting({ operationTimeout: "500 millis" })
      yield* withLock("warm", Effect.void, { ttl: "9 seconds" })
      proxy.holdRequests()
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "9 seconds" }))
      assert.strictEqual(error._tag, "LockBackendError")
      proxy.release()
      yield* eventually("no claim", async () => (await claims(admin, "dlock:k")).length === 0, 4_000)
      yield* Effect.sleep("1 second")
      assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
      yield* withLock("k", Effect.void, { timeout: "5 seconds" })
    }).pipe(Effect.scoped))

  it.live("leaves one lease of tombstones, however many give up at once", () =>
    Effect.gen(function*() {
      const { admin, etcd, withLock } = yield* setting({ operationTimeout: "400 millis" })
      yield* withLock("warm", Effect.void, { ttl: "20 seconds" })
      etcd.signal("SIGSTOP")
      yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => index),
        (index) => Effect.exit(withLock(`k${index}`, Effect.void, { ttl: "20 seconds" })),
        { concurrency: "unbounded" }
      )
      etcd.signal("SIGCONT")
      yield* Effect.sleep("1 second")
      const left = yield* Effect.promise(() => leases(admin))
      assert.isAtMost(left.length, 2)
      yield* eventually("no claims", async () => (await keys(admin)).every((key) => key.includes("\0")), 9_000)
    }).pipe(Effect.scoped))

  it.live("is cancelled although the lease of the tombstones was revoked", () =>
    Effect.gen(function*() {
      const { admin, proxy, withLock } = yield* proxiedSetting({ operationTimeout: "200 millis" })
      const giveUp = (key: string) =>
        Effect.gen(function*() {
          yield* withLock("warm", Effect.void, { ttl: "20 seconds" })
          proxy.holdReplies()
          const asked = yield* Effect.forkChild(Effect.exit(withLock(key, Effect.void, { ttl: "20 seconds" })))
          yield* eventually("it was executed", async () => (await claims(admin, `dlock:${key}`)).length === 1)
          yield* Effect.sleep("300 millis")
          proxy.release()
          yield* Fiber.interrupt(asked)
        })
      yield* giveUp("a")
      for (const ID of yield* Effect.promise(() => leases(admin))) {
        yield* Effect.promise(() => admin.leaseClient.leaseRevoke({ ID }))
      }
      yield* giveUp("b")
      yield* eventually("no claim", async () => (await claims(admin, "dlock:b")).length === 0, 1_000)
    }).pipe(Effect.scoped))

  it.live(
    "leaves nothing when it is interrupted at a random moment: 1,000 of them",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const admin = yield* plainClient(etcd.url)
        yield* Effect.promise(() => keys(admin))
        const resources = () =>
          process.getActiveResourcesInfo().filter((resource) => resource !== "Immediate").toSorted()
        const beforeLayer = resources()
        yield* Effect.scoped(Effect.gen(function*() {
          const { scopedIfAvailable, withLock } = yield* locker({ hosts: etcd.url })
          const other = yield* locker({ hosts: etcd.url })
          // Long enough for a watch, whose stream stays open until the layer closes.
          yield* withLock("k", Effect.sleep("100 millis"), { ttl: "5 seconds" })
          yield* Effect.scoped(other.scopedIfAvailable("k"))
          yield* Effect.sleep("300 millis")
          const before = resources()
          const pooled = yield* Effect.promise(() => leases(admin))
          let interrupted = 0
          for (let round = 0; round < 20; round++) {
            const fibers = yield* Effect.forEach(
              Array.from({ length: 50 }),
              () => Effect.forkDetach(withLock("k", Effect.sleep(1), { ttl: "5 seconds" })),
              { concurrency: 1 }
            )
            yield* Effect.forEach(
              fibers,
              (fiber) =>
                Effect.delay(Fiber.interrupt(fiber), Math.random() * 40).pipe(
                  Effect.andThen(Fiber.await(fiber)),
                  Effect.map((exit) => void (Exit.isFailure(exit) && interrupted++))
                ),
              { concurrency: "unbounded", discard: true }
            )
          }
          yield* Effect.log(`${interrupted} of 1,000 were interrupted before their end`)
          const free = yield* Effect.scoped(other.scopedIfAvailable("k"))
          assert.isTrue(Option.isSome(free), "the key is free at once")
          yield* Effect.sleep("300 millis")
          assert.deepStrictEqual(yield* Effect.promise(() => claims(admin, "dlock:k")), [])
          assert.sameMembers([...(yield* Effect.promise(() => leasesOfClaims(admin)))], [...pooled])
          const timers = (all: ReadonlyArray<string>) => all.filter((resource) => resource === "Timeout").length
          assert.isAtMost(resources().length, before.length, `${before.join()} ${resources().join()}`)
          assert.isAtMost(timers(resources()), timers(before))
          assert.isTrue(Option.isSome(yield* Effect.scoped(scopedIfAvailable("k"))))
        }))
        assert.deepStrictEqual(yield* Effect.promise(() => leasesOfClaims(admin)), [])
        yield* eventually("nothing is left of the layer", async () => resources().length <= beforeLayer.length)
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("a release", () => {
  it.live("is limited in time when the server freezes, and keeps the program's result", () =>
    Effect.gen(function*() {
      const { etcd, withLock } = yield* setting()
      const [took, exit] = yield* timed(Effect.exit(
        withLock("k", Effect.as(Effect.sync(() => etcd.signal("SIGSTOP")), 42), { ttl: "3 seconds" })
      ))
      etcd.signal("SIGCONT")
      assert.deepStrictEqual(exit, Exit.succeed(42))
      assert.isBelow(took, 2_000)
    }).pipe(Effect.scoped))
})

describe("a locker over a server that answers some calls only", () => {
  it.live("does not believe in a lease whose keep-alives fail because a transaction went through", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      let failing = false
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        keepAlive: (id, limit) => failing ? Effect.fail(silentFailure) : port.keepAlive(id, limit)
      }))
      const recorded = yield* lag
      const grantedAt = performance.now()
      yield* withLock("warm", Effect.void, { ttl: "5400 millis" })
      failing = true
      yield* Effect.sleep("2500 millis")
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "5400 millis", timeout: "2 seconds" }))
      assert.strictEqual(error._tag, "LockBackendError")
      failing = false
      yield* withLock(
        "k",
        (lease) => Effect.map(lease.remaining, (remaining) => assert.isAbove(Duration.toMillis(remaining), 5_000)),
        {
          ttl: "5400 millis"
        }
      )
      assert.isBelow(performance.now() - grantedAt, 6_000 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("confirms a grant that was held up for long before it counts", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      let slow = false
      let kept = 0
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        txn: (request, limit) => Effect.delay(port.txn(request, limit), slow ? 1_700 : 0),
        keepAlive: (id, limit) => {
          kept++
          return port.keepAlive(id, limit)
        }
      }))
      yield* withLock("warm", Effect.void, { ttl: "4500 millis" })
      slow = true
      const before = kept
      const remaining = yield* Effect.exit(withLock("k", (lease) => lease.remaining, { ttl: "5400 millis" }))
      yield* Effect.log(remaining._tag === "Success" ? Duration.toMillis(remaining.value) : remaining.cause)
      assert.isAbove(kept, before)
    }).pipe(Effect.scoped))

  it.live("serves a waiter by its poll where the watch never answers", () =>
    Effect.gen(function*() {
      const { admin, etcd, ...holder } = yield* setting()
      const recorded = yield* lag
      const deaf = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        watch: () => Effect.succeed({ send: () => {}, close: () => {} })
      }))
      const waiter = yield* holder.withLock(
        "k",
        Effect.gen(function*() {
          const waiter = yield* Effect.forkDetach(
            deaf.withLock("k", Effect.sync(() => performance.now()), { ttl: "6 seconds" }),
            { startImmediately: true }
          )
          yield* eventually("it waits", async () => (await claims(admin, "dlock:k")).length === 2)
          return waiter
        })
      )
      const releasedAt = performance.now()
      const took = (yield* Fiber.join(waiter)) - releasedAt
      yield* Effect.log(`in ${took.toFixed(0)} ms after the release`)
      // The limit of a call is a third of the ttl.
      assert.isAtMost(took, 2_000 + 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("knows by an answer of the second host that the first was asked", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      const silentHost = yield* proxyTo(etcd.port)
      silentHost.holdReplies()
      const settings = yield* parse({ hosts: [silentHost.url, etcd.url], operationTimeout: "600 millis" })
      const port = yield* open(settings)
      silentHost.release()
      const reply = yield* port.txn({})
      assert.isFalse(reply.doubled)
      const other = yield* open({ ...settings, target: { hosts: [silentHost.url, etcd.url] } })
      silentHost.holdReplies()
      assert.isTrue((yield* other.txn({})).doubled)
    }).pipe(Effect.scoped))

  // Before, a crowd of processes sent everything twice to a slow server, which never caught up.
  for (
    const [what, isKeepAlive] of [
      ["a renewal that hangs is sent a second time within its limit", true],
      ["another call that hangs has all its time for one sending", false]
    ] as const
  ) {
    it.live(`of one host, ${what}`, () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const proxy = yield* proxyTo(etcd.port)
        const port = yield* open(yield* parse({ hosts: proxy.url, operationTimeout: "1 second" }))
        yield* port.grant("7", 60)
        proxy.hold()
        yield* Effect.forkChild(Effect.delay(Effect.sync(proxy.release), "600 millis"))
        const asked: Effect.Effect<Reply<unknown>, CallFailure> = isKeepAlive ? port.keepAlive("7") : port.txn({})
        const [took, reply] = yield* timed(asked)
        assert.strictEqual(reply.doubled, isKeepAlive)
        assert.isBelow(took, 1_000)
      }).pipe(Effect.scoped))
  }

  it.live("takes no list that lacks a claim for a confirmation where nobody can be asked", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      let failing = false
      const recorded = yield* lag
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        inspect: (id, limit) =>
          failing
            ? Effect.map(port.inspect(id, limit), (reply) => ({ ...reply, value: { ...reply.value, keys: [] } }))
            : port.inspect(id, limit),
        txn: (request, limit) => failing ? Effect.fail(silentFailure) : port.txn(request, limit)
      }))
      const error = yield* Effect.flip(
        withLock("k", Effect.andThen(Effect.sync(() => void (failing = true)), Effect.never), { ttl: "1800 millis" })
      )
      const { lastConfirmedAgo, reason } = error as OwnershipLost
      assert.strictEqual(reason, "Unreachable")
      assert.isAtMost(Duration.toMillis(lastConfirmedAgo), 1_820 + 100 + recorded.max())
    }).pipe(Effect.scoped))

  it.live("has time for another renewal before the deadline when a keep-alive hangs", () =>
    Effect.gen(function*() {
      const etcd = yield* server()
      let kept = 0
      const limits: Array<number | undefined> = []
      const { withLock } = yield* lockerOver(etcd.url, (port) => ({
        ...port,
        keepAlive: (id, limit) => {
          limits.push(limit)
          // The first keep-alive hangs until its limit.
          return kept++ === 0
            ? Effect.delay(Effect.fail(silentFailure), Math.min(limit ?? Infinity, 2_000))
            : port.keepAlive(id, limit)
        }
      }))
      yield* withLock("k", Effect.sleep("5 seconds"), { ttl: "1800 millis" })
      for (const limit of limits) assert.isAtMost(limit ?? Infinity, 2_000 / 3)
    }).pipe(Effect.scoped))
})
