import { describe, it } from "@effect/vitest"
import { startRedis } from "dlock-testing"
import { started } from "dlock-testing/live"
import { Effect } from "effect"
import { keepsItsPromises, rounds } from "./cluster.ts"

describe("two runners with their locks in Redis", () => {
  it.live(
    `run no entity in two at once, while one is frozen ${rounds} times and killed ${rounds} times`,
    () =>
      Effect.gen(function*() {
        const [locks, resource] = yield* Effect.all([started(() => startRedis()), started(() => startRedis())])
        yield* keepsItsPromises(locks.url, resource.url)
      }),
    60_000 + rounds * 60_000
  )
})
