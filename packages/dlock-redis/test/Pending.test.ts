import { assert, describe, it } from "@effect/vitest"
import { connectionLost, silent } from "../src/internal/failure.ts"
import { Pending } from "../src/internal/pending.ts"
import type { CallFailure } from "../src/internal/port.ts"

/** Calls of at most a second on a clock that the test turns. */
const setting = () => {
  let now = 0
  const timers = new Set<{ readonly at: number; readonly run: () => void }>()
  let silences = 0
  const pending = new Pending(1_000, {
    onSilence: () => silences++,
    time: {
      now: () => now,
      after: (millis, run) => {
        const timer = { at: now + millis, run }
        timers.add(timer)
        return () => void timers.delete(timer)
      }
    }
  })
  const failures: Array<CallFailure> = []
  return {
    pending,
    failures,
    silences: () => silences,
    timers: () => timers.size,
    call: (limit?: number) => {
      const queue = pending.within(limit)
      const sent = queue.add((failure) => failures.push(failure))
      return () => {
        pending.heard()
        return queue.remove(sent)
      }
    },
    turnTo: (at: number) => {
      for (; now < at; now++) {
        for (const timer of Array.from(timers)) {
          if (timer.at > now || !timers.delete(timer)) continue
          timer.run()
        }
      }
    }
  }
}

describe("calls without a reply", () => {
  it("fail after their limit, with one timer for those of one limit", () => {
    const { call, failures, pending, timers, turnTo } = setting()
    for (let n = 0; n < 10; n++) call()
    for (let n = 0; n < 10; n++) call(300)
    assert.strictEqual(timers(), 2)
    assert.strictEqual(pending.size, 20)
    turnTo(302)
    assert.deepStrictEqual(failures, Array.from({ length: 10 }, () => silent))
    turnTo(1_002)
    assert.strictEqual(failures.length, 20)
    assert.strictEqual(pending.size, 0)
  })

  it("fail together when their connection goes", () => {
    const { call, failures, pending } = setting()
    call()
    call(300)
    pending.lost()
    assert.deepStrictEqual(failures, [connectionLost, connectionLost])
    assert.strictEqual(pending.size, 0)
  })

  it("leave no timer once they are over and it is closed", () => {
    const { call, pending, timers, turnTo } = setting()
    call(300)
    turnTo(400)
    pending.close()
    assert.strictEqual(timers(), 0)
  })
})

describe("a connection", () => {
  it("is called silent when nothing was heard for twice the longest limit", () => {
    const { call, silences, turnTo } = setting()
    turnTo(100)
    call(300)
    call()
    turnTo(2_100)
    assert.strictEqual(silences(), 0)
    turnTo(2_102)
    assert.strictEqual(silences(), 1)
  })

  it("is not where any reply has come meanwhile, were it one that is too late", () => {
    const { call, silences, turnTo } = setting()
    const late = call(300)
    turnTo(1_500)
    assert.isFalse(late())
    turnTo(5_000)
    assert.strictEqual(silences(), 0)
  })

  it("is not where it went before that was noticed", () => {
    const { call, pending, silences, turnTo } = setting()
    call(300)
    turnTo(1_500)
    pending.lost()
    turnTo(5_000)
    assert.strictEqual(silences(), 0)
  })
})
