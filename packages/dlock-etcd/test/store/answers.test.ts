import { assert, describe, it } from "@effect/vitest"
import { Answers } from "../../src/internal/store/queue/answers.ts"

describe("the answers about a queue", () => {
  it("may show claims whose deletion was reported meanwhile, and only until the last of them has come", () => {
    const answers = new Answers()
    const claim = { key: "k/1", created: 5n }
    answers.keep([{ key: "k/1", revision: 7n }])
    assert.isFalse(answers.wasDeleted(claim), "no answer is awaited")
    const [first, second] = [answers.noteAsked(), answers.noteAsked()]
    answers.keep([{ key: "k/1", revision: 7n }])
    assert.isTrue(answers.wasDeleted(claim))
    assert.isFalse(answers.wasDeleted({ key: "k/1", created: 7n }), "a later claim with the same name")
    answers.noteAnswered(first)
    assert.isTrue(answers.wasDeleted(claim))
    answers.noteAnswered(second)
    assert.isFalse(answers.wasDeleted(claim))
    assert.isFalse(answers.isAwaited)
  })

  it("keep no more deletions than the oldest request may need", () => {
    const answers = new Answers()
    answers.note(100n)
    const asked = answers.noteAsked()
    const keep = (from: number, to: number) => {
      for (let one = from; one < to; one++) answers.keep([{ key: `k/${one}`, revision: BigInt(one) }])
    }
    keep(1, 300)
    assert.isFalse(answers.wasDeleted({ key: "k/50", created: 0n }))
    assert.isTrue(answers.wasDeleted({ key: "k/101", created: 0n }))
    assert.isTrue(answers.wasDeleted({ key: "k/299", created: 0n }))
    answers.noteAnswered(asked)
  })

  it("tell once that the server was restored, and then belong to the restored one", () => {
    const answers = new Answers()
    answers.note(50n)
    const [first, second] = [answers.noteAsked(), answers.noteAsked()]
    assert.isFalse(answers.isPossible(2n, first))
    assert.isTrue(answers.isPossible(2n, second))
    assert.isTrue(answers.isPossible(3n, answers.noteAsked()))
  })
})
