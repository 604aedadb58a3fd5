/**
 * Every fraction of a time to live in this backend, in milliseconds. The core's are in its own `timing.ts`, with the picture.
 *
 * ```
 * place confirmed                                                         place over
 *  |--------- refresh ----------|--- answered, or ---|--- once more ---|      |
 *  0                          ttl/3            + ttl/4            + ttl/4    ttl
 * ```
 */

/** What one renewal may take: less than what the core gives to it, which counts for others that were not answered. */
export const renewalTimeout = (ttl: number): number => ttl / 8

/** How long after its confirmation a place in the queue is kept alive. */
export const refreshAfter = (ttl: number): number => ttl / 3

/** Places that must be kept alive within this go together with one that must now. */
export const refreshTogether = (ttl: number): number => ttl / 12

/** What a question about places may take. */
export const refreshTimeout = (ttl: number): number => ttl / 4

/** The pause before a question that brought no answer is asked again. */
export const refreshRetryAfter = (ttl: number): number => Math.min(ttl / 10, 500)

/** How often the foremost of a process asks how things stand: a message may have got lost. */
export const questionPeriod = (ttl: number): number => Math.min(refreshAfter(ttl), 2_000)

/** For how long replicas are waited for, of those milliseconds that a grant may take as a whole. */
export const replicasTimeout = (ttl: number, whole: number): number => Math.min(ttl / 10, 1_000, whole / 3)
