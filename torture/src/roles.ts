// Who takes part in a campaign, as far as the servers' side must know of it.

/**
 * Milliseconds that those ask for who die behind a holder. Their claims live for longer than it takes to know of their death, however long
 * ago they were last kept alive, so that who passes them over is told from who waits for their end.
 */
export const longDoomed = 12_000

/** Those who ask for many keys. */
export const workers = 6

/**
 * Whether etcd's own proxy is before this worker, in all of its lives, each of which counts a hundred: half of those who ask for
 * many keys, no crowd, and not the quiet worker. So there is a key that all come to directly.
 */
export const isBehindProxy = (index: number): boolean => index % 100 < workers && index % 2 === 1
