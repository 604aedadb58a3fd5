import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import { Entry } from "../src/internal/entry.ts"
import { names } from "../src/internal/names.ts"

const seconds = (count: number): bigint => BigInt(count) * 1_000_000_000n

const entry = (): Entry =>
  new Entry(
    {
      id: "b".repeat(22),
      key: "k",
      prefix: "",
      permits: 1,
      capacity: 1,
      ttl: Duration.seconds(2),
      guardGap: Duration.zero,
      holder: "b"
    },
    names("k")!
  )

const ahead = { holder: "a", place: 0, waiting: 1 }

describe("a pushed grant", () => {
  it("that overtakes the answer to its own request counts from that request", () => {
    const claim = entry()
    claim.asked(seconds(10))
    assert.strictEqual(claim.baseOf(7n, seconds(11)), seconds(10))
  })

  it("counts from the latest request that was answered with a place", () => {
    const claim = entry()
    claim.asked(seconds(10))
    claim.isQueued(seconds(10), 6n, ahead)
    claim.isQueued(seconds(12), 6n, ahead)
    assert.strictEqual(claim.baseOf(7n, seconds(13)), seconds(12))
  })

  it("counts neither from an answer that came late nor from a request that has none", () => {
    const claim = entry()
    claim.asked(seconds(10))
    claim.isQueued(seconds(12), 6n, ahead)
    claim.isQueued(seconds(11), 9n, ahead)
    assert.strictEqual(claim.baseOf(7n, seconds(13)), seconds(12))
    // A refresh sent at 13 is still under way: nothing tells the entry, so nothing counts from it.
    assert.isUndefined(claim.baseOf(7n, seconds(14)))
  })

  it("from before the place that the claim has now is an old one: it is not believed", () => {
    const claim = entry()
    // Queued, granted token 2 and expired unheard; the repeated acquire is answered with a new place and floor 3.
    claim.asked(seconds(0))
    claim.asked(seconds(4))
    claim.isQueued(seconds(4), 3n, ahead)
    assert.isUndefined(claim.baseOf(2n, seconds(5)), "two holders otherwise")
    assert.strictEqual(claim.baseOf(4n, seconds(5)), seconds(4))
  })
})

describe("an answer of a place", () => {
  it("to a claim that is held by now is old and changes nothing", () => {
    const claim = entry()
    claim.asked(seconds(10))
    claim.isGranted(7n, seconds(10))
    claim.isQueued(seconds(10), 6n, { ...ahead, holder: "c" })
    assert.strictEqual(claim.state, "held")
    assert.isUndefined(claim.ahead.holder)
  })
})
