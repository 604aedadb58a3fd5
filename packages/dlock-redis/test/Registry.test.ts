import { assert, describe, it } from "@effect/vitest"
import { Claims } from "../src/internal/store/registry.ts"
import { plainClaim } from "./model/port.ts"

describe("a claim whose leave was not answered", () => {
  it("is forgotten when a later one is", () => {
    const claims = new Claims("")
    const entry = claims.open(plainClaim)
    claims.endLater(entry, 33_000, 0)
    assert.strictEqual(claims.find(plainClaim.id), entry)
    claims.end(entry, 1)
    assert.isUndefined(claims.find(plainClaim.id))
    assert.strictEqual(claims["unanswered"].size, 0)
  })
})
