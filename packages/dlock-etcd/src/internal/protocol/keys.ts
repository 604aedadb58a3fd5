/** The etcd keys of this library. */

/** The etcd keys of one lock. */
export interface LockKeys {
  /** The prefix of all claims of the lock. Ordered by create revision, they are the queue, as for etcd's own mutex. */
  readonly folder: Buffer
  /** The end of the range of keys with that prefix. */
  readonly folderEnd: Buffer
  /** The key of a claim. */
  readonly claim: (id: string) => Buffer
  /**
   * The key of the tombstone that stops a late request of a withdrawn claim. It contains NUL, which no caller's key contains,
   * so it is in no queue.
   */
  readonly tombstone: (id: string) => Buffer
}

/**
 * The etcd keys of a lock. `%` and `/` in the caller's key are encoded, so that no queue contains the claims of another lock:
 * otherwise `etcdctl lock a` would wait for the claims of `a/b`. The prefix is not encoded.
 */
export const lockKeys = (key: string, prefix: string): LockKeys => {
  const path = prefix + key.slice(prefix.length).replaceAll("%", "%25").replaceAll("/", "%2F")
  return {
    folder: Buffer.from(`${path}/`),
    folderEnd: Buffer.from(`${path}0`),
    claim: (id) => Buffer.from(`${path}/${id}`),
    tombstone: (id) => Buffer.from(`${path}\0${id}`)
  }
}

/** The key of the token epoch of all locks under a prefix. Like a tombstone's key, it contains NUL and is in no queue. */
export const epochKey = (prefix: string): Buffer => Buffer.from(`${prefix}\0epoch`)

/**
 * The keys by which waiting processes show that they are alive. Like a tombstone's key, they contain NUL and are in no queue.
 */
export const lifeKeysIn = (prefix: string) => (process: string): Buffer => Buffer.from(`${prefix}\0alive\0${process}`)
