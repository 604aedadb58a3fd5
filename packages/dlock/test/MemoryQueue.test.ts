import { assert, describe, it } from "@effect/vitest"
import { Queue } from "../src/internal/memory/queue.ts"

const queueOf = (...ids: ReadonlyArray<string>) => {
  const queue = new Queue<string>()
  for (const id of ids) queue.add(id, id.toUpperCase())
  return queue
}

const drained = (queue: Queue<string>) => {
  const values: Array<string> = []
  for (let first = queue.first; first !== undefined; first = queue.first) {
    values.push(first)
    queue.remove(first.toLowerCase())
  }
  return values
}

describe("a queue", () => {
  it("gives entries in the order in which they came", () =>
    assert.deepStrictEqual(drained(queueOf("a", "b", "c")), ["A", "B", "C"]))

  for (const [who, left] of [["a", ["B", "C"]], ["b", ["A", "C"]], ["c", ["A", "B"]]] as const) {
    it(`goes on without ${who}, and takes it back at the end`, () => {
      const queue = queueOf("a", "b", "c")
      queue.remove(who)
      assert.deepStrictEqual([queue.size, queue.get(who), queue.first], [2, undefined, left[0]])
      queue.add(who, "again")
      assert.deepStrictEqual([left[0], left[1], who].map((id) => queue.placeOf(id.toLowerCase())), [0, 1, 2])
    })
  }

  it("can be used again after its last entry left", () => {
    const queue = queueOf("a")
    queue.remove("a")
    assert.deepStrictEqual([queue.size, queue.first], [0, undefined])
    queue.add("b", "B")
    assert.deepStrictEqual(drained(queue), ["B"])
  })

  it("does nothing for an entry that it does not have", () => {
    const queue = queueOf("a", "b")
    queue.remove("c")
    assert.deepStrictEqual([queue.size, queue.placeOf("b"), queue.placeOf("c")], [2, 1, 2])
  })
})
