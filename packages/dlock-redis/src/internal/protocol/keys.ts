/**
 * The keys of one lock. All hash to one slot. Companions are put together when they are asked for: a name is kept for as
 * long as a lock is held, its companions are needed twice.
 */
export class Names {
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

  /** The mark that a claim is cancelled. */
  mark(id: string): string {
    return `${this.before}\0x${id}`
  }
}

/**
 * What a cluster hashes of a lock's name, and the part of a companion key before its suffix, which hashes alike;
 * `undefined` where no companion would share the lock's slot.
 *
 * A lock's name never holds NUL and each suffix begins with it, so no lock is named like a companion. `}:` and `::`
 * end the two forms differently: `{a}:` for both would give the locks `a` and `{a}` one queue.
 */
const stem = (name: string): { readonly hashed: string; readonly before: string } | undefined => {
  if (!name.includes("}")) return { hashed: name, before: `{${name}}:` }
  const open = name.indexOf("{")
  const close = name.indexOf("}", open + 1)
  return open >= 0 && close > open + 1 ? { hashed: name.slice(open + 1, close), before: `${name}::` } : undefined
}

/** The keys of the lock `name` (`prefix + key`), or `undefined` where they have no common slot: `a}b`, `{}a`. */
export const names = (name: string): Names | undefined => {
  const found = stem(name)
  return found && new Names(name, found.hashed, found.before)
}
