/** The last entries of a list that only grows, in the order of their versions. */
export class Ring<Entry extends { readonly version: number }> {
  private entries: Array<Entry> = []
  private readonly size: number
  private forgotten = 0

  constructor(size: number) {
    this.size = size
  }

  push(entry: Entry): void {
    this.entries.push(entry)
    // Cut seldom, so that it costs nothing for each entry.
    if (this.entries.length < this.size * 2) return
    this.forgotten = this.entries[this.entries.length - this.size - 1]!.version
    this.entries = this.entries.slice(-this.size)
  }

  /** The last version that it has forgotten: who has seen less cannot be told what is missing. */
  get forgottenUntil(): number {
    return this.forgotten
  }

  /** The entries after one version, up to another. */
  between(after: number, until: number): ReadonlyArray<Entry> {
    let from = this.entries.length
    while (from > 0 && this.entries[from - 1]!.version > after) from--
    const found = this.entries.slice(from)
    return found.at(-1)?.version ?? 0 > until ? found.filter(({ version }) => version <= until) : found
  }
}
