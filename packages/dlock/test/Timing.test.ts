import { assert, describe, it } from "@effect/vitest"
import * as Timing from "../src/internal/timing.ts"

const ttls = [100, 101, 250, 999, 1_000, 3_000, 30_000, 600_000, 31_536_000_000]

describe.each(ttls)("the life of a lease of %d ms", (ttl) => {
  it("has time for two more renewals behind one that takes all it may", () => {
    const { renewalAfter, renewalRetryAfter, renewalTimeout } = Timing
    const tried = renewalAfter(ttl) + 2 * renewalTimeout(ttl) + 2 * renewalRetryAfter(ttl)
    assert.isBelow(tried, ttl)
  })

  it("has its pauses below the calls that they stand between, and its calls below the lease", () => {
    assert.isBelow(Timing.renewalRetryAfter(ttl), Timing.renewalTimeout(ttl))
    assert.isBelow(Timing.renewalTimeout(ttl), Timing.callTimeout(ttl))
    assert.isAtMost(Timing.acquirePatience(ttl), Timing.callTimeout(ttl))
    assert.isAtMost(Timing.releaseTimeout(ttl), Timing.callTimeout(ttl))
    assert.isBelow(2 * Timing.callTimeout(ttl), ttl)
    assert.isBelow(Timing.acquireRetryAfter(ttl), Timing.acquirePatience(ttl))
    assert.isBelow(Timing.hastyReleaseRetryAfter(ttl), Timing.releaseTimeout(ttl))
  })

  it("ends at the backend no earlier than a timer of the holder is late", () => {
    assert.isAtLeast(Timing.guardGap(ttl), 100)
  })
})
