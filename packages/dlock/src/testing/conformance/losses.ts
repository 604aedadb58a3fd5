import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Lease } from "../../Lease.ts"
import type { OwnershipLost } from "../../LockError.ts"
import * as FaultyLockStore from "../FaultyLockStore.ts"
import { type Bench, type Body, equal, expect, expectGranted, type LockerService } from "./bench.ts"

const setting = Effect.fnUntraced(function*(bench: Bench) {
  const [client, other] = yield* Effect.all([bench.client, bench.client])
  const faulty = yield* FaultyLockStore.make(client)
  return { faulty, other, locker: yield* bench.locker(faulty.store), key: bench.key() }
})

/** Runs a program under the lock until it is interrupted, and returns its end. */
const hold = Effect.fnUntraced(function*(bench: Bench, locker: LockerService, key: string) {
  let lease: Lease | undefined
  let stopped = false
  const fiber = yield* bench.fork(Effect.flip(locker.withLock(key, (mine) => {
    lease = mine
    return Effect.onInterrupt(Effect.never, () => Effect.sync(() => stopped = true))
  })))
  yield* bench.until("the lock to be had", () => lease !== undefined)
  return {
    fiber,
    lease: lease!,
    loss: Effect.fnUntraced(function*(within: number) {
      const error: { readonly _tag: string } = yield* bench.drive(fiber, "the program to fail", within)
      equal(error._tag, "OwnershipLost", "the error of a section whose lock was lost")
      equal(stopped, true, "whether the program was interrupted")
      const lost = error as OwnershipLost
      equal(lost.fencingToken, lease!.fencingToken, "the token that OwnershipLost names")
      equal(lost.key, key, "the key that OwnershipLost names")
      equal((yield* Effect.flip(lease!.ensureHeld))._tag, "OwnershipLost", "ensureHeld after the loss")
      return lost
    })
  }
})

const claimOf = (faulty: FaultyLockStore.FaultyLockStore) =>
  faulty.calls.findLast((call) => call.operation === "request")!.claims[0]!

const releases = (faulty: FaultyLockStore.FaultyLockStore) =>
  faulty.calls.filter((call) => call.operation === "withdraw").length

/** A clock that a test can move ahead without firing any timer. */
const shiftedClock = Effect.map(Clock.clockWith(Effect.succeed), (clock) => {
  const shift = { monotonic: 0, wall: 0 }
  const nanos = (millis: number) => BigInt(Math.round(millis * 1_000_000))
  const monotonicTimeNanosUnsafe = () => clock.monotonicTimeNanosUnsafe() + nanos(shift.monotonic)
  const currentTimeMillisUnsafe = () => clock.currentTimeMillisUnsafe() + shift.wall
  const currentTimeNanosUnsafe = () => clock.currentTimeNanosUnsafe() + nanos(shift.wall)
  const shifted: Clock.Clock = {
    monotonicTimeNanosUnsafe,
    monotonicTimeNanos: Effect.sync(monotonicTimeNanosUnsafe),
    currentTimeMillisUnsafe,
    currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
    currentTimeNanosUnsafe,
    currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    sleep: (duration) => clock.sleep(duration)
  }
  return { shift, clock: shifted }
})

/** Every way to lose a lock, and the reason that the holder receives. */
export const losses: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a claim that is gone at the backend is lost as Expired, and not released again", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* hold(bench, locker, key)
      yield* other.withdraw(claimOf(faulty))
      const lost = yield* held.loss(bench.ttl + bench.soon)
      equal(lost.reason, "Expired", "the reason")
      equal(releases(faulty), 0, "the number of releases by one who has lost the lock")
      yield* bench.expectFree(other, key, "after the loss")
    })],

  ["a claim that another has taken is lost as Replaced, and the other keeps it", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* hold(bench, locker, key)
      // A store that pushes losses might report the withdrawal before another claim holds the key.
      const kept = yield* faulty.holdCalls("renew")
      yield* other.withdraw(claimOf(faulty))
      const successor = yield* bench.hold(other, bench.claim(key))
      yield* kept.release
      const lost = yield* held.loss(bench.ttl + bench.soon)
      expect(
        lost.reason === "Replaced" ||
          (lost.reason === "Expired" && !faulty.calls.some((call) => call.answer === "Gone")),
        `the reason to be Replaced (or Expired, by a hint), but it was ${lost.reason}`
      )
      equal(releases(faulty), 0, "the number of releases by one who has lost the lock")
      equal((yield* bench.renewOne(other, successor))._tag, "Confirmed", "the successor's renewal")
    })],

  ...[
    ["hangs", (faulty: FaultyLockStore.FaultyLockStore) => faulty.hang("renew")] as const,
    ["fails", (faulty: FaultyLockStore.FaultyLockStore) => faulty.fail("renew")] as const,
    ["loses its answers", (faulty: FaultyLockStore.FaultyLockStore) => faulty.dropReplies("renew")] as const
  ].map(([how, disturb]) =>
    [
      `a holder whose backend ${how} is out at its deadline as Unreachable, and nobody is in before`,
      (bench: Bench) =>
        Effect.gen(function*() {
          const { faulty, key, locker, other } = yield* setting(bench)
          const held = yield* hold(bench, locker, key)
          yield* disturb(faulty)
          const left = Duration.toMillis(yield* held.lease.remaining)
          const deadline = (yield* bench.now) + left
          const next = yield* bench.queue(other, bench.claim(key))
          let grantedAt = 0
          let stillBelieved = false
          const waiting = yield* Effect.forkScoped(
            Effect.tap(next.granted, () =>
              Effect.gen(function*() {
                grantedAt = yield* bench.now
                stillBelieved = (yield* Effect.exit(held.lease.ensureHeld))._tag === "Success"
              })),
            { startImmediately: true }
          )
          yield* bench.advance(left * 0.8)
          yield* held.lease.ensureHeld
          const lost = yield* held.loss(bench.ttl + bench.soon)
          equal(lost.reason, "Unreachable", "the reason")
          const ago = Duration.toMillis(lost.lastConfirmedAgo)
          expect(ago >= bench.ttl * 0.99, `lastConfirmedAgo to be the ttl or more, but it was ${ago} ms`)
          yield* bench.drive(waiting, "the next in the queue to be granted", bench.freeAfter + bench.soon)
          equal(stillBelieved, false, "whether the holder believed in its lock when the next was granted")
          expect(grantedAt >= deadline - 1, "nobody to be granted before the holder's deadline")
        })
    ] as const
  ),

  ["a backend that is back before the deadline costs nothing", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* hold(bench, locker, key)
      for (const disturb of [faulty.fail("renew"), faulty.hang("renew")]) {
        yield* disturb
        // A renewal may be due now. A renewal that hangs takes a sixth of the ttl, and the next one must have time
        // left.
        yield* bench.advance(bench.ttl * 0.35)
        yield* faulty.heal()
        yield* bench.advance(bench.ttl)
        yield* held.lease.ensureHeld
      }
      yield* bench.expectHeld(other, key, "after the backend came back")
    })],

  ["a lock that is taken away is lost as Revoked, by the answer to a renewal", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker } = yield* setting(bench)
      const held = yield* hold(bench, locker, key)
      yield* faulty.answerRenewals({ _tag: "Revoked" })
      equal((yield* held.loss(bench.ttl + bench.soon)).reason, "Revoked", "the reason")
      // The claim keeps others out until its program has ended.
      equal(releases(faulty), 1, "the number of releases by one whose claim is never extended again")
    })],

  ["a hint of a loss is taken at once", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const faulty = yield* FaultyLockStore.make(client)
      // A ttl so long that no renewal can find the loss.
      const locker = yield* bench.locker(faulty.store, { defaultTtl: "2 minutes" })
      const held = yield* hold(bench, locker, bench.key())
      yield* faulty.lose(claimOf(faulty).id, "Revoked")
      equal((yield* held.loss(bench.soon)).reason, "Revoked", "the reason")
      equal(releases(faulty), 0, "the number of releases by one who has lost the lock")
      yield* client.withdraw(claimOf(faulty))
    })],

  ["a process that was late finds its lock Stalled, by whoever looks first", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const { clock, shift } = yield* shiftedClock
      const faulty = yield* FaultyLockStore.make(client)
      const locker = yield* Effect.provideService(bench.locker(faulty.store), Clock.Clock, clock)
      const key = bench.key()
      const result = yield* Effect.flip(locker.withLock(key, (lease) =>
        Effect.gen(function*() {
          yield* lease.ensureHeld
          shift.monotonic += Duration.toMillis(lease.ttl) * 3
          return "a success that came too late"
        })))
      if (result._tag !== "OwnershipLost") return expect(false, `OwnershipLost, but it was ${result._tag}`)
      equal(result.reason, "Stalled", "the reason of a success reached after the deadline")
      shift.monotonic = 0

      const waiting = bench.claim(key)
      const answer = yield* other.request(waiting, "queue")
      if (answer._tag === "Queued") {
        yield* bench.granted(answer, "the next, once the late one is out", bench.freeAfter + bench.soon)
      } else expectGranted(answer, "the next, once the late one is out")
      yield* other.withdraw(waiting)
    })],

  [
    "a machine that slept finds its lock Stalled, though its monotonic clock stood still",
    (bench) =>
      Effect.gen(function*() {
        const client = yield* bench.client
        const { clock, shift } = yield* shiftedClock
        const locker = yield* Effect.provideService(bench.locker(client), Clock.Clock, clock)
        const held = yield* hold(bench, locker, bench.key())
        const ttl = Duration.toMillis(held.lease.ttl)
        shift.wall += ttl * 0.9
        yield* held.lease.ensureHeld
        shift.wall -= ttl * 100
        yield* held.lease.ensureHeld
        shift.wall += ttl * 102
        equal((yield* Effect.flip(held.lease.ensureHeld))._tag, "OwnershipLost", "ensureHeld after the sleep")
        equal((yield* held.loss(bench.ttl + bench.soon)).reason, "Stalled", "the reason")
      })
  ]
]
