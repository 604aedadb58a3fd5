/** Callbacks by key. A key of which nobody wants to know costs nothing. */
export class Listeners {
  private readonly byKey = new Map<string, Set<() => void>>()
  private readonly later: (key: string, tell: () => void) => void

  /** `later` runs a callback when the step of the memory is complete. */
  constructor(later: (key: string, tell: () => void) => void) {
    this.later = later
  }

  /** Returns the function that takes the callback back. */
  add(key: string, tell: () => void): () => void {
    const all = this.byKey.get(key) ?? new Set()
    this.byKey.set(key, all.add(tell))
    return () => {
      all.delete(tell)
      if (all.size === 0 && this.byKey.get(key) === all) this.byKey.delete(key)
    }
  }

  notify(key: string): void {
    if (this.byKey.size === 0) return
    for (const tell of this.byKey.get(key) ?? []) this.later(key, tell)
  }
}
