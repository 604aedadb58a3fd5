import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Held, Renewal, RevocationNotice } from "../../LockStore.ts"
import { type Admin, nameOf, setting } from "./admin.ts"
import { type Bench, type Body, equal, expect, type Store, toMillis } from "./bench.ts"

const by = "the operator"

/** Asks a holder to leave, within a minute if no grace is given. */
const revoke = (admin: Admin, { claim, fencingToken }: Held, grace = 60_000, why?: string) =>
  Effect.map(
    admin.revoke(nameOf(claim), { token: fencingToken, grace, by, ...(why !== undefined && { why }) }),
    (answer) => equal(answer, "asked", "the answer to a revocation")
  )

/** What a client is told of revocations. */
const noticesOf = (bench: Bench, { losses }: Store) =>
  Effect.gen(function*() {
    const notices: Array<RevocationNotice> = []
    yield* Effect.forkScoped(
      Stream.runForEach(losses, (news) => Effect.sync(() => "revocation" in news && notices.push(news))),
      { startImmediately: true }
    )
    yield* bench.advance(10)
    return notices
  })

/** How late timers of this process are that run meanwhile. It is no time of the store. */
const lagging = (bench: Bench, what: string, within: number, holds: () => boolean) =>
  Effect.gen(function*() {
    const start = yield* bench.now
    let lag = 0
    while (!holds()) {
      const before = yield* bench.now
      if (before - start - lag > within) return expect(false, `${what} within ${within} ms`)
      yield* bench.advance(5)
      lag += Math.max(0, (yield* bench.now) - before - 5)
    }
  })

const isAsked = (renewal: Renewal): boolean => renewal._tag === "Confirmed" && renewal.revocation !== undefined

/** Renews again and again until the answer is no confirmation, and returns that answer and the last confirmation. */
const renewUntilRefused = (bench: Bench, store: Store, held: Held, within: number) =>
  Effect.gen(function*() {
    let confirmedAt = 0n
    const end = (yield* bench.now) + within
    while (true) {
      const renewal = yield* bench.renewOne(store, held)
      if (renewal._tag !== "Confirmed") return { renewal, confirmedAt }
      confirmedAt = renewal.confirmedAt
      if ((yield* bench.now) > end) return expect(false, `no renewal to be confirmed after the grace and ${within} ms`)
      yield* bench.advance(20)
    }
  })

const expectRevoked = (renewal: Renewal): void => {
  if (renewal._tag !== "Revoked") return expect(false, `the renewal to be Revoked, but it was ${renewal._tag}`)
}

const expectUnasked = (bench: Bench, store: Store, held: Held, when: string) =>
  Effect.map(bench.renewOne(store, held), (renewal) => {
    equal(renewal._tag, "Confirmed", `the renewal ${when}`)
    expect(!isAsked(renewal), `nothing of a revocation in the renewal ${when}`)
  })

const firstHolder = (admin: Admin, held: Held) =>
  Effect.map(admin.inspect(nameOf(held.claim)), ({ holders }) => holders[0])

/** Tests of a store's `LockAdmin`: how it takes locks away. */
export const revoking: ReadonlyArray<readonly [name: string, body: Body]> = [
  [
    "a holder is told at once that it is asked to leave: by whom, why, and how long it may stay",
    (bench) =>
      Effect.gen(function*() {
        const { admin, client, other } = yield* setting(bench)
        const notices = yield* noticesOf(bench, client)
        for (const why of ["maintenance of \"shelf\" 7 — ü", undefined]) {
          const held = yield* bench.hold(client, bench.lasting(bench.key()))
          const waiting = bench.lasting("", { key: held.claim.key })
          yield* bench.queue(other, waiting)
          notices.length = 0
          yield* revoke(admin, held, 60_000, why)
          yield* lagging(bench, "a notice of the revocation", 100, () => notices.length > 0)
          const { id, revocation } = notices[0]!
          equal(id, held.claim.id, "the claim that the notice names")
          equal([revocation.by, revocation.why], [by, why], "by whom and why")
          const grace = Duration.toMillis(revocation.grace)
          expect(grace > 50_000 && grace <= 60_000, `the grace to be what is left of a minute, but it was ${grace} ms`)
          const holder = yield* firstHolder(admin, held)
          equal([holder?.token, holder?.isRevoked], [held.fencingToken, true], "the holder, who is marked as revoked")
          yield* bench.expectHeld(other, held.claim.key.slice(held.claim.prefix.length), "during the grace")
        }
      })
  ],

  ["a renewal within the grace is confirmed, and tells of the revocation", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key } = yield* setting(bench)
      const held = yield* bench.hold(client, bench.claim(key))
      yield* revoke(admin, held, 60_000, "because")
      const end = (yield* bench.now) + bench.ttl * 2
      let told = 0
      while ((yield* bench.now) < end) {
        const renewal = yield* bench.renewOne(client, held)
        if (renewal._tag !== "Confirmed") return expect(false, `Confirmed, but it was ${renewal._tag}`)
        if (renewal.revocation !== undefined) {
          const { grace, why } = renewal.revocation
          equal([renewal.revocation.by, why], [by, "because"], "by whom and why")
          expect(Duration.toMillis(grace) > 0 && Duration.toMillis(grace) <= 60_000, "the rest of the grace")
          told++
        } else equal(told, 0, "the number of renewals that told of the revocation before one that did not")
        yield* bench.advance(bench.ttl / 8)
      }
      expect(told > 4, "the renewals to tell of the revocation")
    })],

  [
    "after the grace nothing extends the claim, and nobody is granted before it ran out",
    (bench) =>
      Effect.gen(function*() {
        const { admin, client, key, other } = yield* setting(bench)
        const held = yield* bench.hold(client, bench.claim(key))
        const queued = yield* bench.queue(other, bench.claim(key))
        let grantedAt: number | undefined
        yield* Effect.forkScoped(
          Effect.flatMap(queued.granted, () => Effect.map(bench.now, (now) => void (grantedAt = now))),
          { startImmediately: true }
        )
        const grace = bench.ttl * 1.5
        yield* revoke(admin, held, grace)
        const refused = yield* renewUntilRefused(bench, client, held, grace + bench.ttl)
        expectRevoked(refused.renewal)
        const confirmedAt = toMillis(refused.confirmedAt)
        expect(confirmedAt > 0, "renewals within the grace to be confirmed")

        // Whatever the holder tries, its claim runs out.
        let least = Infinity
        while (grantedAt === undefined) {
          const holder = yield* firstHolder(admin, held)
          if (holder?.token === held.fencingToken && holder.expiresIn !== undefined) {
            expect(holder.expiresIn <= least + 5, "what is left of the claim never to grow")
            least = holder.expiresIn
          }
          const renewal = yield* bench.renewOne(client, held)
          expect(renewal._tag !== "Confirmed", "no renewal to be confirmed after one was refused")
          if ((yield* bench.now) < confirmedAt + bench.ttl) {
            const answer = yield* client.request(held.claim, "queue")
            expect(
              answer._tag === "Gone" || (answer._tag === "Granted" && answer.confirmedAt <= refused.confirmedAt),
              "a repeated request not to extend the claim"
            )
            if (answer._tag === "Gone") break
          }
          expect((yield* bench.now) < confirmedAt + bench.freeAfter + bench.soon, "the next to be granted in time")
          yield* bench.advance(bench.ttl / 10)
        }
        if (grantedAt === undefined) {
          const end = confirmedAt + bench.freeAfter + bench.soon - (yield* bench.now)
          yield* bench.until("the next to be granted in time", () => grantedAt !== undefined, end)
        }
        expect(grantedAt! >= confirmedAt + bench.ttl, "nobody to be granted while the holder may still be inside")
      })
  ],

  ["a holder that leaves when it is asked hands the lock over at once", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      for (const grace of [60_000, 0]) {
        const held = yield* bench.hold(client, bench.lasting(key))
        const next = bench.lasting(key)
        const queued = yield* bench.queue(other, next)
        yield* revoke(admin, held, grace)
        if (grace === 0) expectRevoked((yield* renewUntilRefused(bench, client, held, bench.soon)).renewal)
        equal(yield* client.withdraw(held.claim), "released", "the withdrawal of a claim that was asked to leave")
        const { fencingToken } = yield* bench.granted(queued, "the next in the queue")
        yield* bench.advance(50)
        // The revocation was of that hold only.
        yield* expectUnasked(bench, other, { claim: next, fencingToken }, "of the next holder")
        yield* other.withdraw(next)
        const again = yield* bench.hold(client, bench.lasting(key))
        yield* expectUnasked(bench, client, again, "of a later hold of the process that was asked to leave")
        yield* client.withdraw(again.claim)
      }
    })],

  ["a revocation that names another hold changes nothing", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const notices = yield* noticesOf(bench, client)
      const earlier = yield* bench.hold(client, bench.lasting(key))
      yield* client.withdraw(earlier.claim)
      const elsewhere = yield* bench.hold(client, bench.lasting(bench.key()))
      const held = yield* bench.hold(client, bench.lasting(key))
      yield* bench.queue(other, bench.lasting(key))
      const { fencingToken } = held
      for (const token of [earlier.fencingToken, fencingToken + 1n, fencingToken - 1n, 0n, elsewhere.fencingToken]) {
        const answer = yield* admin.revoke(nameOf(held.claim), { token, grace: 0, by })
        equal(answer, "notHeld", `the answer to a revocation of ${token} while ${fencingToken} holds the lock`)
        equal(
          yield* admin.breakLock(nameOf(held.claim), token),
          false,
          "the answer to breaking the lock of another hold"
        )
      }
      yield* bench.advance(100)
      equal(notices.length, 0, "the number of notices")
      yield* expectUnasked(bench, client, held, "of the holder")
      yield* expectUnasked(bench, client, elsewhere, "of the holder of another lock")
      equal((yield* firstHolder(admin, held))?.isRevoked, false, "whether the holder is marked as revoked")
      const free = nameOf(bench.lasting(bench.key()))
      equal(yield* admin.revoke(free, { token: fencingToken, grace: 0, by }), "notHeld", "the answer about a free lock")
      equal(yield* admin.breakLock(free, fencingToken), false, "the answer to breaking a free lock")
    })],

  ["a second revocation shortens the grace, and never lengthens it", (bench) =>
    Effect.gen(function*() {
      const { admin, client } = yield* setting(bench)
      for (const [first, second] of [[60_000, 50], [50, 60_000]] as const) {
        const held = yield* bench.hold(client, bench.lasting(bench.key()))
        yield* revoke(admin, held, first)
        yield* revoke(admin, held, second)
        const { renewal } = yield* renewUntilRefused(bench, client, held, bench.soon)
        expectRevoked(renewal)
      }
    })],

  [
    "a section whose lock is revoked is told, then interrupted, and the next is in when it has ended",
    (bench) =>
      Effect.gen(function*() {
        const { admin, client, key, other } = yield* setting(bench)
        // A ttl so long that neither a renewal nor an expiry helps.
        const locker = yield* bench.locker(client, { defaultTtl: "2 minutes" })
        let token: bigint | undefined
        let grace: Duration.Duration | undefined
        let isInside = false
        const section = locker.withLock(key, (lease) => {
          token = lease.fencingToken
          isInside = true
          return Effect.flatMap(lease.revocation, (revocation) => {
            grace = revocation.grace
            return Effect.never
          }).pipe(
            Effect.onInterrupt(() => Effect.sleep(100)),
            Effect.ensuring(Effect.sync(() => void (isInside = false)))
          )
        })
        const held = yield* bench.fork(Effect.flip(section))
        yield* bench.until("the lock to be had", () => token !== undefined)
        const next = bench.lasting(key)
        const queued = yield* bench.queue(other, next)
        let wasInside: boolean | undefined
        yield* Effect.forkScoped(
          Effect.tap(queued.granted, () => Effect.sync(() => void (wasInside = isInside))),
          { startImmediately: true }
        )
        const askedAt = yield* bench.now
        equal(
          yield* admin.revoke(nameOf(next), { token: token!, grace: 300, by, why: "a test" }),
          "asked",
          "the answer to a revocation"
        )
        const lost = yield* bench.drive(held, "the section to be interrupted")
        if (lost._tag !== "OwnershipLost") return expect(false, `OwnershipLost, but it was ${lost._tag}`)
        equal([lost.reason, lost.revocation], ["Revoked", { by, why: "a test" }], "the reason, by whom and why")
        expect(grace !== undefined && Duration.toMillis(grace) <= 300, "the section to be told its grace")
        expect((yield* bench.now) - askedAt >= 395, "the section to have its grace, and its finalizer to be awaited")
        yield* bench.until("the next to be granted", () => wasInside !== undefined)
        equal(wasInside, false, "whether the section was inside when the next was granted")
      })
  ],

  ["a broken lock is handed over at once, and its holder finds that out", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const held = yield* bench.hold(client, bench.lasting(key))
      const next = bench.lasting(key)
      const queued = yield* bench.queue(other, next)
      equal(yield* admin.breakLock(nameOf(held.claim), held.fencingToken), true, "the answer to breaking a lock")
      const { fencingToken } = yield* bench.granted(queued, "the next in the queue")
      expect(fencingToken > held.fencingToken, "the token to grow")
      const refused = yield* renewUntilRefused(bench, client, held, bench.soon)
      expect(refused.renewal._tag !== "Unknown", "the holder to be told that its lock is gone")
      yield* expectUnasked(bench, other, { claim: next, fencingToken }, "of the next holder")
      equal(yield* admin.breakLock(nameOf(held.claim), held.fencingToken), false, "the answer to the same once more")
      equal((yield* firstHolder(admin, held))?.token, fencingToken, "the holder after the same once more")
      yield* other.withdraw(next)
      yield* bench.expectFree(other, key, "after all have left")
    })]
]

/** The same for semaphores. */
export const revokingShared: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["one holder of a semaphore is asked to leave, and its permits alone are taken", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const claim = (permits: number) => bench.lasting(key, { capacity: 4, permits })
      const first = yield* bench.hold(client, claim(1))
      const second = yield* bench.hold(client, claim(2))
      const third = yield* bench.hold(other, claim(1))
      const queued = yield* bench.queue(other, claim(2))
      yield* revoke(admin, second, 50)
      expectRevoked((yield* renewUntilRefused(bench, client, second, bench.soon)).renewal)
      const { holders } = yield* admin.inspect(nameOf(first.claim))
      equal(
        holders.filter(({ isRevoked }) => isRevoked).map(({ token }) => token),
        [second.fencingToken],
        "the holders that are marked as revoked"
      )
      for (const held of [first, third]) {
        yield* expectUnasked(bench, held === first ? client : other, held, "of another holder of the semaphore")
      }
      equal(yield* client.withdraw(second.claim), "released", "the withdrawal of the claim that was asked to leave")
      yield* bench.granted(queued, "the next in the queue")

      equal(yield* admin.breakLock(nameOf(first.claim), third.fencingToken), true, "the answer to breaking one hold")
      yield* expectUnasked(bench, client, first, "of the holder beside one that was broken")
      const after = yield* admin.inspect(nameOf(first.claim))
      equal([after.holderCount, after.permitsHeld], [2, 3], "the holders and permits after one was broken")
    })]
]

/** The same for stores that have `shrink`. */
export const revokingShrunk: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a shrink after the grace does not extend the claim", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const held = yield* bench.hold(client, bench.claim(key, { capacity: 4, permits: 4 }))
      const queued = yield* bench.queue(other, bench.claim(key, { capacity: 4, permits: 4 }))
      yield* revoke(admin, held, 0)
      const { confirmedAt, renewal } = yield* renewUntilRefused(bench, client, held, bench.ttl)
      expectRevoked(renewal)
      const last = toMillis(confirmedAt > held.granted.confirmedAt ? confirmedAt : held.granted.confirmedAt)
      const before = yield* firstHolder(admin, held)
      const answer = yield* client.shrink!(held, 1)
      expect(answer._tag !== "Confirmed", "a shrink after the grace not to be confirmed")
      const after = yield* firstHolder(admin, held)
      expect((after?.expiresIn ?? 0) <= (before?.expiresIn ?? Infinity), "what is left of the claim not to grow")
      yield* bench.granted(
        queued,
        "the next, once the claim ran out",
        last + bench.freeAfter + bench.soon - (yield* bench.now)
      )
      expect((yield* bench.now) >= last + bench.ttl, "nobody to be granted while the holder may still be inside")
    })]
]
