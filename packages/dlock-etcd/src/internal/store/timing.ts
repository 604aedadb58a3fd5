/**
 * Every fraction of a ttl in this backend, in milliseconds. The core's fractions are in its own `timing.ts`, with a picture.
 * The ttl of a lease is the ttl of its claims plus their guard gap, rounded up to whole seconds.
 *
 * ```
 * lease confirmed                                                             lease over
 *  |-- fresh: grants count --|- a claim's renewal -|- the loop's -- tried again, each time ttl/20 later --|
 *  0                       ttl/3       ..        0.4 ttl                                                 ttl
 * ```
 */

/**
 * How long after its confirmation a lease is fresh, so that claims may be granted on it. Then two thirds of the ttl are left.
 */
export const freshFor = (ttl: number): number => ttl / 3

/** How long after its confirmation the loop confirms a lease. Renewals confirm a lease too, and a little earlier. */
export const leaseDueAfter = (ttl: number): number => ttl * 0.4

/** The pause before an unanswered confirmation of a lease is repeated. */
export const leaseRetryAfter = (ttl: number): number => ttl / 20

/** How long one call about a lease may take: short enough for a second call while the lease is alive. */
export const leaseTimeout = (ttl: number): number => ttl / 3

/** The pause before an unanswered look is repeated. */
export const pollRetryAfter = (ttl: number): number => Math.min(ttl / 10, 500)
