import { assert, describe, it } from "@effect/vitest"
import { lifeKeysIn, lockKeys } from "../../src/internal/protocol/keys.ts"
import { OtherClaim } from "../../src/internal/protocol/snapshot.ts"
import * as Transactions from "../../src/internal/protocol/transactions.ts"
import { claimOf } from "../claim.ts"

describe("passing over the claims of dead processes", () => {
  it("deletes nothing where one of them shows a sign of life again, or a claim has changed, or none is before them", () => {
    const claim = claimOf(4_000, 1_000)
    const keys = lockKeys(claim.key, claim.prefix)
    const other = (name: string, created: bigint) => new OtherClaim(keys.claim(name), created, undefined)
    const place = { claim, keys, keyBytes: keys.claim("own") }
    const dead = [other("b", 2n), other("c", 3n)]
    const signs = ["one", "two"].map(lifeKeysIn(claim.prefix))
    const { request } = Transactions.passOver(place, dead, other("a", 1n), signs)
    const compared = request.compare!.map(({ create_revision, key, result, target }) =>
      [String(key), target, result, String(create_revision)].join(" ")
    )
    assert.sameMembers(compared, [
      ...[other("a", 1n), ...dead].map(({ created, key }) => `${key} Create Equal ${created}`),
      ...signs.map((key) => `${String(key)} Create Equal 0`)
    ])
    assert.sameMembers(
      request.success!.map(({ request_delete_range }) => String(request_delete_range!.key)),
      dead.map(({ key }) => key)
    )
  })
})
