import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Schema } from "effect"
import {
  CapacityMismatch,
  InvalidLockRequest,
  LockAlreadyHeld,
  LockBackendError,
  LockNotHeld,
  LockTimeout,
  OwnershipLost
} from "effect-dlock"

/** Beyond what a floating-point number can hold. */
const token = 2n ** 64n + 1n

const errors = [
  [
    OwnershipLost,
    new OwnershipLost({ key: "k", fencingToken: token, reason: "Stalled", lastConfirmedAgo: Duration.millis(1234.5) })
  ],
  [
    LockTimeout,
    new LockTimeout({
      key: "k",
      waited: Duration.seconds(3),
      holder: "host:1",
      metadata: { job: "nightly" },
      queueLength: 2
    })
  ],
  [LockTimeout, new LockTimeout({ key: "k", waited: Duration.zero, queueLength: 1 })],
  [
    LockTimeout,
    new LockTimeout({
      key: "k",
      waited: Duration.seconds(3),
      queueLength: 1,
      deadlock: [{ key: "k", kind: "mutex", holder: "host:2" }, { key: "j", kind: "semaphore", holder: "host:1" }]
    })
  ],
  [LockAlreadyHeld, new LockAlreadyHeld({ key: "k", fencingToken: token })],
  [LockNotHeld, new LockNotHeld({ key: "k" })],
  [
    LockBackendError,
    new LockBackendError({ operation: "renew", key: "k", retryable: true, cause: new Error("ECONNRESET") })
  ],
  [LockBackendError, new LockBackendError({ operation: "connect", retryable: false, cause: "refused" })],
  [InvalidLockRequest, new InvalidLockRequest({ key: "k\0", parameter: "key", problem: "contains NUL" })],
  [CapacityMismatch, new CapacityMismatch({ key: "k", requested: 3, inUse: 4, kind: "semaphore" })]
] as const

describe("every error", () => {
  for (const [index, [schema, error]] of errors.entries()) {
    it(`survives JSON and the round trip of its schema: ${error._tag} ${index}`, () => {
      const json = JSON.parse(JSON.stringify(error))
      assert.strictEqual(json._tag, error._tag)
      assert.strictEqual(json.message, error.message)
      const back = Schema.decodeUnknownSync(schema as Schema.Decoder<Error>)(json)
      assert.strictEqual(back.constructor, schema)
      assert.deepStrictEqual(JSON.stringify(back), JSON.stringify(error))
      assert.strictEqual(back.message, error.message)
      for (const field of Object.keys(error) as ReadonlyArray<keyof Error>) {
        if (field === "stack" || field === "cause") continue
        assert.deepStrictEqual(back[field], error[field], field)
      }
    })

    it(`is encoded without what JSON cannot hold: ${error._tag} ${index}`, () => {
      const encoded = Schema.encodeUnknownSync(schema as Schema.Encoder<unknown>)(error)
      assert.deepStrictEqual(JSON.parse(JSON.stringify(encoded)), encoded)
    })
  }

  it("has a token that is exact, as a decimal string", () => {
    const json = JSON.parse(JSON.stringify(new LockAlreadyHeld({ key: "k", fencingToken: token })))
    assert.strictEqual(json.fencingToken, "18446744073709551617")
    assert.strictEqual(Schema.decodeUnknownSync(LockAlreadyHeld)(json).fencingToken, token)
  })

  it("can be written as a log line of JSON inside a cause", () => {
    for (const [, error] of errors) assert.include(JSON.stringify(Cause.fail(error)), error._tag)
  })

  it("has a message for whatever a store failed with", () => {
    const circular: Record<string, unknown> = Object.create(null)
    circular.itself = circular
    for (const cause of [circular, Object.create(null), undefined, 7n, Symbol("odd"), { message: 1 }, { code: "E" }]) {
      const error = new LockBackendError({ operation: "acquire", retryable: true, cause })
      assert.include(error.message, "failed to acquire: ")
    }
    assert.include(new LockBackendError({ operation: "acquire", retryable: true, cause: { code: "E" } }).message, "E")
  })

  it("says in its message what happened to which key", () => {
    for (const [, error] of errors) {
      assert.isNotEmpty(error.message)
      if ("key" in error && error.key === "k") assert.include(error.message, "\"k\"")
    }
  })
})
