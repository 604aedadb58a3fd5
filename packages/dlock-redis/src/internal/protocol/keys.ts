/** The names of a lock's keys in the server. */

/**
 * The keys of one lock, all in the same slot. Only the name of `lock` is stored, for as long as the lock is held. The
 * other names are needed only twice, so they are built on each use.
 */
export class LockKeys {
  /**
   * The key of the lock itself, `prefix + key`. It holds a plain string, so that clients of other libraries and our
   * claims exclude each other.
   */
  readonly lock: string
  /** The part of all these keys that the cluster hashes. Locks with the same part are in the same slot. */
  readonly hashed: string
  private readonly before: string

  constructor(lock: string, hashed: string, before: string) {
    this.lock = lock
    this.hashed = hashed
    this.before = before
  }

  /** The last fencing token. */
  get counter(): string {
    return `${this.before}\0f`
  }

  /** Waiting claims, by time of arrival. */
  get queue(): string {
    return `${this.before}\0q`
  }

  /** Waiting claims, by the server time at which they count as dead. */
  get deadlines(): string {
    return `${this.before}\0d`
  }

  /** The request of each waiting claim. */
  get waiters(): string {
    return `${this.before}\0w`
  }

  /**
   * Waiting claims that were passed over because their process does not listen, by time of arrival. A claim leaves this
   * key when it asks again.
   */
  get parked(): string {
    return `${this.before}\0p`
  }

  /** The inboxes of processes that observe the lock, by the server time at which they no longer do. */
  get observers(): string {
    return `${this.before}\0o`
  }

  /** Of a semaphore or a read-write lock: the holders, by the server time at which they expire. */
  get holders(): string {
    return `${this.before}\0h`
  }

  /** Of a semaphore or a read-write lock: what each holder has. */
  get values(): string {
    return `${this.before}\0v`
  }

  /** Of a semaphore or a read-write lock: the sums over all holders, so that no script has to read them all. */
  get totals(): string {
    return `${this.before}\0m`
  }

  /** The record of the last run of a job that has this lock. */
  get record(): string {
    return `${this.before}\0r`
  }

  /** The mark of a withdrawn claim, which stops a request of that claim that arrives late. */
  tombstone(id: string): string {
    return `${this.before}\0x${id}`
  }
}

/**
 * Returns the part of a lock's key that a cluster hashes, and the start of each companion key, which has the same hash.
 * Returns `undefined` if no companion key could share the lock's slot.
 *
 * A lock's key never contains NUL, and every suffix begins with NUL, so no lock has the key of a companion. The two
 * forms end in `}:` and in `::`, because with `{a}:` for both forms the locks `a` and `{a}` would share one queue.
 */
const stem = (lock: string): { readonly hashed: string; readonly before: string } | undefined => {
  if (!lock.includes("}")) return { hashed: lock, before: `{${lock}}:` }
  const open = lock.indexOf("{")
  const close = lock.indexOf("}", open + 1)
  return open >= 0 && close > open + 1 ? { hashed: lock.slice(open + 1, close), before: `${lock}::` } : undefined
}

/**
 * Returns the keys of a lock by its own key (`prefix + key`). Returns `undefined` for a key such as `a}b` or `{}a`,
 * whose keys would have no common slot.
 */
export const keysOf = (lock: string): LockKeys | undefined => {
  const found = stem(lock)
  return found && new LockKeys(lock, found.hashed, found.before)
}

/**
 * The lock that a key of the server belongs to, if it tells that the lock is held or waited for: its own key, its queue or
 * its holders. `undefined` for other keys. A key without NUL may be the lock of a client of another library, or anything
 * else: its name does not tell.
 */
export const lockOfKey = (
  key: string
): { readonly lock: string; readonly via: "lock" | "queue" | "holders" } | undefined => {
  const end = key.indexOf("\0")
  if (end < 0) return { lock: key, via: "lock" }
  const [before, suffix] = [key.slice(0, end), key.slice(end + 1)]
  const via = suffix === "q" ? "queue" : suffix === "h" ? "holders" : undefined
  const lock = before.endsWith("::") ? before.slice(0, -2) : /^\{.*\}:$/s.test(before) ? before.slice(1, -2) : undefined
  return via !== undefined && lock !== undefined && keysOf(lock)?.[via] === key ? { lock, via } : undefined
}
