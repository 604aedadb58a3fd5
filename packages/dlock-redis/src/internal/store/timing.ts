/**
 * Every fraction of a ttl in this backend, in milliseconds. The core has its own `timing.ts`, with a picture.
 *
 * ```
 * place confirmed                                                    place expires
 *  |--------- refresh ----------|--- answer limit ---|--- retry limit ---|     |
 *  0                          ttl/3               + ttl/4             + ttl/4 ttl
 * ```
 */

/**
 * How long one renewal may take. This is less than the core's limit for all of them together, because the core ignores
 * every answer when that limit passes.
 */
export const renewalTimeout = (ttl: number): number => ttl / 8

/** How long after its confirmation a place in the queue is refreshed. */
export const refreshAfter = (ttl: number): number => ttl / 3

/** A place that needs a refresh within this time joins a refresh that is due now. */
export const refreshTogether = (ttl: number): number => ttl / 12

/** How long a refresh may take. */
export const refreshTimeout = (ttl: number): number => ttl / 4

/** How long to wait after a refresh without an answer before the next attempt. */
export const refreshRetryAfter = (ttl: number): number => Math.min(ttl / 10, 500)

/** How often the foremost waiter of a process asks for its state, because a message may have been lost. */
export const questionPeriod = (ttl: number): number => Math.min(refreshAfter(ttl), 2_000)

/** How long to wait for replicas, as a part of the `whole` time that a grant may take. */
export const replicasTimeout = (ttl: number, whole: number): number => Math.min(ttl / 10, 1_000, whole / 3)
