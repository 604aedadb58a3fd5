import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Latch } from "effect"
import { TestClock } from "effect/testing"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import type { Port } from "../src/internal/client/port.ts"
import * as Store from "../src/internal/store/store.ts"
import { claimOf, placeIn, plainTelemetry } from "./claim.ts"

const claim = claimOf(1_500, 500)

/** Claims by their ids and create revisions. */
const range = (...claims: ReadonlyArray<readonly [id: string, created: number]>) => ({
  response_range: {
    count: String(claims.length),
    kvs: claims.map(([id, created]) => ({
      key: Buffer.from(`k/${id}`),
      value: Buffer.from(JSON.stringify({ permits: 1, capacity: 1, id })),
      create_revision: String(created)
    }))
  }
})

/** A claim of which the turn comes while a keep-alive is under way, whose answer lies in the socket for long. */
const setting = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const mine = [claim.id, 2] as const
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
      responses: [range(...standing.filter((one) => one === mine)), range(...standing)]
    }) as never as ITxnResponse
  const port: Port = {
    telemetry: plainTelemetry,
    txn: (request) => Effect.suspend(() => reply((sent.push(request), answer()))),
    grant: () => reply(2),
    revoke: () => reply(undefined),
    keepAlive: () => Effect.tap(reply(2), kept.await),
    inspect: () => reply({ ttl: 2, keys: sent.slice(0, 1).map(placeIn) }),
    watch: () => Effect.never,
    longest: 2_000,
    heardAt: () => undefined,
    isAway: (): boolean => false,
    abandon: () => {}
  }
  yield* TestClock.adjust("1 minute")
  const store = yield* Store.make(port)
  const queued = yield* store.request(claim, "queue")
  if (queued._tag !== "Queued") return assert.fail(queued._tag)
  yield* kept.close
  standing = [mine]
  yield* TestClock.adjust("9 seconds")
  return { clock, kept, queued, sent, store, deleteClaim: () => standing = [] }
})

describe("a turn that comes while the lease is being asked for", () => {
  it.effect("is looked at once more when the answer was long in coming, and is sure of its lease", () =>
    Effect.gen(function*() {
      const { clock, kept, queued, sent, store } = yield* setting
      yield* kept.open
      const granted = yield* queued.granted
      if (granted._tag !== "Granted") return assert.fail(granted._tag)
      const until = Number(granted.confirmedAt) / 1_000_000 + Duration.toMillis(granted.ttl)
      assert.isAbove(until, Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000)
      const again = yield* store.request(claim, "queue")
      assert.strictEqual(again._tag === "Granted" && again.fencingToken, 2n)
      assert.isFalse(sent.some(({ success }) => success?.[0]?.request_delete_range !== undefined), "it was deleted")
    }).pipe(Effect.scoped))

  // Found by the torture run: it was let in by what had been seen before.
  it.effect("is none where somebody has deleted the claim meanwhile", () =>
    Effect.gen(function*() {
      const { deleteClaim, kept, queued } = yield* setting
      deleteClaim()
      yield* kept.open
      assert.strictEqual((yield* queued.granted)._tag, "Gone")
    }).pipe(Effect.scoped))

  it.effect("asks the server at the pace of polls meanwhile", () =>
    Effect.gen(function*() {
      const { sent } = yield* setting
      assert.isBelow(sent.length, 15)
    }).pipe(Effect.scoped))
})
