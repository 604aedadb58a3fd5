import { assert, describe, it } from "@effect/vitest"
import { Effect, Formatter } from "effect"
import { inspect } from "node:util"
import { setting } from "./support.ts"

describe("a lease in a log", () => {
  it.effect("is its name, its token, its holder and how it stands, and nothing of the program around it", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting({ holder: "me" })
      const lease = yield* locker.scoped("k")
      const seen = { _id: "effect-dlock/Lease", key: "k", fencingToken: "1", holder: "me", state: "held" }
      assert.deepStrictEqual(JSON.parse(JSON.stringify(lease)), seen)
      assert.deepStrictEqual(JSON.parse(Formatter.formatJson(lease)), seen)
      assert.strictEqual(inspect(lease), inspect(seen))
      assert.notInclude(inspect({ lease }, { depth: 9 }), sent("request")[0]!.claims[0]!.id)
    }))
})
