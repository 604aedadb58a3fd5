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
 * | `LockTimeout` | other holders had the key for the whole `timeout`, or too many wait | try later, or show the holder |
 * | `LockAlreadyHeld` | the caller already holds this lock | fix the caller: pass the lease down, or re-enter |
 * | `LockNotHeld` | a lease was used after its release | fix the caller |
 * | `LockBackendError` | the store could not be reached, or refused | retry later; nothing is held |
 * | `InvalidLockRequest` | no store could honour the key or an option | fix the caller; nothing was sent |
 * | `CapacityMismatch` | the key is in use by another kind of lock | use one kind of lock for each key |
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Inspectable from "effect/Inspectable"
import * as Schema from "effect/Schema"
import { readWriteCapacity } from "./internal/capacity.ts"

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
 * - `Revoked`: the lock was taken away on purpose, its locker was closed, or a defect ended its renewals. After
 *   `Locker.revoke`, `OwnershipLost.revocation` says by whom and why, and the lock was kept while its program ended.
 * - `MaxHold`: the lock was held for as long as its `maxHold` allowed. It was kept while its program ended, for at most
 *   the guard gap.
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
  MaxHold: "it was held for as long as its maxHold allowed"
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
    lastConfirmedAgo: Schema.DurationFromMillis,
    /** By whom the lock was revoked, and why. Absent if it was lost in another way. */
    revocation: Schema.optionalKey(Schema.Struct({ by: Schema.String, why: Schema.optionalKey(Schema.String) }))
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
  /** By whom the lock was revoked (see `Locker.revoke`), and why. Absent if it was lost in another way. */
  declare readonly revocation?: { readonly by: string; readonly why?: string }

  override get message(): string {
    const why = this.revocation === undefined ? explained[this.reason] : wordsOfRevocation(this.revocation)
    return `Lost the lock ${named(this.key)} (${this.reason}): ${why}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(OwnershipLost)(this), this)
  }
}

const wordsOfRevocation = ({ by, why }: NonNullable<OwnershipLost["revocation"]>): string =>
  `it was revoked by ${by}${why === undefined ? "" : `: ${why}`}`

/**
 * The kinds of lock, as a Schema: `mutex`, `semaphore` and `readWrite`.
 *
 * @category errors
 * @since 0.1.0
 */
export const LockKind = Schema.Literals(["mutex", "semaphore", "readWrite"])

/**
 * A kind of lock: a mutex, a semaphore or a read-write lock.
 *
 * @category errors
 * @since 0.1.0
 */
export type LockKind = typeof LockKind.Type

/**
 * Other holders had the lock for the whole `timeout`, or too many callers waited for it already. The claim has been
 * withdrawn and is no longer in the queue.
 *
 * **Details**
 *
 * `holder` and `metadata` describe the holder that the store named last. They are absent if it named none, for example
 * because the holder is a client of another library. `queueLength` counts the claims that waited at the end, this one
 * included.
 *
 * `maxQueue` is there if the call did not wait, because as many claims waited already as its option `maxQueue` allows.
 * Then `queueLength` counts those others.
 *
 * Of several locks, `key` is the first one that was still missing, and `acquired` of the `wanted` locks were there. They
 * have been released.
 *
 * `deadlock` is there if the caller held other locks and the store showed that it waited for itself: the holder of what
 * it waited for waited in turn for what the caller held. Acquire such locks together, with `withLocks`.
 *
 * **Gotchas**
 *
 * A deadlock is looked for only after the timeout, and as well as the time allows. Without `deadlock` there may still be
 * one.
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
  /** How many claims waited at the end, this one included. With `maxQueue`, how many others waited. */
  queueLength: Schema.Int,
  /** How many of several locks were there when the time ended. Absent if the caller asked for one. */
  acquired: Schema.optionalKey(Schema.Int),
  /** How many locks the caller asked for. Absent if it asked for one. */
  wanted: Schema.optionalKey(Schema.Int),
  /** The circle of callers that waited for one another. Absent if none was found. */
  deadlock: Schema.optionalKey(
    Schema.Array(Schema.Struct({ key: Schema.String, kind: LockKind, holder: Schema.String }))
  ),
  /** How many may wait by the caller's `maxQueue`. Present if the call failed because as many waited already. */
  maxQueue: Schema.optionalKey(Schema.Int)
}) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** How long the caller waited. */
  declare readonly waited: Duration.Duration
  /** The name of the holder. Absent if the store named none, for example for a client of another library. */
  declare readonly holder?: string
  /** The `metadata` option of that holder. Absent if it gave none. */
  declare readonly metadata?: { readonly [name: string]: string }
  /** How many claims waited at the end, this one included. With `maxQueue`, how many others waited. */
  declare readonly queueLength: number
  /** How many of several locks were there when the time ended. Absent if the caller asked for one. */
  declare readonly acquired?: number
  /** How many locks the caller asked for. Absent if it asked for one. */
  declare readonly wanted?: number
  /**
   * The circle of callers that waited for one another. Each holder waited for the lock of the next entry. The first lock
   * is one that this caller waited for, and the last holder is this caller. Absent if none was found.
   *
   * If one of the locks is a semaphore, another holder may give back a permit, so it is perhaps no deadlock.
   */
  declare readonly deadlock?: ReadonlyArray<{ readonly key: string; readonly kind: LockKind; readonly holder: string }>
  /** How many may wait by the caller's `maxQueue`. Present if the call failed because as many waited already. */
  declare readonly maxQueue?: number

  override get message(): string {
    const who = this.holder === undefined ? "" : `: ${this.holder} holds it`
    const waited = Math.round(Duration.toMillis(this.waited))
    const which = this.wanted === undefined ? "" : `, with ${this.acquired} of ${this.wanted} locks there`
    if (this.maxQueue !== undefined) {
      return `Too many wait for the lock ${
        named(this.key)
      }${who} (${this.queueLength} waiting, maxQueue ${this.maxQueue})${which}`
    }
    return `Timed out after ${waited} ms waiting for the lock ${
      named(this.key)
    }${who} (${this.queueLength} waiting)${which}${this.deadlock === undefined ? "" : wordsOfDeadlock(this.deadlock)}`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(LockTimeout)(this), this)
  }
}

const wordsOfDeadlock = (circle: NonNullable<LockTimeout["deadlock"]>): string => {
  const steps = circle.map(({ holder, key }, index) =>
    `${named(key)}${index === 0 ? " is" : ","} held by ${index === circle.length - 1 ? "this caller" : holder}`
  )
  const what = circle.some(({ kind }) => kind === "semaphore") ? "Perhaps a deadlock" : "A deadlock"
  return `. ${what}: ${steps.join(", which waits for ")}. Acquire these locks together with withLocks`
}

/**
 * The caller asked for a lock that it already holds, in an enclosing section or in its own scope. Waiting for it would
 * never end.
 *
 * **Details**
 *
 * `fencingToken` is the token of the lease that holds the lock. Use that lease instead, or let the call re-enter with the
 * option `reentrant`.
 *
 * `held` says for what a read-write lock is held. A read lock cannot become a write lock, because two readers that both
 * wait for that would wait for ever: release it, take the write lock, and read again.
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
    fencingToken: Schema.BigIntFromString,
    /** For what a read-write lock is held. Absent for other kinds of lock. */
    held: Schema.optionalKey(Schema.Literals(["read", "write"]))
  }
) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** The token of the lease that holds the lock. */
  declare readonly fencingToken: bigint
  /** For what a read-write lock is held. Absent for other kinds of lock. */
  declare readonly held?: "read" | "write"

  override get message(): string {
    if (this.held === "read") {
      return `The lock ${
        named(this.key)
      } is held for reading by this section or scope, and a read lock cannot become a write lock: release it, take the write lock, and read again`
    }
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

const Operation = Schema.Literals([
  "connect",
  "acquire",
  "wait",
  "renew",
  "release",
  "raise",
  "inspect",
  "list",
  "watch",
  "revoke",
  "break"
])

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
  raise: "raise the token epoch",
  inspect: "inspect",
  list: "list locks for",
  watch: "watch",
  revoke: "revoke",
  break: "break"
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
 * `parameter` names the invalid part: `key`, an option such as `ttl` or `maxQueue`, `permits`, `capacity`, or an option
 * that does not exist.
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
   * What is invalid: `key`, an option such as `ttl` or `maxQueue`, `permits`, `capacity`, or an option that does not
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

const nameOf: { readonly [kind in LockKind]: (capacity: number) => string } = {
  mutex: () => "a mutex",
  semaphore: (capacity) => `a semaphore of ${capacity}`,
  readWrite: () => "a read-write lock"
}

/**
 * The key is in use by another kind of lock, for example by a mutex where a semaphore was asked for. Nothing is held.
 *
 * **Details**
 *
 * Use one kind of lock for each key. The error lasts only while a lock of the other kind is held or waited for.
 *
 * Two capacities of a semaphore are no error: the smallest rules, so that a capacity can change while a fleet is
 * restarted. Only a semaphore with `onCapacityChange: "fail"` fails then.
 *
 * @category errors
 * @since 0.1.0
 */
export class CapacityMismatch extends Schema.TaggedError<CapacityMismatch>("effect-dlock/LockError/CapacityMismatch")(
  "CapacityMismatch",
  {
    /** The key as the caller gave it, without the prefix. */
    key: Schema.String,
    /** The capacity that was requested: 1 for a mutex. */
    requested: Schema.Int,
    /** The capacity in use: 1 for a mutex. */
    inUse: Schema.Int,
    /** The kind of lock that uses the key. A client of another library counts as a mutex. */
    kind: LockKind
  }
) {
  /** The key as the caller gave it, without the prefix. */
  declare readonly key: string
  /** The capacity that was requested: 1 for a mutex. */
  declare readonly requested: number
  /** The capacity in use: 1 for a mutex. */
  declare readonly inUse: number
  /** The kind of lock that uses the key. A client of another library counts as a mutex. */
  declare readonly kind: LockKind

  override get message(): string {
    const requested = this.requested === readWriteCapacity ? "a read-write lock" : `a capacity of ${this.requested}`
    return `The key ${named(this.key)} is in use by ${
      nameOf[this.kind](this.inUse)
    } (requested: ${requested}): do different kinds of lock share it?`
  }
  override toJSON(): unknown {
    return withMessage(Schema.encodeSync(CapacityMismatch)(this), this)
  }
}

/**
 * The errors of a call that does not wait for a lock.
 *
 * @category errors
 * @since 0.1.0
 */
export type TryError = LockAlreadyHeld | LockBackendError | InvalidLockRequest | CapacityMismatch

/**
 * The errors of a call that waits for a lock.
 *
 * @category errors
 * @since 0.1.0
 */
export type AcquireError = TryError | LockTimeout

/**
 * The errors of a call that waits for permits, for a read lock or for a write lock: another name of `AcquireError`.
 *
 * @category errors
 * @since 0.1.0
 */
export type TakeError = AcquireError

/**
 * All errors of this package.
 *
 * @category errors
 * @since 0.1.0
 */
export type LockError = AcquireError | OwnershipLost | LockNotHeld

// The message is a getter, so the encoded fields do not contain it. Decoding ignores it.
const withMessage = (encoded: object, error: Error): unknown => ({ ...encoded, message: error.message })
