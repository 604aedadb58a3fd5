/** The keys that this library uses in etcd. */

/** The etcd keys of one lock. */
export interface LockKeys {
  /** All claims of the lock stand under this prefix, in the order of their create revisions: etcd's own queue of a mutex. */
  readonly folder: Buffer
  /** The end of that range of keys. */
  readonly folderEnd: Buffer
  readonly claim: (id: string) => Buffer
  /** What a late request of a withdrawn claim meets. NUL, which no key of a caller contains, keeps it out of every queue. */
  readonly tombstone: (id: string) => Buffer
}

/**
 * `%` and `/` of a key are encoded, so that no lock's queue holds another's claims: `etcdctl lock a` would wait for the
 * claims of `a/b` otherwise. The prefix stays as it is.
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

/** The key of the token epoch of all locks under a prefix. NUL keeps it out of every queue, as it does tombstones. */
export const epochKey = (prefix: string): Buffer => Buffer.from(`${prefix}\0epoch`)

/** The keys by which waiting processes show that they live. NUL keeps them out of every queue, as it does tombstones. */
export const lifeKeys = (prefix: string) => {
  const folder = `${prefix}\0alive\0`
  return {
    first: Buffer.from(folder),
    end: Buffer.from(`${prefix}\0alive\x01`),
    of: (process: string): Buffer => Buffer.from(folder + process),
    processIn: (key: string): string => key.slice(folder.length)
  }
}
