import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Latch } from "effect"
import { TestClock } from "effect/testing"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import type { Port } from "../../src/internal/client/port.ts"
import * as Store from "../../src/internal/store/store.ts"
import { claimOf, placeIn, plainTelemetry } from "../claim.ts"

const claim = claimOf(4_000, 1_000)

const put = { response_put: {} }

/** What no test here is about: nothing is watched, and the server is never away. */
const silentPort = {
  telemetry: plainTelemetry,
  watch: () => Effect.never,
  longest: 2_000,
  heardAt: () => undefined,
  isAway: (): boolean => false,
  timeToLive: () => Effect.never,
  abandon: () => {}
}

describe("a lease that was over before its owner heard of it", () => {
  // Found by the simulation: the first answer to a grant was late, and the repeated grant found the lease with no time left.
  it.effect("carries no claim: another lease is granted", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const granted: Array<string> = []
      const reply = <A>(value: A) =>
        Effect.sync(() => ({ sentAt: clock.monotonicTimeNanosUnsafe(), value, doubled: false }))
      const port: Port = {
        ...silentPort,
        txn: () =>
          reply(
            { header: { revision: "2" }, succeeded: true, responses: [put] } as never as ITxnResponse
          ),
        grant: (id) => Effect.suspend(() => reply(granted.push(id) === 1 ? 0 : 5)),
        revoke: () => reply(undefined),
        keepAlive: () => reply(5),
        keepAliveOnStream: () => reply(5),
        inspect: () => reply({ ttl: 5, keys: [] })
      }
      const store = yield* Store.make(port)
      const answer = yield* store.request(claim, "queue")
      assert.strictEqual(answer._tag === "Granted" && Duration.toMillis(answer.ttl), 4_000)
      assert.strictEqual(new Set(granted).size, 2)
    }).pipe(Effect.scoped))
})

const own = claim.id

/** The answer of a server whose queue has these claims, given by id and create revision. */
const answerOf = (revision: number, claims: ReadonlyArray<readonly [id: string, created: number]>): ITxnResponse => {
  const range = (some: typeof claims) => ({
    response_range: {
      count: String(claims.length),
      kvs: some.map(([id, created]) => ({
        key: Buffer.from(`k/${id}`),
        value: Buffer.from(
          JSON.stringify({ layout: 1, kind: "mutex", permits: 1, capacity: 1, holder: "somebody", id })
        ),
        create_revision: String(created)
      }))
    }
  })
  return {
    header: { revision: String(revision) },
    succeeded: true,
    responses: [range(claims.filter(([id]) => id === own)), range(claims.slice(0, 1)), range(claims)]
  } as never
}

describe("a claim that is asked for again while it is held", () => {
  const askTwice = (second: ITxnResponse) =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const sent: Array<ITxnRequest> = []
      const reply = <A>(value: A) =>
        Effect.sync(() => ({ sentAt: clock.monotonicTimeNanosUnsafe(), value, doubled: false }))
      const port: Port = {
        ...silentPort,
        txn: (request) =>
          Effect.suspend(() => {
            sent.push(request)
            return reply(sent.length === 1 ? answerOf(10, [[own, 10]]) : second)
          }),
        grant: () => reply(5),
        revoke: () => reply(undefined),
        keepAlive: () => reply(5),
        keepAliveOnStream: () => reply(5),
        inspect: () => reply({ ttl: 5, keys: sent.slice(0, 1).map(placeIn) })
      }
      const store = yield* Store.make(port)
      assert.strictEqual((yield* store.request(claim, "queue"))._tag, "Granted")
      return { again: yield* store.request(claim, "queue"), sent }
    }).pipe(Effect.scoped)

  it.effect("is granted once more where it still stands", () =>
    Effect.gen(function*() {
      const { again } = yield* askTwice(answerOf(12, [[own, 10], ["another", 11]]))
      assert.strictEqual(again._tag === "Granted" && again.fencingToken, 10n)
    }))

  // Found by the simulation: another client had deleted the claim, and another claim had come since.
  it.effect("is gone where it had gone, and its new place behind another is given up", () =>
    Effect.gen(function*() {
      const { again, sent } = yield* askTwice(answerOf(16, [["another", 15], [own, 16]]))
      assert.strictEqual(again._tag, "Gone")
      const [compare] = sent[2]?.compare ?? []
      assert.strictEqual(compare?.create_revision, "16")
      assert.strictEqual(sent[2]?.success?.[0]?.request_delete_range?.key?.toString(), placeIn(sent[0]!))
    }))
})

const shortClaim = claimOf(1_500, 500)

/** The range of a response with these claims, given by id and create revision. */
const rangeOf = (...claims: ReadonlyArray<readonly [id: string, created: number]>) => ({
  response_range: {
    count: String(claims.length),
    kvs: claims.map(([id, created]) => ({
      key: Buffer.from(`k/${id}`),
      value: Buffer.from(JSON.stringify({ layout: 1, kind: "mutex", permits: 1, capacity: 1, id })),
      create_revision: String(created)
    }))
  }
})

/** A claim that gets the turn while a keep-alive is pending, whose answer stays in the socket for long. */
const turnDuringKeepAlive = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const mine = [shortClaim.id, 2] as const
  const other = ["other", 1] as const
  const sent: Array<ITxnRequest> = []
  let standing: ReadonlyArray<readonly [id: string, created: number]> = [mine, other]
  const kept = yield* Latch.make(true)
  const reply = <A>(value: A) =>
    Effect.sync(() => ({ sentAt: clock.monotonicTimeNanosUnsafe(), value, doubled: false }))
  const answer = () =>
    ({
      header: { revision: "3" },
      succeeded: true,
      responses: [rangeOf(...standing.filter((one) => one === mine)), rangeOf(...standing)]
    }) as never as ITxnResponse
  const port: Port = {
    ...silentPort,
    txn: (request) => Effect.suspend(() => reply((sent.push(request), answer()))),
    grant: () => reply(2),
    revoke: () => reply(undefined),
    keepAlive: () => Effect.tap(reply(2), kept.await),
    keepAliveOnStream: () => reply(2),
    inspect: () => reply({ ttl: 2, keys: sent.slice(0, 1).map(placeIn) })
  }
  yield* TestClock.adjust("1 minute")
  const store = yield* Store.make(port)
  const queued = yield* store.request(shortClaim, "queue")
  if (queued._tag !== "Queued") return assert.fail(queued._tag)
  yield* kept.close
  standing = [mine]
  yield* TestClock.adjust("9 seconds")
  return { clock, kept, queued, sent, store, deleteClaim: () => standing = [] }
})

describe("a turn that comes while the lease is being asked for", () => {
  it.effect("is looked at once more when the answer came late, and its lease is confirmed", () =>
    Effect.gen(function*() {
      const { clock, kept, queued, sent, store } = yield* turnDuringKeepAlive
      yield* kept.open
      const granted = yield* queued.granted
      if (granted._tag !== "Granted") return assert.fail(granted._tag)
      const until = Number(granted.confirmedAt) / 1_000_000 + Duration.toMillis(granted.ttl)
      assert.isAbove(until, Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000)
      const again = yield* store.request(shortClaim, "queue")
      assert.strictEqual(again._tag === "Granted" && again.fencingToken, 2n)
      assert.isFalse(sent.some(({ success }) => success?.[0]?.request_delete_range !== undefined), "it was deleted")
    }).pipe(Effect.scoped))

  // Found by the torture run: the claim was granted because of an older look.
  it.effect("ends the claim where somebody has deleted it meanwhile", () =>
    Effect.gen(function*() {
      const { deleteClaim, kept, queued } = yield* turnDuringKeepAlive
      deleteClaim()
      yield* kept.open
      assert.strictEqual((yield* queued.granted)._tag, "Gone")
    }).pipe(Effect.scoped))

  it.effect("asks the server at the pace of polls meanwhile", () =>
    Effect.gen(function*() {
      const { sent } = yield* turnDuringKeepAlive
      assert.isBelow(sent.length, 15)
    }).pipe(Effect.scoped))
})
