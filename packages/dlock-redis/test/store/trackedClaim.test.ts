import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { keysOf } from "../../src/internal/protocol/keys.ts"
import { TrackedClaim } from "../../src/internal/store/trackedClaim.ts"
import { plainTelemetry } from "../model/port.ts"

const seconds = (count: number): bigint => BigInt(count) * 1_000_000_000n

const newClaim = (): TrackedClaim =>
  new TrackedClaim(
    {
      id: "b".repeat(22),
      key: "k",
      prefix: "",
      kind: "mutex",
      permits: 1,
      capacity: 1,
      ttl: Duration.seconds(2),
      guardGap: Duration.zero,
      holder: "b"
    },
    keysOf("k")!,
    plainTelemetry
  )

describe("a grant that a notification tells", () => {
  it("counts from its own request where it overtakes the answer to that", () => {
    const claim = newClaim()
    claim.noteSent(seconds(10))
    assert.strictEqual(claim.baseOf(7n, seconds(11)), seconds(10))
  })

  it("counts from the latest request that was answered with a place", () => {
    const claim = newClaim()
    claim.noteSent(seconds(10))
    claim.notePlace(seconds(10), 6n)
    claim.notePlace(seconds(12), 6n)
    assert.strictEqual(claim.baseOf(7n, seconds(13)), seconds(12))
  })

  it("counts neither from an answer that came late nor from a request that has none", () => {
    const claim = newClaim()
    claim.noteSent(seconds(10))
    claim.notePlace(seconds(12), 6n)
    claim.notePlace(seconds(11), 9n)
    assert.strictEqual(claim.baseOf(7n, seconds(13)), seconds(12))
    // A refresh that was sent at 13 is still in flight. The claim does not know its answer, so no grant counts from it.
    assert.isUndefined(claim.baseOf(7n, seconds(14)))
  })

  it("is not believed where it is older than the place that the claim has now", () => {
    const claim = newClaim()
    // The claim was queued, was granted token 2, and that grant expired before the claim heard of it. The repeated
    // acquire is answered with a new place and floor 3.
    claim.noteSent(seconds(0))
    claim.noteSent(seconds(4))
    claim.notePlace(seconds(4), 3n)
    assert.isUndefined(claim.baseOf(2n, seconds(5)), "two holders otherwise")
    assert.strictEqual(claim.baseOf(4n, seconds(5)), seconds(4))
  })
})

describe("an answer of a place", () => {
  it("changes nothing for a claim that is held by now", () => {
    const claim = newClaim()
    claim.noteSent(seconds(10))
    claim.grant(7n, seconds(10))
    assert.isFalse(claim.notePlace(seconds(10), 6n))
    assert.strictEqual(claim.state, "held")
  })
})
