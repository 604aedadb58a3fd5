/** The keys of one lock. All hash to one slot. */
export interface Names {
  /** The lock itself, `prefix + key`: a plain string, so that other clients exclude us and are excluded. */
  readonly lock: string
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
 * The part of a companion key before its suffix, or `undefined` where no companion would share the lock's slot.
 *
 * A lock's name never holds NUL and each suffix begins with it, so no lock is named like a companion. `}:` and `::`
 * end the two forms differently: `{a}:` for both would give the locks `a` and `{a}` one queue.
 */
const stem = (name: string): string | undefined => {
  if (!name.includes("}")) return `{${name}}:`
  const open = name.indexOf("{")
  const close = name.indexOf("}", open + 1)
  return open >= 0 && close > open + 1 ? `${name}::` : undefined
}

/** The keys of the lock `name` (`prefix + key`), or `undefined` where they have no common slot: `a}b`, `{}a`. */
export const names = (name: string): Names | undefined => {
  const before = stem(name)
  if (before === undefined) return undefined
  const companion = (suffix: string) => `${before}\0${suffix}`
  return {
    lock: name,
    counter: companion("f"),
    queue: companion("q"),
    deadlines: companion("d"),
    waiters: companion("w"),
    holders: companion("h"),
    values: companion("v"),
    mark: (id) => companion(`x${id}`)
  }
}
