/** The names of a lock's keys in the server. */

/**
 * The keys of one lock. All hash to one slot. The names of its companions are put together when they are asked for: the
 * lock's own is kept for as long as the lock is held, the others are needed twice.
 */
export class LockKeys {
  /** The lock itself, `prefix + key`: a plain string, so that other clients exclude us and are excluded. */
  readonly lock: string
  /** What is hashed of all of them. Locks that have it in common are in one slot. */
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

  /** Waiting claims by arrival. */
  get queue(): string {
    return `${this.before}\0q`
  }

  /** Waiting claims by the server time at which they are dead. */
  get deadlines(): string {
    return `${this.before}\0d`
  }

  /** What a waiting claim wants. */
  get waiters(): string {
    return `${this.before}\0w`
  }

  /** Waiting claims that were passed over because their process does not listen, by arrival, until it asks again. */
  get parked(): string {
    return `${this.before}\0p`
  }

  /** Capacity above 1: claims by the server time at which they expire. */
  get holders(): string {
    return `${this.before}\0h`
  }

  /** Capacity above 1: what each holder holds. */
  get values(): string {
    return `${this.before}\0v`
  }

  /** What is left for a late request of a withdrawn claim to meet. */
  tombstone(id: string): string {
    return `${this.before}\0x${id}`
  }
}

/**
 * What a cluster hashes of a lock's key, and the part of a companion key before its suffix, which hashes alike;
 * `undefined` where no companion would share the lock's slot.
 *
 * A lock's key never holds NUL and each suffix begins with it, so no lock has the key of a companion. `}:` and `::` end
 * the two forms differently: `{a}:` for both would give the locks `a` and `{a}` one queue.
 */
const stem = (lock: string): { readonly hashed: string; readonly before: string } | undefined => {
  if (!lock.includes("}")) return { hashed: lock, before: `{${lock}}:` }
  const open = lock.indexOf("{")
  const close = lock.indexOf("}", open + 1)
  return open >= 0 && close > open + 1 ? { hashed: lock.slice(open + 1, close), before: `${lock}::` } : undefined
}

/** The keys of a lock by its own (`prefix + key`), or `undefined` where they have no common slot: `a}b`, `{}a`. */
export const keysOf = (lock: string): LockKeys | undefined => {
  const found = stem(lock)
  return found && new LockKeys(lock, found.hashed, found.before)
}
