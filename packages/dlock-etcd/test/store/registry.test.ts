import { assert, describe, it } from "@effect/vitest"
import { Registry } from "../../src/internal/store/registry.ts"
import { claimOf, plainTelemetry } from "../claim.ts"

describe("the claims of a process", () => {
  // A claim that was withdrawn at its cap, and again when its program ended, freed its name twice: another claim got a name
  // that was in use, and found no place.
  it("give back the name of a place once, however often they are withdrawn", () => {
    const registry = new Registry(plainTelemetry, () => {}, () => {}, () => {})
    const [first, second] = ["a", "b"].map((id) => registry.track({ ...claimOf(1_000, 100), id: id.repeat(22) }))
    registry.beginWithdrawal(second!.claim, 0)
    registry.noteWithdrawn(second!)
    registry.noteWithdrawn(second!)
    const third = registry.track({ ...claimOf(1_000, 100), id: "c".repeat(22) })
    assert.notStrictEqual(third.place.key, first!.place.key)
    assert.strictEqual(third.place.key, second!.place.key)
  })
})
