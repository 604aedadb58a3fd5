import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { LockTimeout } from "../../LockError.ts"
import { type Answer, type Claim, readWriteCapacity } from "../../LockStore.ts"
import * as FaultyLockStore from "../FaultyLockStore.ts"
import { type Bench, type Body, equal, expect, expectGranted, type Store } from "./bench.ts"

/** Keys of one group: on a cluster, of one slot. */
const keysOf = (bench: Bench, count: number): ReadonlyArray<string> => {
  const tag = bench.key()
  return Array.from({ length: count }, (_, index) => `{${tag}}:${index}`)
}

const ask = (store: Store, claims: ReadonlyArray<Claim>, mode: "queue" | "try" = "queue") =>
  Effect.map(store.requestAll!(claims, mode), (answers) => {
    equal(answers.length, claims.length, "the number of answers to a request for several claims")
    return answers
  })

const tags = (answers: ReadonlyArray<Answer>): ReadonlyArray<string> => answers.map(({ _tag }) => _tag)

const withdrawAll = (store: Store, claims: ReadonlyArray<Claim>) =>
  Effect.forEach(claims, (claim) => store.withdraw(claim), { discard: true })

/** Waits until the claims of an answer that are queued are granted. */
const grantedAll = (bench: Bench, answers: ReadonlyArray<Answer>, what: string) =>
  Effect.forEach(
    answers,
    (answer) => answer._tag === "Queued" ? bench.granted(answer, what) : Effect.succeed(expectGranted(answer, what))
  )

const expectAllFree = (bench: Bench, store: Store, keys: ReadonlyArray<string>, after: string) =>
  Effect.forEach(keys, (key) => bench.expectFree(store, key, after), { discard: true })

/** Lets time pass until all keys are free: what a store gives up by itself, it withdraws in the background. */
const untilFree = (bench: Bench, store: Store, keys: ReadonlyArray<string>, after: string) =>
  Effect.gen(function*() {
    for (let round = 0; round < 100; round++) {
      const claims = keys.map((key) => bench.claim(key))
      const answers = yield* ask(store, claims, "try")
      yield* withdrawAll(store, claims)
      if (answers.every(({ _tag }) => _tag === "Granted")) return
      yield* bench.advance(20)
    }
    return expect(false, `all keys to be free ${after}`)
  })

/** A locker over a store that can be disturbed, and another client. */
const setting = Effect.fnUntraced(function*(bench: Bench) {
  const [client, other] = yield* Effect.all([bench.client, bench.client])
  const faulty = yield* FaultyLockStore.make(client)
  return { client, faulty, other, locker: yield* bench.locker(faulty.store), keys: keysOf(bench, 3) }
})

/** Tests of several keys that are acquired together. */
export const several: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["claims of several keys that are free are granted together, with growing tokens", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const keys = keysOf(bench, 3)
      let before = [0n, 0n, 0n]
      for (const store of [client, other]) {
        const claims = keys.map((key) => bench.claim(key))
        const answers = yield* ask(store, claims)
        const tokens = answers.map((answer) => expectGranted(answer, "a claim of a free key").fencingToken)
        tokens.forEach((token, index) => expect(token > before[index]!, "the token of each key to grow"))
        before = tokens
        for (const key of keys) yield* bench.expectHeld(store === client ? other : client, key, "while it is held")
        const again = yield* ask(store, claims)
        equal(
          again.map((answer) => expectGranted(answer, "a repeated request").fencingToken),
          tokens,
          "the tokens of a repeated request"
        )
        for (const [index, claim] of claims.entries()) {
          const renewal = yield* bench.renewOne(store, { claim, fencingToken: tokens[index]! })
          equal(renewal._tag, "Confirmed", "the renewal of one of several claims")
        }
        yield* withdrawAll(store, claims)
      }
      yield* expectAllFree(bench, other, keys, "after the withdrawals")
    })],

  [
    "claims of several keys wait in all queues from one instant on, so nobody waits in a circle",
    (bench) =>
      Effect.gen(function*() {
        const stores = yield* Effect.all([bench.client, bench.client, bench.client])
        const [a, b] = keysOf(bench, 2) as [string, string]
        const first = yield* bench.hold(stores[0], bench.lasting(a))
        const one = [bench.lasting(a), bench.lasting(b)]
        const two = [bench.lasting(b), bench.lasting(a)]
        const three = [bench.lasting(a), bench.lasting(b)]
        const answersOfOne = yield* ask(stores[1], one)
        equal(tags(answersOfOne), ["Queued", "Granted"], "the first request behind a holder of one key")
        const answersOfTwo = yield* ask(stores[2], two)
        equal(tags(answersOfTwo), ["Queued", "Queued"], "the second request")
        const answersOfThree = yield* ask(stores[0], three)
        equal(tags(answersOfThree), ["Queued", "Queued"], "the third request")
        yield* stores[0].withdraw(first.claim)
        yield* grantedAll(bench, answersOfOne, "the first request")
        yield* withdrawAll(stores[1], one)
        yield* grantedAll(bench, answersOfTwo, "the second request")
        yield* withdrawAll(stores[2], two)
        yield* grantedAll(bench, answersOfThree, "the third request")
        yield* withdrawAll(stores[0], three)
        yield* expectAllFree(bench, stores[1], [a, b], "after all have left")
      })
  ],

  [
    "a claim of several keys is as fair as others: it waits behind earlier claims, and later ones behind it",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const [a, b] = keysOf(bench, 2) as [string, string]
        const holder = yield* bench.hold(client, bench.lasting(a))
        const earlier = bench.lasting(a)
        const queued = yield* bench.queue(other, earlier)
        const claims = [bench.lasting(a), bench.lasting(b)]
        const answers = yield* ask(client, claims)
        const later = bench.lasting(b)
        const behind = yield* bench.queue(other, later)
        yield* client.withdraw(holder.claim)
        yield* bench.granted(queued, "the earlier claim")
        const waiting = answers[0]!
        expect(waiting._tag === "Queued", "the request to wait behind the earlier claim")
        yield* other.withdraw(earlier)
        yield* grantedAll(bench, answers, "the request for both keys")
        yield* withdrawAll(client, claims)
        yield* bench.granted(behind, "the later claim")
        yield* other.withdraw(later)
      })
  ],

  ["a try for several keys grants all or none", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const keys = keysOf(bench, 3)
      const holder = yield* bench.hold(other, bench.lasting(keys[1]!))
      const tried = yield* ask(client, keys.map((key) => bench.lasting(key)), "try")
      expect(tags(tried).includes("Busy"), "a try for several keys, one of them held, to be Busy")
      yield* bench.expectFree(other, keys[0]!, "after a try that found another key held")
      yield* bench.expectFree(other, keys[2]!, "after a try that found another key held")
      yield* other.withdraw(holder.claim)
      const claims = keys.map((key) => bench.lasting(key))
      equal(tags(yield* ask(client, claims, "try")), ["Granted", "Granted", "Granted"], "a try for free keys")
      equal(tags(yield* ask(client, claims, "try")), ["Granted", "Granted", "Granted"], "the repeated try")
      yield* withdrawAll(client, claims)
      yield* expectAllFree(bench, other, keys, "after the withdrawals")
    })],

  ["a full queue refuses all, or each claim is told its exact place", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const keys = keysOf(bench, 2)
      const holder = yield* bench.hold(other, bench.lasting(keys[1]!))
      const waiting = bench.lasting(keys[1]!)
      const queued = yield* bench.queue(other, waiting)
      const claims = keys.map((key) => bench.lasting(key, { maxQueue: 1 }))
      const answers = yield* ask(client, claims)
      const placed = answers[1]!
      if (placed._tag === "Queued") equal(placed.place, 1, "the place of a claim behind one that waits")
      else equal(placed._tag, "Full", "the answer for the full queue")
      yield* withdrawAll(client, claims)
      yield* untilFree(bench, client, [keys[0]!], "after the refusal")
      yield* other.withdraw(holder.claim)
      yield* bench.granted(queued, "the claim that waits")
      yield* other.withdraw(waiting)
      yield* untilFree(bench, client, keys, "after all have left")
    })],

  ["a claim of another kind is refused, and leaves nothing of the others", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const keys = keysOf(bench, 2)
      const holder = yield* bench.hold(other, bench.lasting(keys[1]!, { capacity: 4 }))
      const answers = yield* ask(client, keys.map((key) => bench.lasting(key)))
      expect(tags(answers).includes("CapacityMismatch"), "a mutex on the key of a semaphore to be refused")
      yield* untilFree(bench, client, [keys[0]!], "after the refusal of the other key")
      yield* other.withdraw(holder.claim)
      yield* untilFree(bench, client, keys, "after the holder has left")
    })],

  ["mutexes, permits and readers are acquired together", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const [mutex, semaphore, rw] = keysOf(bench, 3) as [string, string, string]
      const reader = { kind: "readWrite", permits: 1, capacity: readWriteCapacity } as const
      const claims = () => [
        bench.lasting(mutex),
        bench.lasting(semaphore, { permits: 2, capacity: 3 }),
        bench.lasting(rw, reader)
      ]
      const one = claims()
      equal(tags(yield* ask(client, one)), ["Granted", "Granted", "Granted"], "a request for all kinds")
      equal(
        (yield* other.request(bench.lasting(semaphore, { permits: 2, capacity: 3 }), "try"))._tag,
        "Busy",
        "permits that are not left"
      )
      const beside = bench.lasting(rw, reader)
      equal((yield* other.request(beside, "try"))._tag, "Granted", "a second reader")
      yield* other.withdraw(beside)
      const two = claims()
      const answers = yield* ask(other, two)
      equal(tags(answers), ["Queued", "Queued", "Granted"], "the second request")
      yield* withdrawAll(client, one)
      yield* grantedAll(bench, answers, "the second request")
      yield* withdrawAll(other, two)
      const writer = bench.lasting(rw, { ...reader, permits: readWriteCapacity })
      equal((yield* client.request(writer, "try"))._tag, "Granted", "a writer after the readers")
      yield* client.withdraw(writer)
    })],

  ["a claim that has gone never comes back apart from the others", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const keys = keysOf(bench, 3)
      const claims = keys.map((key) => bench.lasting(key))
      expect(
        tags(yield* ask(client, claims)).every((tag) => tag === "Granted"),
        "a request for free keys to be granted"
      )
      // As if an operator had deleted it, or the server had lost it.
      yield* other.withdraw(claims[1]!)
      const again = yield* ask(client, claims)
      expect(
        tags(again).includes("Gone"),
        `a request whose claim has gone to be Gone, but it was ${tags(again).join()}`
      )
      yield* withdrawAll(client, claims)
      yield* untilFree(bench, other, keys, "after one claim was lost and the rest withdrawn")
    })],

  ["withLocks runs with all locks or not at all, and leaves none", (bench) =>
    Effect.gen(function*() {
      const { keys, locker, other } = yield* setting(bench)
      yield* locker.withLocks(keys, (leases) =>
        Effect.gen(function*() {
          equal(leases.keys, keys, "the keys of the leases")
          for (const key of keys) {
            expect(leases.tokenOf(key) > 0n, "each key to have a token")
            yield* bench.expectHeld(other, key, "during the section")
          }
          yield* leases.ensureHeld
        }))
      yield* expectAllFree(bench, other, keys, "after the section")
      const holder = yield* bench.hold(other, bench.lasting(keys[2]!))
      const none = yield* locker.withLocksIfAvailable(keys, Effect.succeed("ran"))
      equal(none._tag, "None", "the result of a try while one key is held")
      const waiting = yield* bench.fork(Effect.flip(locker.withLocks(keys, Effect.void, { timeout: 200 })))
      const error = yield* bench.drive(waiting, "the timeout")
      expect(error instanceof LockTimeout, "a wait for a held key to end with LockTimeout")
      const { acquired, key, wanted } = error as LockTimeout
      equal([key, acquired, wanted], [keys[2], 2, 3], "the key in the way, and how many were there")
      yield* untilFree(bench, other, keys.slice(0, 2), "after the timeout")
      yield* other.withdraw(holder.claim)
      yield* untilFree(bench, other, keys, "after the holder has left")
    })],

  [
    "a lock that is lost while the others are awaited is asked for again, with all others",
    (bench) =>
      Effect.gen(function*() {
        const { faulty, keys, locker, other } = yield* setting(bench)
        const holder = yield* bench.hold(other, bench.lasting(keys[2]!))
        let runs = 0
        const section = locker.withLocks(keys, (leases) =>
          Effect.gen(function*() {
            runs++
            for (const key of keys) yield* bench.expectHeld(other, key, "during the section")
            yield* leases.ensureHeld
          }))
        const waiting = yield* bench.fork(section)
        yield* bench.until("the request to be answered", () => faulty.calls.some(({ answer }) => answer !== undefined))
        const claim = faulty.calls.find(({ claims }) => claims.length === keys.length)!.claims[0]!
        yield* other.withdraw(claim)
        yield* bench.until(
          "all keys to be asked for again",
          () => faulty.calls.filter(({ claims, operation }) => operation === "request" && claims.length > 1).length > 1,
          bench.freeAfter + bench.soon
        )
        equal(runs, 0, "the number of runs while a lock is missing")
        yield* other.withdraw(holder.claim)
        yield* bench.drive(waiting, "the section to end", bench.freeAfter + bench.soon)
        equal(runs, 1, "the number of runs")
        yield* untilFree(bench, other, keys, "after the section")
      })
  ],

  ...(["request", "wait", "withdraw"] as const).flatMap((operation) =>
    (["calls", "replies"] as const).map((part): readonly [string, Body] => [
      `interrupted while the ${part} of ${operation} are kept back, several locks leave nothing behind`,
      (bench) =>
        Effect.gen(function*() {
          const { faulty, keys, locker, other } = yield* setting(bench)
          const holder = yield* bench.hold(other, bench.lasting(keys[1]!))
          const hold = part === "calls" ? faulty.holdCalls : faulty.holdReplies
          const held = yield* hold(operation)
          const waiting = yield* bench.fork(Effect.exit(locker.withLocks(keys, Effect.void, { timeout: 300 })))
          if (part === "replies" && operation === "wait") {
            yield* bench.until("a place", () => faulty.calls.some(({ answer }) => answer?.includes("Queued") === true))
            yield* other.withdraw(holder.claim)
          }
          if (operation !== "withdraw") yield* held.caught
          yield* bench.advance(operation === "withdraw" ? 320 : 10)
          const interrupting = yield* bench.fork(Fiber.interrupt(waiting))
          yield* bench.advance(10)
          yield* held.release
          yield* bench.drive(interrupting, "the interruption to end", 2 * bench.ttl + bench.soon)
          yield* other.withdraw(holder.claim)
          yield* untilFree(bench, other, keys, "after the interruption")
        })
    ])
  ),

  [
    "callers that share keys in any combination all get through, one at a time on each key",
    (bench) =>
      Effect.gen(function*() {
        const lockers = yield* Effect.all([1, 2, 3].map(() => Effect.flatMap(bench.client, (one) => bench.locker(one))))
        const keys = keysOf(bench, 4)
        const inside = new Map<string, number>()
        const rounds = Math.max(5, Math.floor(bench.rounds / 50))
        let seed = 7
        const pick = (most: number): number => (seed = (seed * 16_807) % 2_147_483_647) % most
        const caller = (locker: typeof lockers[number]) =>
          Effect.gen(function*() {
            for (let round = 0; round < rounds; round++) {
              const shuffled = keys.map((key) => ({ key, at: pick(1_000) })).sort((x, y) => x.at - y.at)
              const some = shuffled.slice(0, 1 + pick(keys.length)).map(({ key }) => key)
              yield* locker.withLocks(
                some,
                Effect.gen(function*() {
                  for (const key of some) {
                    expect((inside.get(key) ?? 0) === 0, `nobody to be inside beside a holder of ${key}`)
                    inside.set(key, 1)
                  }
                  yield* Effect.yieldNow
                  for (const key of some) inside.set(key, 0)
                })
              )
            }
          })
        const all = yield* bench.fork(
          Effect.forEach([...lockers, ...lockers], caller, { concurrency: "unbounded", discard: true })
        )
        yield* bench.drive(all, "all callers to get through", 60_000)
      })
  ]
]
