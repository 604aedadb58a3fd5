import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { type Body, equal, expect, expectGranted, toMillis } from "./bench.ts"

const oddNames = [
  ..."/ // . .. ../ ../.. /. a/../b b * ? [a-z] \\ %2F a|b a:b $1 '\" {a} {a}b b{a} é e\u0301 鎖 𝄞 __proto__".split(
    " "
  ),
  "",
  " ",
  "\n",
  "\r\n",
  "\x7f"
]

/** Tests of single claims, directly on the store. */
export const claims: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["of many claims on a key one is granted, over several clients", (bench) =>
    Effect.gen(function*() {
      const clients = yield* Effect.all([bench.client, bench.client, bench.client])
      const key = bench.key()
      const claims = Array.from({ length: 12 }, () => bench.claim(key))
      const answers = yield* Effect.forEach(claims, (claim, index) => clients[index % 3]!.request(claim, "try"), {
        concurrency: "unbounded"
      })
      equal(answers.filter((answer) => answer._tag === "Granted").length, 1, "the number of claims granted out of 12")
      equal(answers.filter((answer) => answer._tag === "Busy").length, 11, "the number of claims that are Busy")
    })],

  ["tells of its server's latest answer, if it tells of any", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const clock = yield* Clock.clockWith(Effect.succeed)
      const claim = bench.claim(bench.key())
      if (client.heardAt === undefined) return
      for (const ask of [client.request(claim, "try"), client.withdraw(claim)]) {
        const before = clock.monotonicTimeNanosUnsafe()
        yield* ask
        const heardAt: bigint = client.heardAt(claim) ?? -1n
        expect(heardAt >= before, "the answer to a call was heard after it was asked")
        expect(heardAt <= clock.monotonicTimeNanosUnsafe(), "it was heard before it is asked about")
      }
    })],

  [
    "a claim that allows as many to wait as wait is refused, or told its exact place",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const key = bench.key()
        const holder = yield* bench.hold(client, bench.lasting(key, { maxQueue: 0 }))
        const first = bench.lasting(key, { maxQueue: 1 })
        const queued = yield* bench.queue(other, first)
        const second = bench.lasting(key, { maxQueue: 1 })
        const answer = yield* client.request(second, "queue")
        if (answer._tag === "Queued") equal(answer.place, 1, "the place of a claim behind one that waits")
        else if (answer._tag !== "Full") expect(false, `Full or Queued, but it was ${answer._tag}`)
        else equal(answer.waiting, 1, "the number of claims that wait")
        yield* client.withdraw(second)
        equal((yield* other.request(first, "queue"))._tag, "Queued", "the repeated request of the claim that waits")
        yield* client.withdraw(holder.claim)
        yield* bench.granted(queued, "the claim that waits")
        yield* other.withdraw(first)
        yield* bench.expectFree(client, key, "after all claims have left")
      })
  ],

  ["keys do not disturb each other", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      yield* bench.hold(client, bench.claim(key))
      yield* bench.expectFree(client, `${key}/a`, "on a key that begins like a held one")
      yield* bench.expectFree(client, key.slice(0, -1), "on a key that is the beginning of a held one")
    })],

  ["names are taken as they are, at their longest too", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const own = `${bench.key()}/`
      const longest = "n".repeat(1_024 - own.length)
      const names = [...oddNames, longest, `${longest.slice(1)}/`, "鎖".repeat(Math.floor(longest.length / 3))]
      const claimOf = (name: string) => bench.lasting("", { prefix: own, key: own + name })
      const held = yield* Effect.forEach(names, (name) => bench.hold(client, claimOf(name)))
      for (const name of names) {
        const answer = yield* other.request(claimOf(name), "try")
        equal(answer._tag, "Busy", `the answer to a try of ${JSON.stringify(name)} while it is held`)
      }
      const renewed = yield* client.renew(held)
      equal(renewed.map(({ _tag }) => _tag), names.map(() => "Confirmed"), "the renewals of all names")
      const [first] = held
      const next = claimOf(names[0]!)
      const queued = yield* bench.queue(other, next)
      for (const { claim } of held) {
        equal(yield* client.withdraw(claim), "released", `the withdrawal of ${JSON.stringify(claim.key)}`)
      }
      const { fencingToken } = yield* bench.granted(queued, "who waited for the first name")
      expect(fencingToken > first!.fencingToken, "its token to be above the one before")
      yield* other.withdraw(next)
    })],

  ["a claim of which no permits can ever be had is refused, and changes nothing", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const most = 2 ** 31 - 1
      const wrong = [[0, 1], [-1, 4], [2, 1], [5, 4], [1.5, 4], [NaN, 4], [1, 0], [-1, -1], [1, 1.5], [1, most + 1]]
      for (const waits of [false, true]) {
        const key = bench.key()
        const holder = bench.lasting(key)
        if (waits) yield* bench.hold(other, holder)
        for (const [permits, capacity] of wrong) {
          for (const mode of ["queue", "try"] as const) {
            const claim = bench.claim(key, { permits: permits!, capacity: capacity! })
            const refused = yield* Effect.result(client.request(claim, mode))
            const what = `the answer to a ${mode} request for ${permits} of ${capacity}`
            if (refused._tag === "Success") return expect(false, `${what} to fail, but it was ${refused.success._tag}`)
            const { _tag, retryable } = refused.failure
            equal([_tag, retryable], ["LockBackendError", false], what)
            equal(yield* client.withdraw(claim), "notHeld", "the withdrawal of a claim that was refused")
          }
        }
        if (waits) {
          const next = bench.lasting(key)
          const queued = yield* bench.queue(client, next)
          equal(queued.ahead().waiting, 1, "the number of claims that wait after the refusals")
          yield* other.withdraw(holder)
          yield* bench.granted(queued, "a claim after the refusals")
          yield* client.withdraw(next)
        }
        yield* bench.expectFree(other, key, "after claims that were refused")
      }
    })],

  ["a grant says how long it holds, and counts from before it was sent", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const before = yield* Clock.monotonicTimeNanos
      const { granted } = yield* bench.hold(client, bench.claim(bench.key()))
      const after = yield* Clock.monotonicTimeNanos
      expect(Duration.toMillis(granted.ttl) >= bench.ttl, "the granted ttl to be at least the one asked for")
      expect(granted.confirmedAt >= before && granted.confirmedAt <= after, "confirmedAt within the call")
    })],

  ["the same claim is granted again, with the same token", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const claim = bench.claim(bench.key())
      const { granted } = yield* bench.hold(client, claim)
      const again = expectGranted(yield* client.request(claim, "queue"), "a repeated request")
      const asTry = expectGranted(yield* client.request(claim, "try"), "a request repeated as a try")
      equal(again.fencingToken, granted.fencingToken, "the token of the repeat")
      equal(asTry.fencingToken, granted.fencingToken, "the token of the repeated try")
      equal(yield* client.withdraw(claim), "released", "the answer to the withdrawal")
      yield* bench.expectFree(yield* bench.client, claim.key.slice("conformance:".length), "after one withdrawal")
    })],

  ["the same claim queues once", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const holder = bench.lasting(key)
      yield* bench.hold(client, holder)
      const claim = bench.lasting(key)
      yield* bench.queue(client, claim)
      const again = yield* bench.queue(client, claim)
      equal(again.ahead().waiting, 1, "the number of claims that wait after a repeated request")
      yield* client.withdraw(holder)
      yield* bench.granted(again, "the repeated request")
      yield* client.withdraw(claim)
      yield* bench.expectFree(client, key, "after the queued claim was granted and withdrawn")
    })],

  ["a withdrawal tells what it found, and may be repeated", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const held = bench.lasting(key)
      const queued = bench.lasting(key)
      yield* bench.hold(client, held)
      yield* bench.queue(client, queued)
      equal(yield* client.withdraw(queued), "cancelled", "the withdrawal of a queued claim")
      equal(yield* client.withdraw(held), "released", "the withdrawal of a held claim")
      expect((yield* client.withdraw(held)) !== "released", "a second withdrawal not to release again")
      expect((yield* client.withdraw(bench.lasting(key))) !== "released", "a stranger's withdrawal to release nothing")
      yield* bench.expectFree(client, key, "after everything was withdrawn")
    })],

  ["a stranger's withdrawal does nothing", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.claim(key))
      yield* other.withdraw(bench.claim(key))
      yield* bench.expectHeld(other, key, "after a stranger's withdrawal")
      equal((yield* bench.renewOne(client, held))._tag, "Confirmed", "the renewal after a stranger's withdrawal")
    })],

  ["a busy try leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const holder = bench.lasting(key)
      yield* bench.hold(client, holder)
      for (let i = 0; i < 3; i++) yield* bench.expectHeld(other, key, "while it is held")
      const waiting = bench.lasting(key)
      equal((yield* bench.queue(client, waiting)).ahead().waiting, 1, "the queue's length after three busy tries")
      yield* client.withdraw(waiting)
      yield* client.withdraw(holder)
      yield* bench.expectFree(other, key, "after the release")
    })],

  ["a try does not overtake those who wait", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const holder = bench.lasting(key)
      yield* bench.hold(client, holder)
      const queued = yield* bench.queue(client, bench.lasting(key))
      yield* client.withdraw(holder)
      yield* bench.expectHeld(other, key, "right after a release with a waiter")
      yield* bench.granted(queued, "the waiter")
    })],

  ["claims are granted in the order in which they queued, over several clients", (bench) =>
    Effect.gen(function*() {
      const clients = yield* Effect.all([bench.client, bench.client, bench.client])
      const key = bench.key()
      let holder = bench.lasting(key, { holder: "first" })
      yield* bench.hold(clients[0], holder)
      const granted: Array<number> = []
      const waiters = []
      for (let i = 0; i < 6; i++) {
        const claim = bench.lasting(key, { holder: `waiter ${i}` })
        const queued = yield* bench.queue(clients[i % 3]!, claim)
        equal(queued.place, i, `the place of waiter ${i}`)
        equal(queued.ahead().holder, "first", `the holder that waiter ${i} is told of`)
        equal(queued.ahead().waiting, i + 1, `the queue's length that waiter ${i} is told of`)
        const fiber = yield* Effect.forkScoped(
          Effect.tap(queued.granted, () => Effect.sync(() => granted.push(i))),
          { startImmediately: true }
        )
        waiters.push({ claim, fiber, client: clients[i % 3]! })
      }
      let client = clients[0]
      for (const [index, waiter] of waiters.entries()) {
        yield* client.withdraw(holder)
        expectGranted(yield* bench.drive(waiter.fiber, `waiter ${index} to be granted`), `waiter ${index}`)
        equal(granted, Array.from({ length: index + 1 }, (_, i) => i), "the order of the grants")
        holder = waiter.claim
        client = waiter.client
      }
      yield* client.withdraw(holder)
      yield* bench.expectFree(clients[1], key, "after the queue has run dry")
    })],

  ["a release wakes the waiter of another client", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const holder = bench.lasting(key)
      yield* bench.hold(client, holder)
      const queued = yield* bench.queue(other, bench.lasting(key))
      const fiber = yield* Effect.forkScoped(queued.granted, { startImmediately: true })
      yield* bench.advance(30)
      expect(fiber.pollUnsafe() === undefined, "the waiter to wait while the key is held")
      yield* client.withdraw(holder)
      expectGranted(yield* bench.drive(fiber, "the waiter to be woken by the release"), "the waiter")
    })],

  ["a release before the wait still counts", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const holder = bench.lasting(key)
      yield* bench.hold(client, holder)
      const queued = yield* bench.queue(other, bench.lasting(key))
      yield* client.withdraw(holder)
      yield* bench.advance(Math.min(50, bench.ttl / 10))
      yield* bench.granted(queued, "the waiter that came to its wait after the release")
    })],

  ["a waiter's interrupted wait gives up nothing", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const holder = bench.lasting(key)
      yield* bench.hold(client, holder)
      const first = yield* bench.queue(client, bench.lasting(key))
      const second = yield* bench.queue(client, bench.lasting(key))
      yield* Fiber.interrupt(yield* bench.fork(first.granted))
      const behind = yield* Effect.forkScoped(second.granted, { startImmediately: true })
      yield* client.withdraw(holder)
      yield* bench.granted(first, "the first waiter, whose wait was interrupted once")
      expect(behind.pollUnsafe() === undefined, "the second waiter to wait for the first")
    })],

  ["a waiter keeps its place for longer than its ttl", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.claim(key))
      const first = yield* bench.queue(other, bench.claim(key))
      const fiber = yield* Effect.forkScoped(first.granted, { startImmediately: true })
      for (let i = 0; i < 10; i++) {
        yield* bench.advance(bench.ttl / 4)
        equal((yield* bench.renewOne(client, held))._tag, "Confirmed", "the holder's renewal")
      }
      const second = yield* bench.queue(client, bench.claim(key))
      equal(second.place, 1, "the place of one who comes later")
      yield* client.withdraw(held.claim)
      expectGranted(yield* bench.drive(fiber, "the first waiter to be granted"), "the first waiter")
    })],

  ["a waiter whose client has gone does not hold up those behind it for good", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const holder = bench.claim(key)
      yield* bench.hold(client, holder)
      const scope = yield* Scope.make()
      const gone = yield* Scope.provide(bench.client, scope)
      yield* bench.queue(gone, bench.claim(key))
      const queued = yield* bench.queue(client, bench.claim(key))
      yield* Scope.close(scope, Exit.void)
      yield* client.withdraw(holder)
      yield* bench.granted(queued, "the waiter behind one that has gone", 2 * bench.freeAfter + bench.soon)
    })],

  [
    "a claim that nobody renews comes free, and not before its ttl and its guard gap have passed",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const key = bench.key()
        const { granted } = yield* bench.hold(client, bench.claim(key))
        const sentAt = toMillis(granted.confirmedAt)
        const stands = Duration.toMillis(granted.ttl) + bench.guardGap
        const queued = yield* bench.queue(other, bench.claim(key))
        let freedAt = 0
        const fiber = yield* Effect.forkScoped(
          Effect.tap(queued.granted, () => Effect.map(bench.now, (now) => freedAt = now)),
          { startImmediately: true }
        )
        yield* bench.drive(fiber, "an abandoned claim to come free", stands + bench.lateness + bench.soon)
        // Redis and others round to milliseconds.
        expect(freedAt - sentAt >= stands - 2, `the claim to stand for ${stands} ms, but it was ${freedAt - sentAt}`)
      })
  ],

  ["an abandoned claim comes free to a try as well", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      yield* bench.hold(client, bench.claim(key))
      yield* bench.advance(bench.ttl * 0.8)
      yield* bench.expectHeld(other, key, "before the ttl has passed")
      yield* bench.advance(bench.ttl * 0.2 + bench.guardGap + bench.lateness + 50)
      yield* bench.expectFree(other, key, "after the ttl, the guard gap and the lateness have passed")
    })],

  ["a renewal keeps the claim, and says from when it counts", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.claim(key))
      for (let i = 0; i < 8; i++) {
        yield* bench.advance(bench.ttl / 3)
        const before = yield* Clock.monotonicTimeNanos
        const renewal = yield* bench.renewOne(client, held)
        const after = yield* Clock.monotonicTimeNanos
        if (renewal._tag !== "Confirmed") return expect(false, `a renewal to be Confirmed, but it was ${renewal._tag}`)
        expect(renewal.confirmedAt <= after, "confirmedAt not to be later than the answer")
        // A store whose claims share a session may report a confirmation that is slightly older than this call.
        expect(toMillis(before - renewal.confirmedAt) <= bench.ttl / 2, "confirmedAt to be recent")
        yield* bench.expectHeld(other, key, "while it is renewed")
      }
    })],

  ["a renewal never re-creates", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.claim(key))
      yield* other.withdraw(held.claim)
      const renewal = yield* bench.renewOne(client, held)
      expect(renewal._tag === "Gone", `the renewal of a withdrawn claim to be Gone, but it was ${renewal._tag}`)
      yield* bench.expectFree(other, key, "after the renewal of a withdrawn claim")

      const expired = yield* bench.hold(client, bench.claim(key))
      yield* bench.advance(bench.freeAfter + 50)
      const late = yield* bench.renewOne(client, expired)
      expect(late._tag === "Gone", `the renewal of an expired claim to be Gone, but it was ${late._tag}`)
      yield* bench.expectFree(other, key, "after the renewal of an expired claim")
    })],

  ["the renewal of a claim that another has replaced says so", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.claim(key))
      yield* other.withdraw(held.claim)
      const successor = yield* bench.hold(other, bench.claim(key))
      equal((yield* bench.renewOne(client, held))._tag, "Replaced", "the renewal of a replaced claim")
      equal((yield* bench.renewOne(other, successor))._tag, "Confirmed", "the renewal of its successor")
    })],

  ["one call renews many, with one answer for each, in order", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const held = yield* Effect.forEach(
        Array.from({ length: 20 }, () => bench.claim(bench.key())),
        (claim) => bench.hold(client, claim)
      )
      yield* client.withdraw(held[3]!.claim)
      yield* client.withdraw(held[19]!.claim)
      const answers = yield* client.renew(held)
      equal(
        answers.map((answer) => answer._tag),
        held.map((_, index) => index === 3 || index === 19 ? "Gone" : "Confirmed"),
        "the answers"
      )
      yield* Effect.forEach(held, ({ claim }) => client.withdraw(claim), { concurrency: "unbounded" })
    })],

  ["tokens grow over release, cancellation, expiry and another client", (bench) =>
    Effect.gen(function*() {
      const clients = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      let last = -1n
      const take = (index: number, giveUp: boolean) =>
        Effect.gen(function*() {
          const claim = bench.claim(key)
          const client = clients[index % 2]!
          const { fencingToken } = yield* bench.hold(client, claim)
          expect(fencingToken > last, `a token above ${last}, but it was ${fencingToken}`)
          last = fencingToken
          if (giveUp) yield* client.withdraw(claim)
          else yield* bench.advance(bench.freeAfter + 50)
        })
      for (let i = 0; i < 10; i++) yield* take(i, true)
      yield* take(0, false)
      yield* take(1, true)
      yield* take(0, false)
      yield* take(0, true)

      const holder = bench.claim(key)
      yield* bench.hold(clients[0], holder)
      const next = yield* bench.queue(clients[1], bench.claim(key))
      yield* clients[0].withdraw(holder)
      const { fencingToken } = yield* bench.granted(next, "the waiter")
      expect(fencingToken > last + 0n, "the token of a hand-over to be above all before")
    })]
]
