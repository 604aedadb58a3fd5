import { assert, describe, it } from "@effect/vitest"
import * as CoreTiming from "../../../dlock/src/internal/timing.ts"
import * as Timing from "../../src/internal/store/timing.ts"

describe.each([1_000, 2_000, 33_000, 660_000])("a lease of %d ms", (ttl) => {
  it("is looked after by the loop later than by the renewals of what is on it, and has time for another try", () => {
    assert.isAbove(Timing.leaseDueAfter(ttl), Timing.freshFor(ttl))
    // A claim's own time is shorter than that of its lease, by the guard gap.
    assert.isAbove(Timing.leaseDueAfter(ttl), CoreTiming.renewalAfter(ttl))
    assert.isBelow(Timing.leaseDueAfter(ttl) + Timing.leaseTimeout(ttl) + Timing.leaseRetryAfter(ttl), ttl)
  })

  it("leaves a grant on it more time than the call took that brought it", () => {
    assert.isAtLeast(ttl - Timing.freshFor(ttl), Timing.leaseTimeout(ttl))
  })
})
