/**
 * Every error that a user of a lock can meet. Each is a tagged class: catch it by its tag, read its fields, log it as
 * JSON (`JSON.stringify(error)`), or send it on by its Schema: all of them survive the round trip.
 *
 * | error | when | what to do |
 * |---|---|---|
 * | `OwnershipLost` | the lock was ours and no longer is | stop; let the protected resource check the fencing token |
 * | `LockTimeout` | another holder kept the key for the whole `timeout` | try later, or show who holds it |
 * | `LockAlreadyHeld` | the caller is already inside this very lock | a bug in the caller: pass the lease down instead |
 * | `LockNotHeld` | a lease is used after its release | a bug in the caller |
 * | `LockBackendError` | the store could not be reached, or refused | retry later; nothing is held |
 * | `InvalidLockRequest` | a key or an option that no store could honour | a bug in the caller; nothing was sent |
 * | `CapacityMismatch` | reserved: the key is in use with another number of permits | one meaning a key |
 */
import * as Duration from "effect/Duration"
import * as Inspectable from "effect/Inspectable"
import * as Schema from "effect/Schema"

/**
 * Why a lease ended.
 *
 * - `Expired`: the backend no longer has it (it ran out, or somebody deleted it).
 * - `Replaced`: the backend says that another holder has the key.
 * - `Unreachable`: the deadline passed while the backend was silent or failing.
 * - `Stalled`: this process was late: its own timer ran past the deadline, the machine slept, or its clock was stepped
 *   forward by more than the `ttl`.
 * - `Revoked`: it was taken away on purpose, the locker was closed with it in hand, or a defect ended its renewals.
 * - `MaxHold`: it was held for longer than its holder allowed itself. Reserved: nothing limits a hold yet.
 *
 * @category errors
 * @since 0.1.0
 */
export const LossReason = Schema.Literals(["Expired", "Replaced", "Unreachable", "Stalled", "Revoked", "MaxHold"])

/**
 * One of the reasons why a lease ended: see the values of the same name.
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
 * The lock was ours and no longer is: whoever still works under it must stop. `withLock` has already interrupted its
 * program when this error appears.
 *
 * `fencingToken` is what a protected resource compares: it refuses a writer whose token is older than one that it has
 * seen. `lastConfirmedAgo` is how long before the loss the backend's last confirmation had been asked for.
 *
 * @category errors
 * @since 0.1.0
 */
export class OwnershipLost extends Schema.TaggedError<OwnershipLost>("effect-dlock/LockError/OwnershipLost")(
  "OwnershipLost",
  {
    /** The key as the caller gave it, without the prefix. */
    key: Schema.String,
    /** The token of the lost lease. A protected resource refuses it once it has seen a higher one. */
    fencingToken: Schema.BigIntFromString,
    /** Why the lease ended. */
    reason: LossReason,
    /** How long before the loss the backend's last confirmation had been requested. */
    lastConfirmedAgo: Schema.DurationFromMillis
  }
) {
  /** The key as it was asked for, without the prefix. */
  declare readonly key: string
  /** The token of the lost lease: a protected resource that has seen a larger one refuses it. */
  declare readonly fencingToken: bigint
  /** Why the lock was lost. */
  declare readonly reason: LossReason
  /** How long before the loss the last confirmation had been requested from the backend. */
  declare readonly lastConfirmedAgo: Duration.Duration

  override get message(): string {
    return `Lost the lock ${named(this.key)} (${this.reason}): ${explained[this.reason]}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(OwnershipLost)(this), this)
  }
}

/**
 * The key was held by others for the whole `timeout`. The claim has been withdrawn: nothing of it is left in the queue.
 *
 * `holder` and `metadata` are those of the holder that the store last named (absent where it named none, for example a
 * client of another library); `queueLength` counts the claims that waited then, this one included.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockTimeout extends Schema.TaggedError<LockTimeout>("effect-dlock/LockError/LockTimeout")("LockTimeout", {
  /** The key as the caller gave it, without the prefix. */
  key: Schema.String,
  /** How long the caller waited. */
  waited: Schema.DurationFromMillis,
  /** The name of the holder; absent where the store named none. */
  holder: Schema.optionalKey(Schema.String),
  /** The `metadata` that the holder gave with its request, if any. */
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** How many claims waited, this one included. */
  queueLength: Schema.Int
}) {
  /** The key as it was asked for, without the prefix. */
  declare readonly key: string
  /** How long the caller waited. */
  declare readonly waited: Duration.Duration
  /** The holder that the store last named; absent where it named none, such as a client of another library. */
  declare readonly holder?: string
  /** The `metadata` of that holder. */
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
 * The caller asked for a key inside the very section that holds it, and would have waited for itself.
 *
 * `fencingToken` is the one of the lease that holds the key: use that lease instead.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockAlreadyHeld extends Schema.TaggedError<LockAlreadyHeld>("effect-dlock/LockError/LockAlreadyHeld")(
  "LockAlreadyHeld",
  {
    /** The key as the caller gave it, without the prefix. */
    key: Schema.String,
    /** The token of the lease that holds the key. */
    fencingToken: Schema.BigIntFromString
  }
) {
  /** The key as it was asked for, without the prefix. */
  declare readonly key: string
  /** The token of the lease that holds the key. */
  declare readonly fencingToken: bigint

  override get message(): string {
    return `The lock ${
      named(this.key)
    } is already held by this section or scope: use its lease, token ${this.fencingToken}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(LockAlreadyHeld)(this), this)
  }
}

/**
 * A lease was used after it had been released.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockNotHeld extends Schema.TaggedError<LockNotHeld>("effect-dlock/LockError/LockNotHeld")("LockNotHeld", {
  /** The key as the caller gave it, without the prefix. */
  key: Schema.String
}) {
  /** The key as it was asked for, without the prefix. */
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
 * The store could not be reached in time, refused, or answered with something unusable. Unlike a lock that another
 * holds, this says nothing about who holds the key; the caller does not.
 *
 * `retryable` is false for what no repetition mends: wrong credentials, a missing permission, a key of another type.
 * Where there is no connection the `cause` says why, as far as it is known. It carries the client's words without
 * passwords or arguments of commands.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockBackendError extends Schema.TaggedError<LockBackendError>("effect-dlock/LockError/LockBackendError")(
  "LockBackendError",
  {
    operation: Operation,
    key: Schema.optionalKey(Schema.String),
    /** Whether the same call may succeed later, without a change of settings. */
    retryable: Schema.Boolean,
    /** What the client of the backend said, without secrets. */
    cause: Schema.Defect()
  }
) {
  /** What was tried. */
  declare readonly operation: typeof Operation.Type
  /** The key that it was about, if it was about one. */
  declare readonly key?: string
  /** False for what no repetition mends: wrong credentials, a missing permission, a key of another type. */
  declare readonly retryable: boolean
  /** The client's own error, without passwords and arguments of commands. */
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

/** A key as it is read, cut where nobody reads on: a wrong one may be a whole document. The error has it whole. */
const named = (key: string): string =>
  key.length <= 200 ? `"${key}"` : `"${key.slice(0, 100).toWellFormed()}…" (${key.length} characters)`

/** Whatever it is: a store of somebody else's may fail with anything, and some of that has no words of its own. */
const wordsOf = (cause: unknown): string => {
  const words = typeof cause === "object" && cause !== null && "message" in cause ? cause.message : cause
  return typeof words === "string" ? words : Inspectable.toStringUnknown(words, 0)
}

/**
 * A key or an option that no store could honour. Nothing was sent.
 *
 * `parameter` names what was wrong: `key`, `ttl`, `timeout`, `guardGap`, `metadata`, `permits`, `capacity`, or the name
 * of an option that does not exist.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidLockRequest extends Schema.TaggedError<InvalidLockRequest>(
  "effect-dlock/LockError/InvalidLockRequest"
)("InvalidLockRequest", { key: Schema.String, parameter: Schema.String, problem: Schema.String }) {
  /** The key as it was asked for, without the prefix. */
  declare readonly key: string
  /** What was wrong: `key`, `ttl`, `timeout`, `guardGap`, `metadata`, `permits`, `capacity`, or an unknown option. */
  declare readonly parameter: string
  /** What is wrong with it, in words that follow its name. */
  declare readonly problem: string

  override get message(): string {
    return `Invalid lock request for ${named(this.key)}: ${this.parameter} ${this.problem}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(InvalidLockRequest)(this), this)
  }
}

/**
 * The key is in use with another capacity: a mutex and a semaphore, or two semaphores of different sizes, share a name.
 * Reserved for those: where a mutex finds that, it is an `InvalidLockRequest`.
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
  /** The key as it was asked for, without the prefix. */
  declare readonly key: string
  /** The capacity that was asked for. */
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
 * What waiting for a lock can fail with.
 *
 * @category errors
 * @since 0.1.0
 */
export type AcquireError = LockTimeout | LockAlreadyHeld | LockBackendError | InvalidLockRequest

/**
 * Every error of this package.
 *
 * @category errors
 * @since 0.1.0
 */
export type LockError = AcquireError | OwnershipLost | LockNotHeld | CapacityMismatch

// The message is a getter, so the fields alone would not carry it; decoding leaves it out again.
const withMessage = (encoded: object, error: Error): unknown => ({ ...encoded, message: error.message })
