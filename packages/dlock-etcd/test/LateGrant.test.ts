import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Latch } from "effect"
import { TestClock } from "effect/testing"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import type { Port } from "../src/internal/port.ts"
import * as Store from "../src/internal/store.ts"
import { claimOf } from "./claim.ts"

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

const placeIn = ({ success }: ITxnRequest): string => String(success?.[0]?.request_put?.key)

describe("a grant that is read too late to be believed", () => {
  // Found by the simulation. A deletion that comes late would end the hold that the second request finds.
  it.effect("is not withdrawn by the store under the feet of whoever asks once more", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const mine = [claim.id, 2] as const
      const other = ["other", 1] as const
      const sent: Array<ITxnRequest> = []
      let free = false
      const kept = yield* Latch.make(true)
      const reply = <A>(value: A) =>
        Effect.sync(() => ({ sentAt: clock.monotonicTimeNanosUnsafe(), value, doubled: false }))
      const answer = () =>
        ({
          header: { revision: "3" },
          succeeded: true,
          responses: free ? [range(mine), range(mine), range(mine)] : [range(mine), range(other), range(mine, other)]
        }) as never as ITxnResponse
      const port: Port = {
        txn: (request) => Effect.suspend(() => reply((sent.push(request), answer()))),
        grant: () => reply(2),
        revoke: () => reply(undefined),
        keepAlive: () => Effect.tap(reply(2), kept.await),
        inspect: () => reply({ ttl: 2, keys: sent.slice(0, 1).map(placeIn) }),
        watch: () => Effect.never,
        longest: 2_000,
        isAway: () => false,
        abandon: () => {}
      }
      yield* TestClock.adjust("1 minute")
      const store = yield* Store.make(port)
      const queued = yield* store.request(claim, "queue")
      if (queued._tag !== "Queued") return assert.fail(queued._tag)
      // The lock comes free while a keep-alive is under way, whose answer lies in the socket for long.
      yield* kept.close
      free = true
      yield* TestClock.adjust("9 seconds")
      yield* kept.open
      const granted = yield* queued.granted
      if (granted._tag !== "Granted") return assert.fail(granted._tag)
      const until = Number(granted.confirmedAt) / 1_000_000 + Duration.toMillis(granted.ttl)
      assert.isBelow(until, Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000)
      // The store's own loop may have its turn first.
      for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
      const again = yield* store.request(claim, "queue")
      assert.strictEqual(again._tag === "Granted" && again.fencingToken, 2n)
      yield* TestClock.adjust("1 second")
      assert.isFalse(sent.some(({ success }) => success?.[0]?.request_delete_range !== undefined), "it was deleted")
    }).pipe(Effect.scoped))
})
