/**
 * What a protected resource does with fencing tokens: it remembers the largest that it has seen of each key, and
 * refuses whoever comes with a smaller one. Who has none is let in: nothing tells him from the holder.
 */
export class Fence {
  private readonly newest = new Map<string, bigint>()

  admits(key: string, token: bigint | undefined): boolean {
    if (token === undefined) return true
    if (token < (this.newest.get(key) ?? 0n)) return false
    this.newest.set(key, token)
    return true
  }
}
