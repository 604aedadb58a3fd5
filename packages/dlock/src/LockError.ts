/**
 * The errors of this package.
 *
 * **Details**
 *
 * Each error is a tagged class. Catch it by its tag, read its fields, log it as JSON with `JSON.stringify(error)`, or
 * encode it with its Schema. Every error survives the round trip.
 *
 * | error | when | what to do |
 * |---|---|---|
 * | `OwnershipLost` | this process lost the lock | stop; the protected resource compares the fencing token |
 * | `LockTimeout` | other holders had the key for the whole `timeout` | try later, or show the holder |
 * | `LockAlreadyHeld` | the caller already holds this lock | fix the caller: pass the lease down instead |
 * | `LockNotHeld` | a lease was used after its release | fix the caller |
 * | `LockBackendError` | the store could not be reached, or refused | retry later; nothing is held |
 * | `InvalidLockRequest` | no store could honour the key or an option | fix the caller; nothing was sent |
 * | `CapacityMismatch` | reserved: the key is in use with another capacity | use one kind of lock for each key |
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Inspectable from "effect/Inspectable"
import * as Schema from "effect/Schema"

/**
 * The reasons why a lock was lost, as a Schema.
 *
 * **Details**
 *
 * - `Expired`: the backend no longer has the lock, because it expired or was deleted.
 * - `Replaced`: the backend says that another holder has the lock.
 * - `Unreachable`: the backend did not confirm the lock before its deadline.
 * - `Stalled`: this process missed the deadline. Its timer was late, the machine slept, or the wall clock was moved
 *   forward by more than the `ttl`.
 * - `Revoked`: the lock was taken away on purpose, its locker was closed, or a defect ended its renewals.
 * - `MaxHold`: the lock was held for longer than its holder allowed. Reserved: nothing limits a hold yet.
 *
 * @category errors
 * @since 0.1.0
 */
export const LossReason = Schema.Literals(["Expired", "Replaced", "Unreachable", "Stalled", "Revoked", "MaxHold"])

/**
 * A reason why a lock was lost. The constant `LossReason` explains each value.
 *
 * @category errors
 * @since 0.1.0
 */
export type LossReason = typeof LossReason.Type

const explained: { readonly [reason in LossReason]: string } = {
  Expired: "the backend no longer has it, because it expired or was deleted",
  Replaced: "another holder has it",
  Unreachable: "the backend did not confirm it before its deadline",
  Stalled: "this process was paused or busy and missed its deadline",
  Revoked: "it was taken away, or the locker was closed",
  MaxHold: "it was held for longer than its holder allowed"
}

/**
 * This process held the lock and lost it. Work under the lock must stop.
 *
 * **Details**
 *
 * `withLock` interrupts its program before it fails with this error.
 *
 * **Gotchas**
 *
 * A write that was sent before the loss may still arrive. Let the protected resource refuse a write whose
 * `fencingToken` is smaller than a token that it has seen.
 *
 * @category errors
 * @since 0.1.0
 */
export class OwnershipLost extends Schema.TaggedError<OwnershipLost>("effect-dlock/LockError/OwnershipLost")(
  "OwnershipLost",
  {
    /** The key as the caller gave it, without the prefix. */
    key: Schema.String,
    /** The token of the lost lease. The protected resource refuses it once it has seen a larger token. */
    fencingToken: Schema.BigIntFromString,
    /** Why the lock was lost. */
    reason: LossReason,
    /** How long before the loss the last confirmation was requested from the backend. */
    lastConfirmedAgo: Schema.DurationFromMillis
  }
) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** The token of the lost lease. The protected resource refuses it once it has seen a larger token. */
  declare readonly fencingToken: bigint
  /** Why the lock was lost. */
  declare readonly reason: LossReason
  /** How long before the loss the last confirmation was requested from the backend. */
  declare readonly lastConfirmedAgo: Duration.Duration

  override get message(): string {
    return `Lost the lock ${named(this.key)} (${this.reason}): ${explained[this.reason]}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(OwnershipLost)(this), this)
  }
}

/**
 * Other holders had the lock for the whole `timeout`. The claim has been withdrawn and is no longer in the queue.
 *
 * **Details**
 *
 * `holder` and `metadata` describe the holder that the store named last. They are absent if it named none, for example
 * because the holder is a client of another library. `queueLength` counts the claims that waited at the end, this one
 * included.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockTimeout extends Schema.TaggedError<LockTimeout>("effect-dlock/LockError/LockTimeout")("LockTimeout", {
  /** The key as the caller gave it, without the prefix. */
  key: Schema.String,
  /** How long the caller waited. */
  waited: Schema.DurationFromMillis,
  /** The name of the holder. Absent if the store named none. */
  holder: Schema.optionalKey(Schema.String),
  /** The `metadata` option of that holder. Absent if it gave none. */
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** How many claims waited at the end, this one included. */
  queueLength: Schema.Int
}) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** How long the caller waited. */
  declare readonly waited: Duration.Duration
  /** The name of the holder. Absent if the store named none, for example for a client of another library. */
  declare readonly holder?: string
  /** The `metadata` option of that holder. Absent if it gave none. */
  declare readonly metadata?: { readonly [name: string]: string }
  /** How many claims waited at the end, this one included. */
  declare readonly queueLength: number

  override get message(): string {
    const who = this.holder === undefined ? "" : `: ${this.holder} holds it`
    const waited = Math.round(Duration.toMillis(this.waited))
    return `Timed out after ${waited} ms waiting for the lock ${named(this.key)}${who} (${this.queueLength} waiting)`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(LockTimeout)(this), this)
  }
}

/**
 * The caller asked for a lock that it already holds, in an enclosing section or in its own scope. Waiting for it would
 * never end.
 *
 * **Details**
 *
 * `fencingToken` is the token of the lease that holds the lock. Use that lease instead.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockAlreadyHeld extends Schema.TaggedError<LockAlreadyHeld>("effect-dlock/LockError/LockAlreadyHeld")(
  "LockAlreadyHeld",
  {
    /** The key as the caller gave it, without the prefix. */
    key: Schema.String,
    /** The token of the lease that holds the lock. */
    fencingToken: Schema.BigIntFromString
  }
) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** The token of the lease that holds the lock. */
  declare readonly fencingToken: bigint

  override get message(): string {
    return `The lock ${
      named(this.key)
    } is already held by this section or scope: use the lease with token ${this.fencingToken}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(LockAlreadyHeld)(this), this)
  }
}

/**
 * A lease was used after its release.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockNotHeld extends Schema.TaggedError<LockNotHeld>("effect-dlock/LockError/LockNotHeld")("LockNotHeld", {
  /** The key as the caller gave it, without the prefix. */
  key: Schema.String
}) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string

  override get message(): string {
    return `The lock ${named(this.key)} is not held: its lease has been released`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(LockNotHeld)(this), this)
  }
}

const Operation = Schema.Literals(["connect", "acquire", "wait", "renew", "release", "raise"])

/**
 * The store could not be reached in time, refused the call, or gave an unusable answer.
 *
 * **Details**
 *
 * The caller does not hold the lock. The error says nothing about whether another process does.
 *
 * `retryable` is false if a retry cannot help: wrong credentials, a missing permission, a key of another type. If there
 * is no connection, the `cause` says why, as far as that is known. The `cause` carries the words of the backend's
 * client, without passwords and without the arguments of commands.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockBackendError extends Schema.TaggedError<LockBackendError>("effect-dlock/LockError/LockBackendError")(
  "LockBackendError",
  {
    /** The call that failed. */
    operation: Operation,
    /** The key as the caller gave it, without the prefix. Absent if the call was not about one key. */
    key: Schema.optionalKey(Schema.String),
    /**
     * Whether the same call may succeed later. False for wrong credentials, a missing permission, or a key of another
     * type.
     */
    retryable: Schema.Boolean,
    /** The error of the backend's client, without passwords and without the arguments of commands. */
    cause: Schema.Defect()
  }
) {
  /** The call that failed. */
  declare readonly operation: typeof Operation.Type
  /** The key as the caller gave it, without the prefix. Absent if the call was not about one key. */
  declare readonly key?: string
  /**
   * Whether the same call may succeed later. False for wrong credentials, a missing permission, or a key of another
   * type.
   */
  declare readonly retryable: boolean
  /** The error of the backend's client, without passwords and without the arguments of commands. */
  declare readonly cause: unknown

  override get message(): string {
    const verb = verbs[this.operation]
    const what = this.key === undefined ? verb.replace(/ for$/, "") : `${verb} ${named(this.key)}`
    return `The lock store failed to ${what}: ${wordsOf(this.cause)}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(LockBackendError)(this), this)
  }
}

const verbs: { readonly [Operation in LockBackendError["operation"]]: string } = {
  connect: "connect",
  acquire: "acquire",
  wait: "wait for",
  renew: "renew",
  release: "release",
  raise: "raise the token epoch"
}

/**
 * Quotes a key for a message. It cuts a key of more than 200 characters, because a wrong key may be a whole document.
 * The error's `key` field is complete.
 */
const named = (key: string): string =>
  key.length <= 200 ? `"${key}"` : `"${key.slice(0, 100).toWellFormed()}…" (${key.length} characters)`

/**
 * The words of any cause. A store written by others may fail with a value that is not an `Error` and has no message.
 */
const wordsOf = (cause: unknown): string => {
  const words = typeof cause === "object" && cause !== null && "message" in cause ? cause.message : cause
  return typeof words === "string" ? words : Inspectable.toStringUnknown(words, 0)
}

/**
 * No store could honour the key or an option. Nothing was sent.
 *
 * **Details**
 *
 * `parameter` names the invalid part: `key`, `ttl`, `timeout`, `guardGap`, `metadata`, `permits`, `capacity`, or an
 * option that does not exist.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidLockRequest extends Schema.TaggedError<InvalidLockRequest>(
  "effect-dlock/LockError/InvalidLockRequest"
)("InvalidLockRequest", {
  /** The key as the caller gave it, without the prefix. */
  key: Schema.String,
  /** What is invalid. */
  parameter: Schema.String,
  /** What is wrong, in words that follow the parameter's name. */
  problem: Schema.String
}) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /**
   * What is invalid: `key`, `ttl`, `timeout`, `guardGap`, `metadata`, `permits`, `capacity`, or an option that does not
   * exist.
   */
  declare readonly parameter: string
  /** What is wrong, in words that follow the parameter's name: `must not be empty`. */
  declare readonly problem: string

  override get message(): string {
    return `Invalid lock request for ${named(this.key)}: ${this.parameter} ${this.problem}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(InvalidLockRequest)(this), this)
  }
}

/**
 * The key is in use with another capacity: a mutex and a semaphore, or two semaphores of different sizes, share a key.
 *
 * **Details**
 *
 * Reserved for semaphores. A mutex fails with `InvalidLockRequest` instead.
 *
 * @category errors
 * @since 0.1.0
 */
export class CapacityMismatch extends Schema.TaggedError<CapacityMismatch>("effect-dlock/LockError/CapacityMismatch")(
  "CapacityMismatch",
  {
    /** The key as the caller gave it, without the prefix. */
    key: Schema.String,
    /** The capacity that was requested. */
    requested: Schema.Int
  }
) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** The capacity that was requested. */
  declare readonly requested: number

  override get message(): string {
    return `The key ${
      named(this.key)
    } is in use with a capacity other than ${this.requested}: do different kinds of lock share it?`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(CapacityMismatch)(this), this)
  }
}

/**
 * The errors of a call that waits for a lock.
 *
 * @category errors
 * @since 0.1.0
 */
export type AcquireError = LockTimeout | LockAlreadyHeld | LockBackendError | InvalidLockRequest

/**
 * All errors of this package.
 *
 * @category errors
 * @since 0.1.0
 */
export type LockError = AcquireError | OwnershipLost | LockNotHeld | CapacityMismatch

// The message is a getter, so the encoded fields do not contain it. Decoding ignores it.
const withMessage = (encoded: object, error: Error): unknown => ({ ...encoded, message: error.message })
