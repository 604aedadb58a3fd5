import { assert, describe, it } from "@effect/vitest"
import type { LockKeys } from "../../src/internal/protocol/keys.ts"
import { LocalQueue } from "../../src/internal/store/queue/localQueue.ts"

describe("a queue whose requests overlap without a pause", () => {
  // Before, the queue kept every deletion until a moment without any request in flight, which never comes at a busy lock.
  it("keeps a bounded number of deletions for the answers that are late", () => {
    const queue = new LocalQueue({} as LockKeys, { now: () => 0 } as never)
    const inFlight = [queue.noteAsked()]
    let most = 0
    for (let revision = 1n; revision <= 10_000n; revision++) {
      queue.noteWithdrawn(`k/${revision}`, revision)
      queue["observeRevision"](revision, 0n)
      // The next request goes out before the answer to the oldest of five arrives.
      inFlight.push(queue.noteAsked())
      if (inFlight.length > 5) queue.noteAnswered(inFlight.shift()!)
      most = Math.max(most, queue["deletions"].length)
    }
    assert.isAtMost(most, 300)
  })
})
