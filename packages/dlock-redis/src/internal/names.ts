/** The keys of one lock. All hash to one slot. */
export interface Names {
  /** The lock itself, `prefix + key`: a plain string, so that other clients exclude us and are excluded. */
  readonly lock: string
  /** What is hashed of all of them. Locks that have it in common are in one slot. */
  readonly hashed: string
  /** The last fencing token. */
  readonly counter: string
  /** Waiting claims by arrival. */
  readonly queue: string
  /** Waiting claims by the server time at which they are dead. */
  readonly deadlines: string
  /** What a waiting claim wants. */
  readonly waiters: string
  /** Capacity above 1: claims by the server time at which they expire. */
  readonly holders: string
  /** Capacity above 1: what each holder holds. */
  readonly values: string
  /** The mark that a claim is cancelled. */
  readonly mark: (id: string) => string
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
  if (found === undefined) return undefined
  const companion = (suffix: string) => `${found.before}\0${suffix}`
  return {
    lock: name,
    hashed: found.hashed,
    counter: companion("f"),
    queue: companion("q"),
    deadlines: companion("d"),
    waiters: companion("w"),
    holders: companion("h"),
    values: companion("v"),
    mark: (id) => companion(`x${id}`)
  }
}
