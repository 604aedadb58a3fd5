// What the environments must know of the workers.

/**
 * The ttl, in milliseconds, of workers that die behind a holder. It is longer than it takes to notice their death, so
 * that the checker can tell a waiter that passes them over from one that waits for their expiry.
 */
export const longDoomed = 12_000

/** How many workers use many keys. */
export const workers = 6

/**
 * Whether this worker is behind etcd's own proxy: half of the workers with many keys, no crowd, and not the quiet
 * worker, so that some keys are used without the proxy. A restarted worker has its index plus a multiple of 100.
 */
export const isBehindProxy = (index: number): boolean => index % 100 < workers && index % 2 === 1
