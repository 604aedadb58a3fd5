/**
 * What a protected resource does with fencing tokens: it remembers the largest token of each key and refuses smaller
 * ones. A step without a token is accepted: nothing distinguishes it from the holder's.
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
