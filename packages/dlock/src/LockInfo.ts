/**
 * What is known of a lock from outside: who holds it, and who waits for it.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Option from "effect/Option"
import type { LockKind } from "./LockError.ts"

/**
 * A hold of a lock.
 *
 * @category models
 * @since 0.1.0
 */
export interface HolderInfo {
  /** The name of the holder: the locker's option `holder`. Of a client of another library, what the backend tells. */
  readonly holder: string
  /** The option `metadata` of the holder. Empty if it gave none. */
  readonly metadata: Readonly<Record<string, string>>
  /**
   * The token of the hold. `Locker.revoke` and `Locker.breakLock` ask for it, so that they never harm the next holder. Of a
   * mutex or a writer it is the fencing token.
   */
  readonly token: bigint
  /** How many permits it holds: 1, except of a semaphore or of a writer. */
  readonly permits: number
  /** Since when it holds the lock, by the backend's clock. `None` if the backend does not know, as on etcd. */
  readonly since: Option.Option<DateTime.Utc>
  /**
   * How long the backend keeps it if it is not renewed. Infinite for the client of another library that set no expiry.
   * `None` if the backend does not know.
   */
  readonly expiresIn: Option.Option<Duration.Duration>
  /** Whether a client of another library holds it. */
  readonly foreign: boolean
  /** Whether it has been asked to leave, by `Locker.revoke`. */
  readonly revoked: boolean
}

/**
 * A caller that waits for a lock.
 *
 * @category models
 * @since 0.1.0
 */
export interface WaiterInfo {
  /** The name of the caller: its locker's option `holder`. */
  readonly holder: string
  /** The option `metadata` of the caller. Empty if it gave none. */
  readonly metadata: Readonly<Record<string, string>>
  /** How many permits it waits for. */
  readonly permits: number
  /**
   * The keys that its caller already held when it asked, at most eight, as far as the backend was told. By these one finds
   * out afterwards who waits for whom.
   */
  readonly holds: ReadonlyArray<string>
}

/**
 * What `Locker.inspect` tells of a lock: a snapshot, for people and dashboards.
 *
 * **Gotchas**
 *
 * It is old when it arrives. Never decide by it whether to enter: use `withLockIfAvailable`.
 *
 * @category models
 * @since 0.1.0
 */
export interface LockInfo {
  /** The key as callers give it, without the prefix. */
  readonly key: string
  /** `None` if nobody holds the lock or waits for it. */
  readonly kind: Option.Option<LockKind>
  /** How many permits there are: of those held, the smallest capacity. `None` if there is no kind. */
  readonly capacity: Option.Option<number>
  /** The holders, at most 100 of them. */
  readonly holders: ReadonlyArray<HolderInfo>
  /** How many holders there are. */
  readonly holderCount: number
  /** How many permits are held. */
  readonly permitsHeld: number
  /** Those that wait, in their order, at most 100 of them. */
  readonly waiting: ReadonlyArray<WaiterInfo>
  /** How many wait. */
  readonly queueLength: number
  /** The largest token that was granted, as far as the backend remembers it. */
  readonly lastToken: Option.Option<bigint>
}
