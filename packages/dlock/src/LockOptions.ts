/**
 * What a call and a locker may ask for.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"

/**
 * What one call may ask for. An option that is not in this list is refused with `InvalidLockRequest`.
 *
 * @category options
 * @since 0.1.0
 */
export interface TryLockOptions {
  /**
   * For how long the lock stands without a renewal: the longest time for which others wait after this process has died,
   * and the longest outage of the backend that a holder survives. At least 100 milliseconds; a second or more is
   * advised. The layer's `defaultTtl` (30 seconds) unless given.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * By how much the backend keeps the lock longer than the holder believes in it: the time that an interrupted program
   * has to wind down before anyone else is in. The larger of 100 milliseconds and a tenth of the ttl unless given.
   */
  readonly guardGap?: Duration.Input | undefined
  /** Told to whoever times out on this lock. At most 1,024 bytes as JSON; no place for secrets. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

/**
 * What one call that may wait may ask for.
 *
 * @category options
 * @since 0.1.0
 */
export interface LockOptions extends TryLockOptions {
  /**
   * How long to wait for the lock before `LockTimeout`, or `LockBackendError` where the backend does not answer; kept to
   * a tenth of a second. Without it, for as long as the lock takes; then a backend that is away is an error within five
   * seconds, and for whoever has a place in the queue when nothing was heard for the `ttl`.
   */
  readonly timeout?: Duration.Input | undefined
}

/**
 * What a locker goes by. Everything else is said per call.
 *
 * @category options
 * @since 0.1.0
 */
export interface LockerOptions {
  /** Stands before every key at the backend. `dlock:` unless given. */
  readonly prefix?: string | undefined
  /** The `ttl` of a call that names none. 30 seconds unless given. */
  readonly defaultTtl?: Duration.Input | undefined
  /** The `guardGap` of a call that names none. */
  readonly guardGap?: Duration.Input | undefined
  /** How this process is named to others. Host and process id unless given; no braces. */
  readonly holder?: string | undefined
}
