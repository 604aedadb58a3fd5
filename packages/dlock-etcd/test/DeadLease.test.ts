import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import type { ITxnResponse } from "etcd3"
import type { Port } from "../src/internal/client/port.ts"
import * as Store from "../src/internal/store/store.ts"
import { claimOf, plainTelemetry } from "./claim.ts"

const claim = claimOf(4_000, 1_000)
const put = { response_put: {} }

describe("a lease that was over before its owner heard of it", () => {
  // Found by the simulation: the first answer to a grant was late, and the second found it there with no time left.
  it.effect("carries nothing: another is granted", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const granted: Array<string> = []
      const reply = <A>(value: A) =>
        Effect.sync(() => ({ sentAt: clock.monotonicTimeNanosUnsafe(), value, doubled: false }))
      const port: Port = {
        telemetry: plainTelemetry,
        txn: () =>
          reply(
            { header: { revision: "2" }, succeeded: true, responses: [put] } as never as ITxnResponse
          ),
        grant: (id) => Effect.suspend(() => reply(granted.push(id) === 1 ? 0 : 5)),
        revoke: () => reply(undefined),
        keepAlive: () => reply(5),
        inspect: () => reply({ ttl: 5, keys: [] }),
        watch: () => Effect.never,
        longest: 2_000,
        heardAt: () => undefined,
        isAway: (): boolean => false,
        abandon: () => {}
      }
      const store = yield* Store.make(port)
      const answer = yield* store.request(claim, "queue")
      assert.strictEqual(answer._tag === "Granted" && Duration.toMillis(answer.ttl), 4_000)
      assert.strictEqual(new Set(granted).size, 2)
    }).pipe(Effect.scoped))
})
