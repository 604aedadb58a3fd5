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
   * Default: wait until the lock is granted. If the backend does not answer, such a call fails with `LockBackendError`
   * within 5 seconds, or, once it has a place in the queue, after the `ttl` has passed without an answer.
   */
  readonly timeout?: Duration.Input | undefined
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
}
