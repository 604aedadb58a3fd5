import { assert, describe, it } from "@effect/vitest"
import { Registry } from "../../src/internal/store/registry.ts"
import { plainClaim, plainTelemetry } from "../model/port.ts"

describe("a claim whose withdrawal was not answered", () => {
  it("is forgotten when a later one is", () => {
    const registry = new Registry("", plainTelemetry)
    const tracked = registry.track(plainClaim)
    registry.removeLater(tracked, 33_000, 0)
    assert.strictEqual(registry.find(plainClaim.id), tracked)
    registry.remove(tracked, 1)
    assert.isUndefined(registry.find(plainClaim.id))
    assert.strictEqual(registry["unanswered"].size, 0)
  })
})
