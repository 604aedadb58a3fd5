import { assert, describe, it } from "@effect/vitest"
import { PlaceNames, textOf } from "../../src/internal/store/placeNames.ts"

describe("the names under which a process stands in queues", () => {
  it("are as few as the claims that stood at once", () => {
    const placeNames = new PlaceNames()
    const names = new Set<string>()
    for (let section = 0; section < 100; section++) {
      const two = [placeNames.take("k"), placeNames.take("k")]
      two.forEach((name) => names.add(textOf(name)))
      two.forEach((name) => placeNames.free(name))
    }
    assert.strictEqual(names.size, 2)
  })

  it("belong to one claim at a time", () => {
    const placeNames = new PlaceNames()
    const [one, two] = [placeNames.take("k"), placeNames.take("k")]
    assert.notStrictEqual(textOf(one), textOf(two))
    placeNames.free(one)
    assert.strictEqual(textOf(placeNames.take("k")), textOf(one))
    assert.notStrictEqual(textOf(placeNames.take("k")), textOf(two))
  })

  it("are not used again once something may be left under one", () => {
    const placeNames = new PlaceNames()
    const held = placeNames.take("k")
    const inDoubt = placeNames.take("k")
    placeNames.endGeneration()
    placeNames.free(held)
    const later = [placeNames.take("k"), placeNames.take("k"), placeNames.take("k")].map(textOf)
    assert.notInclude(later, textOf(held))
    assert.notInclude(later, textOf(inDoubt))
    assert.isFalse(placeNames.isOfThisGeneration(`dlock:k/${textOf(held)}`))
    assert.isTrue(placeNames.isOfThisGeneration(`dlock:k/${later[0]}`))
  })
})
