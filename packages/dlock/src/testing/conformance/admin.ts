import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { LockAdmin, LockName, LockState } from "../../LockAdmin.ts"
import { type Claim, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect } from "./bench.ts"

export type Admin = LockAdmin["Service"]

export const nameOf = ({ key, prefix }: Claim): LockName => ({ key, prefix })

/** A client that holds locks, another one, and the admin of a third one. */
export const setting = (bench: Bench) =>
  Effect.gen(function*() {
    const [client, other] = yield* Effect.all([bench.client, bench.client])
    return { client, other, admin: yield* bench.admin, key: bench.key() }
  })

const asText = (value: unknown): string =>
  JSON.stringify(value, (_, part) => typeof part === "bigint" ? String(part) : part)

/** Reads a lock, and checks that no claim of it can be told from that. */
const inspect = (admin: Admin, claims: ReadonlyArray<Claim>) =>
  Effect.map(admin.inspect(nameOf(claims[0]!)), (state) => {
    equal(state.key, claims[0]!.key, "the key of what was inspected")
    const text = asText(state)
    for (const { id } of claims) expect(!text.includes(id), "the id of a claim never to leave the store")
    for (const { expiresIn, since } of state.holders) {
      expect(since === undefined || Number.isFinite(since), "`since` to be a time or undefined")
      expect(expiresIn === undefined || expiresIn >= 0, "`expiresIn` not to be negative")
    }
    return state
  })

const holdersOf = ({ holders }: LockState) => holders.map(({ holder, permits, token }) => [holder, permits, token])

const waitersOf = ({ waiting }: LockState) => waiting.map(({ holder, permits }) => [holder, permits])

const summaryOf = ({ capacity, holderCount, kind, permitsHeld, queueLength }: LockState) => [
  kind,
  capacity,
  holderCount,
  permitsHeld,
  queueLength
]

/** A name of a holder with metadata, as the core writes it. */
const label = (name: string): string => `${name} ${JSON.stringify({ zone: "b", note: "a{}b" })}`

/** Counts the hints that a lock may have changed. */
const hintsOf = ({ changes }: Admin, name: LockName) =>
  Effect.gen(function*() {
    const seen = { count: 0 }
    yield* Effect.forkScoped(
      Stream.runForEach(changes!(name), () => Effect.sync(() => void seen.count++)),
      { startImmediately: true }
    )
    return seen
  })

/** Tests of a store's `LockAdmin`: what it tells of locks. */
export const inspecting: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a free lock has no holder, and to inspect it leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key } = yield* setting(bench)
      const claim = bench.lasting(key)
      for (let time = 0; time < 2; time++) {
        const state = yield* inspect(admin, [claim])
        equal(summaryOf(state), [undefined, undefined, 0, 0, 0], "kind, capacity, holders, permits and queue")
        equal([state.holders, state.waiting], [[], []], "the holders and waiters")
        equal(state.lastToken, undefined, "the last token of a lock that was never held")
      }
      equal((yield* Stream.runCollect(admin.list(nameOf(claim)))).length, 0, "the number of locks listed")
      const held = yield* bench.hold(client, claim)
      yield* client.withdraw(held.claim)
      const after = yield* inspect(admin, [claim])
      equal(summaryOf(after), [undefined, undefined, 0, 0, 0], "the same after a release")
      expect(
        after.lastToken === undefined || after.lastToken === held.fencingToken,
        "the last token to be that of the last hold, if the backend remembers it"
      )
    })],

  ["a mutex is told with its holder and those who wait, in their order", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const claims = ["first", "second", "third"].map((name) => bench.lasting(key, { holder: label(name) }))
      const held = yield* bench.hold(client, claims[0]!)
      const queued = yield* bench.queue(other, claims[1]!)
      yield* bench.queue(client, claims[2]!)
      const before = yield* inspect(admin, claims)
      equal(summaryOf(before), ["mutex", 1, 1, 1, 2], "kind, capacity, holders, permits and queue")
      equal(holdersOf(before), [[label("first"), 1, held.fencingToken]], "the holder")
      equal(waitersOf(before), [[label("second"), 1], [label("third"), 1]], "those who wait")
      equal(before.lastToken, held.fencingToken, "the last token")
      const [holder] = before.holders
      equal([holder!.isForeign, holder!.isRevoked], [false, false], "whether the holder is foreign or revoked")
      const most = Duration.toMillis(held.granted.ttl) + Duration.toMillis(held.claim.guardGap) + bench.lateness
      expect((holder!.expiresIn ?? most) <= most, "the holder to expire at most a ttl and a guard gap from now")

      yield* client.withdraw(held.claim)
      const { fencingToken } = yield* bench.granted(queued, "the next in the queue")
      const after = yield* inspect(admin, claims)
      equal(holdersOf(after), [[label("second"), 1, fencingToken]], "the next holder")
      equal(waitersOf(after), [[label("third"), 1]], "those who wait behind it")
      equal(after.lastToken, fencingToken, "the last token")
      equal(
        (yield* bench.renewOne(other, { claim: claims[1]!, fencingToken }))._tag,
        "Confirmed",
        "a renewal after that"
      )
    })],

  ["each change of a lock is hinted at", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      if (admin.changes === undefined) return
      const [first, second, third] = [bench.lasting(key), bench.lasting(key), bench.lasting(key)]
      const seen = yield* hintsOf(admin, nameOf(first))
      const beside = yield* hintsOf(admin, nameOf(bench.lasting(bench.key())))
      const expectHint = (what: string, change: Effect.Effect<unknown, unknown>) =>
        Effect.gen(function*() {
          // What has happened before is hinted at by now, and the hints are listened for.
          yield* bench.advance(200)
          const { count } = seen
          yield* change
          yield* bench.until(`a hint of ${what}`, () => seen.count > count)
        })
      yield* bench.advance(200)
      // A store may hint when it begins to listen, since it cannot know what came before.
      const { count: atFirst } = beside
      yield* expectHint("a grant", bench.hold(client, first))
      yield* expectHint("a claim that waits", bench.queue(other, second))
      yield* expectHint("another one", bench.queue(client, third))
      yield* expectHint("one that left the queue", client.withdraw(third))
      yield* expectHint("a hand-over", client.withdraw(first))
      yield* expectHint("a release", other.withdraw(second))
      equal(beside.count - atFirst, 0, "the number of hints about another lock")
    })],

  ["a list names every lock under a prefix, and none beside it", (bench) =>
    Effect.gen(function*() {
      const { admin, client, other } = yield* setting(bench)
      const base = bench.key()
      const within: LockName = { key: bench.lasting(`${base}/`).key, prefix: bench.lasting("").prefix }
      const under = ["a", "a/b", "100%", "%2F", "{tag}x", "ключ", "🔒", "~", " ", "*[a-z]?\\", "é", "\u{10FFFF}"]
      const beside = ["", "0", ".", "a", "%2Fa", "\u{FFFF}", "🔒"]
      for (const [index, key] of under.entries()) {
        yield* bench.hold(index % 2 === 0 ? client : other, bench.lasting(`${base}/${key}`))
      }
      for (const key of beside) yield* bench.hold(client, bench.lasting(base + key))
      // Another locker, and a key that differs in its first characters only.
      const elsewhere = `elsewhere:${bench.key()}:`
      yield* bench.hold(client, bench.lasting("", { key: `${elsewhere}${base}/a`, prefix: elsewhere }))
      const waited = bench.lasting(`${base}/waited`, { capacity: 2, permits: 2 })
      yield* bench.hold(client, waited)
      yield* bench.queue(other, { ...waited, id: `${waited.id}2` })
      const gone = bench.lasting(`${base}/gone`)
      yield* bench.hold(client, gone)
      yield* client.withdraw(gone)

      const states = yield* Stream.runCollect(admin.list(within))
      const found = Array.from(new Set(states.map(({ key }) => key))).sort()
      equal(found, [...under, "waited"].map((key) => `${within.key}${key}`).sort(), "the keys of the list")
      const state = states.find(({ key }) => key === waited.key)!
      equal(summaryOf(state), ["semaphore", 2, 1, 2, 1], "kind, capacity, holders, permits and queue in the list")
      equal(
        asText([{ ...state, holders: holdersOf(state) }]),
        asText([yield* admin.inspect(nameOf(waited))].map((one) => ({ ...one, holders: holdersOf(one) }))),
        "what the list tells of a lock"
      )
      const all = yield* Stream.runCollect(admin.list({ ...within, key: within.prefix }))
      const keys = new Set(all.map(({ key }) => key))
      expect(found.every((key) => keys.has(key)), "a list without a prefix to have all of them")
      expect(all.every(({ key }) => key.startsWith(within.prefix)), "a list to have only locks of its locker")
    })]
]

/** The same for semaphores and read-write locks. */
export const inspectingShared: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a semaphore is told with the permits of all holders and its smallest capacity", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const claim = (holder: string, permits: number, capacity = 6) =>
        bench.lasting(key, { holder: label(holder), permits, capacity })
      const [one, two, three] = [claim("one", 2), claim("two", 1, 5), claim("three", 4)]
      const first = yield* bench.hold(client, one)
      const second = yield* bench.hold(other, two)
      yield* bench.queue(client, three)
      const state = yield* inspect(admin, [one, two, three])
      equal(summaryOf(state), ["semaphore", 5, 2, 3, 1], "kind, capacity, holders, permits and queue")
      equal(
        asText(holdersOf(state).sort((a, b) => String(a[0]).localeCompare(String(b[0])))),
        asText([[label("one"), 2, first.fencingToken], [label("two"), 1, second.fencingToken]]),
        "the holders"
      )
      equal(waitersOf(state), [[label("three"), 4]], "those who wait")
      equal(state.lastToken, second.fencingToken, "the last token")
    })],

  ["a read-write lock is told with its readers, and with its writer", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key, other } = yield* setting(bench)
      const claim = (permits: number) => bench.lasting(key, { kind: "readWrite", capacity: readWriteCapacity, permits })
      const [one, two, writer] = [claim(1), claim(1), claim(readWriteCapacity)]
      yield* bench.hold(client, one)
      yield* bench.hold(other, two)
      const queued = yield* bench.queue(other, writer)
      const reading = yield* inspect(admin, [one, two, writer])
      equal(summaryOf(reading), ["readWrite", readWriteCapacity, 2, 2, 1], "kind, capacity, holders, permits and queue")
      equal(waitersOf(reading).map(([, permits]) => permits), [readWriteCapacity], "the permits that the writer needs")
      yield* client.withdraw(one)
      yield* other.withdraw(two)
      const { fencingToken } = yield* bench.granted(queued, "the writer")
      const writing = yield* inspect(admin, [one, two, writer])
      equal(
        summaryOf(writing),
        ["readWrite", readWriteCapacity, 1, readWriteCapacity, 0],
        "kind, capacity, holders, permits and queue of a writer"
      )
      equal(holdersOf(writing), [["conformance", readWriteCapacity, fencingToken]], "the writer")
    })],

  ["of very many holders and waiters all are counted and a hundred are told", (bench) =>
    Effect.gen(function*() {
      const { admin, client, key } = yield* setting(bench)
      const many = 120
      const claims = Array.from({ length: 2 * many }, (_, index) =>
        bench.lasting(key, { capacity: many, holder: `holder ${index}` }))
      yield* Effect.forEach(claims.slice(0, many), (claim) =>
        bench.hold(client, claim), { concurrency: 20 })
      yield* Effect.forEach(claims.slice(many), (claim) => bench.queue(client, claim))
      const state = yield* inspect(admin, claims)
      equal(summaryOf(state), ["semaphore", many, many, many, many], "kind, capacity, holders, permits and queue")
      equal([state.holders.length, state.waiting.length], [100, 100], "the number of holders and waiters that are told")
      equal(
        waitersOf(state),
        claims.slice(many, many + 100).map(({ holder }) => [holder, 1]),
        "the first that wait, in their order"
      )
      const names = new Set(claims.slice(0, many).map(({ holder }) => holder))
      for (const { holder } of state.holders) expect(names.delete(holder), "each holder to be told once")
      yield* Effect.forEach(claims.toReversed(), (claim) => client.withdraw(claim), { concurrency: 20 })
    })]
]
