import { assert, describe, it } from "@effect/vitest"
import { nameOf, Slots } from "../src/internal/store/placeNames.ts"

describe("the names under which a process stands in queues", () => {
  it("are as few as claims at once", () => {
    const slots = new Slots()
    const names = new Set<string>()
    for (let section = 0; section < 100; section++) {
      const two = [slots.take("k"), slots.take("k")]
      two.forEach((slot) => names.add(nameOf(slot)))
      two.forEach((slot) => slots.free(slot))
    }
    assert.strictEqual(names.size, 2)
  })

  it("belong to one claim at a time", () => {
    const slots = new Slots()
    const [one, two] = [slots.take("k"), slots.take("k")]
    assert.notStrictEqual(nameOf(one), nameOf(two))
    slots.free(one)
    assert.strictEqual(nameOf(slots.take("k")), nameOf(one))
    assert.notStrictEqual(nameOf(slots.take("k")), nameOf(two))
  })

  it("are not used again once something may be left under one", () => {
    const slots = new Slots()
    const held = slots.take("k")
    const inDoubt = slots.take("k")
    slots.endEpoch()
    slots.free(held)
    const later = [slots.take("k"), slots.take("k"), slots.take("k")].map(nameOf)
    assert.notInclude(later, nameOf(held))
    assert.notInclude(later, nameOf(inDoubt))
    assert.isFalse(slots.isOfThisEpoch(`dlock:k/${nameOf(held)}`))
    assert.isTrue(slots.isOfThisEpoch(`dlock:k/${later[0]}`))
  })
})
