/**
 * The options of a call and the options of a locker.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"

/**
 * The options of a call that does not wait for the lock.
 *
 * **Gotchas**
 *
 * A call with an option that is not in this list fails with `InvalidLockRequest`.
 *
 * @category options
 * @since 0.1.0
 */
export interface TryLockOptions {
  /**
   * How long the lock lasts without a renewal. Other processes wait at most this long, plus the guard gap, after this
   * process dies. A backend outage that is longer loses the lock.
   *
   * At least 100 milliseconds; 1 second or more is recommended. Default: the locker's `defaultTtl`.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long the backend keeps the lock after the holder's own deadline. In this time an interrupted program can clean
   * up before another process gets the lock. Default: the locker's `guardGap`.
   */
  readonly guardGap?: Duration.Input | undefined
  /**
   * Facts about this holder. Every caller that times out on this lock reads them in its `LockTimeout`, so put no
   * secrets here. At most 1,024 bytes as JSON.
   */
  readonly metadata?: Readonly<Record<string, string>> | undefined
  /**
   * Whether a call inside of what already holds this lock re-enters it, instead of failing with `LockAlreadyHeld`. It
   * then sends nothing and shares the lease that is there. It ends with its own program, and the lock is released with
   * the outermost. Where the lock is not held, the call acquires it as usual.
   *
   * A call that re-enters fails with `InvalidLockRequest` if it also gives `ttl`, `guardGap` or `metadata`, because
   * these belong to the outer call. Its `timeout` plays no part.
   *
   * It means "I am inside", not "I am alone": two fibers of one section that both re-enter run side by side. Use a
   * `Semaphore` of Effect between them.
   *
   * Default: false.
   */
  readonly reentrant?: boolean | undefined
  /**
   * How long the lock may be held, counted from its grant. Then the program is interrupted while the lock is still held
   * and renewed, the lock is released when the program has ended, and the call fails with `OwnershipLost`, whose reason
   * is `MaxHold`.
   *
   * If the program has not ended within the guard gap, the renewals stop, and the lock runs out. So nobody waits for a
   * holder longer than `maxHold` and `ttl` and twice the guard gap. A warning is logged after four fifths of it.
   *
   * A program that ends before it is interrupted keeps its result. Default: the locker's `maxHold`. `"Infinity"` lifts it.
   */
  readonly maxHold?: Duration.Input | undefined
  /**
   * Under which name metrics count the lock: their attribute `lock`. Give one name to all keys of a purpose, such as
   * `inventory`. At most 200 characters, without braces and control characters. A locker uses at most 100 names, and counts
   * the locks of all later ones under `other`.
   *
   * Default: the name of a typed lock, and otherwise none.
   */
  readonly name?: string | undefined
}

/**
 * The options of a call that waits for the lock.
 *
 * @category options
 * @since 0.1.0
 */
export interface LockOptions extends TryLockOptions {
  /**
   * How long to wait for the lock. After that the call fails with `LockTimeout`, or with `LockBackendError` if the
   * backend does not answer. It ends within 0.1 seconds of this time.
   *
   * Default: the locker's `defaultTimeout`. `"Infinity"` waits until the lock is granted. If the backend does not answer,
   * such a call fails with `LockBackendError` within 5 seconds, or, once it has a place in the queue, after the `ttl` has
   * passed without an answer.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * How many callers of all processes may wait before this one. If that many wait on the key already, the call fails at
   * once with `LockTimeout`, and leaves nothing in the queue. The holder does not count, so `0` never waits at all, and
   * `1` waits only for the holder. A whole number. Default: no limit.
   *
   * Of several locks, it limits each queue, and one full queue fails the call.
   */
  readonly maxQueue?: number | undefined
}

/**
 * The options of a locker: the settings that all its locks share.
 *
 * @category options
 * @since 0.1.0
 */
export interface LockerOptions {
  /** The text that the locker puts before every key at the backend. Default: `dlock:`. */
  readonly prefix?: string | undefined
  /** The `ttl` of a call that gives none. Default: 30 seconds. */
  readonly defaultTtl?: Duration.Input | undefined
  /** The `guardGap` of a call that gives none. Default: a tenth of the call's ttl, and at least 100 milliseconds. */
  readonly guardGap?: Duration.Input | undefined
  /**
   * The name of this process that other processes see. It contains no braces. Default: the host name and the process
   * id.
   */
  readonly holder?: string | undefined
  /** The `timeout` of a call that gives none, for programs that must never wait without end. Default: no limit. */
  readonly defaultTimeout?: Duration.Input | undefined
  /** The `maxHold` of a call that gives none. Default: no limit. */
  readonly maxHold?: Duration.Input | undefined
  /**
   * After how long a warning is logged that a caller still waits in the queue of a lock, with its place and the holder. Another
   * one follows each time that the wait has doubled. A key has at most one line in this time, and lines within a second
   * are one. `"Infinity"` logs none. Default: 10 seconds.
   */
  readonly warnAfter?: Duration.Input | undefined
}

/**
 * The options of `Locker.revoke`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RevokeOptions {
  /**
   * The token of the hold that is to end, as `Locker.inspect` tells it. If another hold has the lock by now, nothing
   * happens to it.
   */
  readonly token: bigint
  /**
   * How long the holder may go on before its program is interrupted. A second call may shorten it. Default: 0.
   */
  readonly grace?: Duration.Input | undefined
  /** Why, for the holder and its log. At most 1,024 bytes. */
  readonly why?: string | undefined
}
