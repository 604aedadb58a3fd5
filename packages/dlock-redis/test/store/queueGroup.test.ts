import { assert, describe, it } from "@effect/vitest"
import { keysOf } from "../../src/internal/protocol/keys.ts"
import { QueueGroup } from "../../src/internal/store/queueGroup.ts"
import { TrackedClaim } from "../../src/internal/store/trackedClaim.ts"
import { plainClaim, plainTelemetry } from "../model/port.ts"

const setting = () => {
  const lock = keysOf("k")!
  const group = new QueueGroup(lock, 100)
  const place = (tracked: TrackedClaim, at: number, place: number, { label = "somebody", token = 0n } = {}) =>
    group.notePlace(tracked, at, {
      _tag: "Queued",
      floor: token,
      place,
      length: place + 1,
      holder: { label, remaining: -1, foreign: false }
    })
  return {
    group,
    place,
    come: (at: number, behind: number) => {
      const tracked = new TrackedClaim({ ...plainClaim, id: `${at}`.padStart(22, "a") }, lock, plainTelemetry)
      place(tracked, at, behind)
      return tracked
    }
  }
}

describe("a group of the claims of one process", () => {
  it("forgets those who give up behind one that stays", () => {
    const { come, group } = setting()
    come(0, 0)
    for (let at = 1; at <= 10_000; at++) group.remove(come(at, 1), at)
    assert.isBelow(group["waiters"].length, 2_000)
  })

  it("asks by the first that waits, also when one from before it waits again", () => {
    const { come, group, place } = setting()
    const early = come(0, 0)
    const next = come(1, 1)
    group.remove(early, 2)
    place(early, 3, 1)
    group.hurry(4)
    assert.deepStrictEqual(group.takeDue(4), [next])
  })

  // The server had the claims in the other order: it has granted the second, and its notification was lost.
  it("asks for all at the front where a holder of our name is none that is known here, and for nobody where it is", () => {
    const { come, group, place } = setting()
    const [early, second, third] = [come(0, 0), come(1, 1), come(2, 2)]
    place(early, 10, 0, { token: 8n, label: plainClaim.holder })
    assert.deepStrictEqual(group.takeDue(10), [early, second, third])
    for (const [index, tracked] of [early, second, third].entries()) {
      place(tracked, 20, index, { token: 8n, label: plainClaim.holder })
    }
    assert.deepStrictEqual(group.takeDue(20), [])
    group.remove(early, 30, 9n)
    place(second, 40, 0, { token: 9n, label: plainClaim.holder })
    assert.deepStrictEqual(group.takeDue(40), [])
    place(second, 50, 0, { token: 10n, label: "somebody" })
    assert.deepStrictEqual(group.takeDue(50), [])
  })
})
