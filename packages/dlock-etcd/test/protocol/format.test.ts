import { assert, describe, it } from "@effect/vitest"
import { readWriteCapacity } from "effect-dlock/LockStore"
import { decode, encode, isNewer, mutex } from "../../src/internal/protocol/format.ts"
import { claimKeys, demandOf, isReader, isWriter, lockKeys } from "../../src/internal/protocol/keys.ts"
import { claimOf, permitsOf, readerOf, writerOf } from "../claim.ts"

const names = (claim: Parameters<typeof claimKeys>[1]): ReadonlyArray<string> => {
  const { exclusiveKey, keyBytes } = claimKeys(lockKeys(claim.key, claim.prefix), claim, "name-1")
  return [keyBytes.toString(), ...(exclusiveKey === undefined ? [] : [exclusiveKey.toString()])]
}

describe("the value of a claim", () => {
  it("is read as it was written", () => {
    const claim = permitsOf(3, 8)
    const { holder, id } = claim
    assert.deepStrictEqual(decode(encode(claim, { process: "p", base: 7n, granted: 33_000 })), {
      layout: 1,
      kind: "semaphore",
      permits: 3,
      capacity: 8,
      holder,
      id,
      process: "p",
      base: 7n,
      granted: 33_000
    })
  })

  it("is that of a mutex where another client wrote it", () => {
    for (const foreign of ["", "{}", "null", "7", "{\"permits\":3,\"capacity\":8}"]) {
      assert.deepStrictEqual(decode(Buffer.from(foreign)), mutex)
    }
  })

  it("is not believed where a newer version wrote it", () => {
    const value = decode(Buffer.from(JSON.stringify({ layout: 2, kind: "semaphore", permits: 3, capacity: 8 })))
    assert.isTrue(isNewer(value))
    assert.isFalse(isNewer(mutex))
    assert.deepStrictEqual(value, { ...mutex, layout: 2 })
  })
})

describe("the name of a claim", () => {
  it("tells what the claim takes", () => {
    for (const claim of [claimOf(1_000, 100), permitsOf(1, 1), permitsOf(3, 8), readerOf(), writerOf()]) {
      const { capacity, kind, permits } = claim
      const all = names(claim).map(demandOf)
      assert.deepStrictEqual(all[all.length - 1], { kind, permits, capacity })
    }
  })

  it("is that of a reader too, for a writer", () => {
    const [shared, exclusive] = names(writerOf()).map(demandOf)
    assert.isTrue(isReader(shared!))
    assert.isTrue(isWriter(exclusive!))
    assert.strictEqual(shared!.capacity, readWriteCapacity)
  })

  it("is that of a mutex where another client gave it", () => {
    for (const name of ["694d7a1c2f3e4b05", ".of", "x.3of", "x.of3", "x.11111111111of2", "x~"]) {
      assert.strictEqual(demandOf(`dlock:k/${name}`).kind, "mutex")
    }
  })

  it("stands among the readers, behind all others", () => {
    const { folder, folderEnd, readers } = lockKeys("dlock:k", "dlock:")
    const isWithin = (name: string, from: Buffer, to: Buffer): boolean =>
      name >= from.toString() && name < to.toString()
    for (const name of [...names(readerOf()), names(writerOf())[0]!]) assert.isTrue(isWithin(name, readers, folderEnd))
    for (const name of [names(writerOf())[1]!, ...names(permitsOf(3, 8))]) {
      assert.isTrue(isWithin(name, folder, readers))
    }
  })
})
