/**
 * Every fraction of a time to live in the core, in milliseconds.
 *
 * ```
 * sent                                                        deadline         expiry at the backend
 *  |-- answered, within ttl/3                                     |                 |
 *  |----------- renewal ------------ (the next, if it failed) ----|---- guardGap ---|
 *  0          ttl/3 .. + ttl/6       every ttl/10, to the last   ttl         ttl + guardGap
 * ```
 *
 * A holder trusts its lock until `ttl` after the request that was last confirmed was sent. It renews after a third of
 * that time. A renewal may take a sixth, so that two more attempts fit before the deadline. The backend keeps the claim
 * for `guardGap` longer, so that an interrupted program can clean up before another holder gets the lock.
 */

/** How long after its last confirmation a claim is renewed. */
export const renewalAfter = (ttl: number): number => ttl / 3

/** How long one renewal may take. */
export const renewalTimeout = (ttl: number): number => Math.ceil(ttl / 6)

/** The longest pause before a failed renewal is tried again. */
export const renewalRetryAfter = (ttl: number): number => ttl / 10

/** The guard gap of a call that gives none. Timers are late, and clocks drift further apart in a longer lease. */
export const guardGap = (ttl: number): number => Math.max(100, ttl / 10)

/** After how long of its `maxHold` a lock that is still held is reported. */
export const holdWarningAfter = (maxHold: number): number => maxHold * 4 / 5

/** How long a call about a claim may take, so that another call fits before the deadline. */
export const callTimeout = (ttl: number): number => ttl / 3

/** The same for a call of an operator about any lock. A short ttl is no reason for it to give up soon. */
export const adminTimeout = (ttl: number): number => Math.max(1_000, callTimeout(ttl))

/** How long an acquire keeps asking a backend that does not answer, or that does not keep the claims it grants. */
export const acquirePatience = (ttl: number): number => Math.min(callTimeout(ttl), 3_000)

/** The same for a call that does not wait. It must end within 1 second. */
export const tryPatience = 900

/** The pause before a claim is requested again. */
export const acquireRetryAfter = (ttl: number): number => Math.min(ttl / 30, 100)

/** How long a silent backend may delay the end of a scope. It is short if the ttl is short. */
export const releaseTimeout = (ttl: number): number => Math.min(callTimeout(ttl), longestRelease)

/** The longest time for which a silent backend delays the end of a scope or of a locker. */
export const longestRelease = 2_000

/** The pause before an unanswered withdrawal is tried again while its caller waits. */
export const hastyReleaseRetryAfter = (ttl: number): number => releaseTimeout(ttl) / 20

/** The pause before an unanswered withdrawal is tried again after its caller went on. */
export const releaseRetryAfter = (ttl: number): number => Math.min(ttl / 10, 500)
