/**
 * Every time of this package, in milliseconds, and why a runner is out of a shard before another one is in.
 *
 * ```
 * refresh sent        next refresh           it failed: entities are interrupted     deadline        expiry
 *  |---------------------|---------------------------|----------------------------------|-- guardGap --|
 *  0                  interval                  2 × interval                           ttl
 * ```
 *
 * The ttl of a shard is `shardLockExpiration`. Sharding refreshes its shards at an interval of at most a third of that, and
 * gives each refresh one interval. So it stops its entities at the latest two intervals after the last refresh that was
 * confirmed was *sent*, and they have the rest of the ttl and the guard gap to end.
 */

/** The interval at which Sharding refreshes its shards, and how long it waits for an answer. It is private there. */
export const refreshInterval = (refresh: number, ttl: number): number => Math.min(refresh, ttl / 3)

/** The guard gap if none is given, as in the locks: timers are late, and clocks drift further apart in a longer ttl. */
export const guardGap = (ttl: number): number => Math.max(100, ttl / 10)

/** How long after its last confirmation a claim of the runner itself is renewed. */
export const renewalAfter = (ttl: number): number => ttl / 3

/** The pause before an unanswered renewal or withdrawal is tried again. */
export const retryAfter = (ttl: number): number => Math.min(ttl / 30, 500)

/** How long a withdrawal may delay its caller. Sharding has no limit of its own when it shuts down. */
export const releaseTimeout = (interval: number): number => Math.min(interval, 2_000)

/**
 * How long the runner waits for the answers about shards that it asks for. Sharding waits for an interval, and then knows of
 * none that was granted: one key without an answer, or more keys than the backend can answer for in time, would cost all.
 */
export const acquireLimit = (interval: number): number => interval / 2

/**
 * Up to which age a confirmation may be reported to Sharding. It is older only if this process was paused meanwhile:
 * then it is asked for again.
 */
export const freshFor = (interval: number): number => interval

/**
 * How long a shard that was reported as acquired is renewed although Sharding has not named it in a refresh yet.
 * It resets the messages of the shard first, which may take an interval, and then names it.
 */
export const untilNamed = (interval: number): number => 2 * interval

/** With less than this left, a shard that is never extended again must be left at once. */
export const leaveBefore = (interval: number): number => 1.5 * interval
