import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import type { ITxnResponse } from "etcd3"
import type { Port } from "../src/internal/port.ts"
import * as Store from "../src/internal/store.ts"

const claim: Claim = {
  id: "a".repeat(22),
  key: "k",
  prefix: "",
  permits: 1,
  capacity: 1,
  ttl: Duration.seconds(4),
  guardGap: Duration.seconds(1),
  holder: "me"
}
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
        txn: () =>
          reply(
            { header: { revision: "2" }, succeeded: true, responses: [put] } as never as ITxnResponse
          ),
        grant: (id) => Effect.suspend(() => reply(granted.push(id) === 1 ? 0 : 5)),
        revoke: () => reply(undefined),
        keepAlive: () => reply(5),
        inspect: () => reply({ ttl: 5, keys: [] }),
        watch: () => Effect.never,
        abandon: () => {}
      }
      const store = yield* Store.make(port)
      const answer = yield* store.request(claim, "queue")
      assert.strictEqual(answer._tag === "Granted" && Duration.toMillis(answer.ttl), 4_000)
      assert.strictEqual(new Set(granted).size, 2)
    }).pipe(Effect.scoped))
})
