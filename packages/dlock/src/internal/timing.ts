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
 * A holder believes from the sending of the request that was confirmed last until `ttl` after it. It renews when a third of
 * that is over; a renewal may take a sixth, so that two more tries fit before the deadline. The backend keeps the claim for
 * `guardGap` longer: in that time an interrupted program winds down before anybody else is let in.
 */

/** How long after its confirmation a claim is renewed. */
export const renewalAfter = (ttl: number): number => ttl / 3

/** What one renewal may take. */
export const renewalTimeout = (ttl: number): number => Math.ceil(ttl / 6)

/** After which pause a renewal that failed is tried again, at most. */
export const renewalRetryAfter = (ttl: number): number => ttl / 10

/** The guard gap of a call that names none: timers are late, and the larger the lease the more a clock may drift in it. */
export const guardGap = (ttl: number): number => Math.max(100, ttl / 10)

/** What a call about a claim may take, so that there is time for another. */
export const callTimeout = (ttl: number): number => ttl / 3

/** For how long a backend that does not answer, or does not keep what it granted, is asked for a claim. */
export const acquirePatience = (ttl: number): number => Math.min(callTimeout(ttl), 3_000)

/** The same for one that is not to wait: it ends within a second. */
export const tryPatience = 900

/** The pause before a claim is asked for again. */
export const acquireRetryAfter = (ttl: number): number => Math.min(ttl / 30, 100)

/** For how long a scope's end is held up by a backend that does not answer. */
export const releaseTimeout = (ttl: number): number => Math.min(callTimeout(ttl), longestRelease)

/** The longest that a backend which does not answer holds anything up at the end. */
export const longestRelease = 2_000

/** The pause before a withdrawal that was not answered is tried again, while its caller waits for it. */
export const hastyReleaseRetryAfter = (ttl: number): number => releaseTimeout(ttl) / 20

/** The same behind the caller's back. */
export const releaseRetryAfter = (ttl: number): number => Math.min(ttl / 10, 500)
