/**
 * Every fraction of a time to live in this backend, in milliseconds. The core's are in its own `timing.ts`, with the picture.
 * A lease's time is whole seconds, and as long as that of the claims on it and their guard gap together.
 *
 * ```
 * lease confirmed                                                             lease over
 *  |-- fresh: grants count --|- a claim's renewal -|- the loop's -- tried again, each time ttl/20 later --|
 *  0                       ttl/3       ..        0.4 ttl                                                 ttl
 * ```
 */

/** For how long after its confirmation a grant counts on a lease: two thirds of its time are left then. */
export const freshFor = (ttl: number): number => ttl / 3

/** When a lease is looked after that no renewal of a claim on it has looked after: a little later than those do. */
export const leaseDueAfter = (ttl: number): number => ttl * 0.4

/** The pause before a lease of which nothing was heard is looked after again. */
export const leaseRetryAfter = (ttl: number): number => ttl / 20

/** What one call about a lease may take: short enough for another while it still stands. */
export const leaseTimeout = (ttl: number): number => ttl / 3

/** After how long a waiting claim for permits looks where nothing has told it to. */
export const pollAfter = (ttl: number): number => Math.min(10_000, Math.max(1_000, ttl / 3))

/** The pause before a look that brought no answer is repeated. */
export const pollRetryAfter = (ttl: number): number => Math.min(ttl / 10, 500)
