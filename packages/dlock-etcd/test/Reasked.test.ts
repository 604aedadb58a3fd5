import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import type { Port } from "../src/internal/client/port.ts"
import * as Store from "../src/internal/store/store.ts"
import { claimOf, placeIn, plainTelemetry } from "./claim.ts"

const claim = claimOf(4_000, 1_000)
const own = claim.id

/** What an etcd says in which these claims stand, by their create revisions. */
const answer = (revision: number, claims: ReadonlyArray<readonly [id: string, created: number]>): ITxnResponse => {
  const range = (some: typeof claims) => ({
    response_range: {
      count: String(claims.length),
      kvs: some.map(([id, created]) => ({
        key: Buffer.from(`k/${id}`),
        value: Buffer.from(JSON.stringify({ permits: 1, capacity: 1, holder: "somebody", id })),
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
        telemetry: plainTelemetry,
        txn: (request) =>
          Effect.suspend(() => {
            sent.push(request)
            return reply(sent.length === 1 ? answer(10, [[own, 10]]) : second)
          }),
        grant: () => reply(5),
        revoke: () => reply(undefined),
        keepAlive: () => reply(5),
        inspect: () => reply({ ttl: 5, keys: sent.slice(0, 1).map(placeIn) }),
        watch: () => Effect.never,
        longest: 2_000,
        heardAt: () => undefined,
        isAway: (): boolean => false,
        abandon: () => {}
      }
      const store = yield* Store.make(port)
      assert.strictEqual((yield* store.request(claim, "queue"))._tag, "Granted")
      return { again: yield* store.request(claim, "queue"), sent }
    }).pipe(Effect.scoped)

  it.effect("is granted once more where it still stands", () =>
    Effect.gen(function*() {
      const { again } = yield* askTwice(answer(12, [[own, 10], ["another", 11]]))
      assert.strictEqual(again._tag === "Granted" && again.fencingToken, 10n)
    }))

  // Found by the simulation: somebody had deleted it, and another had come since.
  it.effect("is gone where it had gone, and its new place behind another is given up", () =>
    Effect.gen(function*() {
      const { again, sent } = yield* askTwice(answer(16, [["another", 15], [own, 16]]))
      assert.strictEqual(again._tag, "Gone")
      const [compare] = sent[2]?.compare ?? []
      assert.strictEqual(compare?.create_revision, "16")
      assert.strictEqual(sent[2]?.success?.[0]?.request_delete_range?.key?.toString(), placeIn(sent[0]!))
    }))
})
