import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { callLimit } from "effect-dlock/LockStore"
import * as Timing from "../../src/internal/store/timing.ts"
import { plainClaim } from "../model/port.ts"

describe.each([100, 250, 1_000, 30_000, 600_000])("a place in the queue with a ttl of %d ms", (ttl) => {
  it("has time for a second question behind one that takes all it may", () => {
    const { refreshAfter, refreshRetryAfter, refreshTimeout } = Timing
    assert.isBelow(refreshAfter(ttl) + 2 * refreshTimeout(ttl) + refreshRetryAfter(ttl), ttl)
  })

  it("has smaller calls in larger ones", () => {
    const whole = callLimit({ ...plainClaim, ttl: Duration.millis(ttl) })
    assert.isBelow(Timing.renewalTimeout(ttl), ttl / 6)
    assert.isBelow(Timing.replicasTimeout(ttl, whole), Math.min(whole, ttl))
    assert.isAtMost(Timing.questionPeriod(ttl), Timing.refreshAfter(ttl))
    assert.isBelow(Timing.refreshTogether(ttl), Timing.refreshAfter(ttl))
  })
})
