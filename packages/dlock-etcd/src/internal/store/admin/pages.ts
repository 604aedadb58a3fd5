/** Reads the names in a large range in parts that cost the server little. */

import type { IRequestOp } from "etcd3"
import * as Admin from "../../protocol/adminTransactions.ts"
import type { Range } from "../../protocol/clauses.ts"

/**
 * The parts of a range, one after another. The server counts all keys of the range that it is asked for, however few it returns.
 * So where many keys follow, the range ends soon: where the first bytes of the next key change. `depth` is how many bytes those
 * are. Only the first part may be as large as all.
 */
export class Pages {
  private start: Buffer
  private depth = 0
  private readonly to: Buffer
  private readonly size: number

  /** `size`: how many names a part has at most. */
  constructor({ from, to }: Range, size: number) {
    this.start = from
    this.to = to
    this.size = size
  }

  /** Reads the next part. */
  read(revision?: bigint): IRequestOp {
    return Admin.readNames({ from: this.start, to: this.end }, this.size, revision)
  }

  /** The names of this part are known, or all before `behind`. Returns whether there is another part. */
  take({ count, kvs }: Admin.Found, behind?: Buffer): boolean {
    const { end } = this
    const [first, last] = [kvs[0]?.key, kvs[kvs.length - 1]?.key]
    if (last !== undefined && count > kvs.length) {
      this.start = behind ?? Admin.after(last)
      if (count > mostCounted) this.depth = commonLength(first!, last) + 1
    } else {
      this.start = behind !== undefined && isBefore(end, behind) ? behind : end
      // A part with few names was too small. The next may have 256 times as many.
      if (kvs.length < this.size / 4) this.depth = Math.max(0, this.depth - 1)
    }
    return isBefore(this.start, this.to)
  }

  private get end(): Buffer {
    const { depth, start, to } = this
    if (depth === 0) return to
    const end = Admin.beginningWith(start.subarray(0, depth)).to
    return isBefore(end, to) ? end : to
  }
}

/** The end of the range of all keys is a single zero byte. */
const isBefore = (key: Buffer, end: Buffer): boolean =>
  (end.length === 1 && end[0] === 0 && !(key.length === 1 && key[0] === 0)) || Buffer.compare(key, end) < 0

const commonLength = (one: Buffer, other: Buffer): number => {
  let length = 0
  while (length < one.length && one[length] === other[length]) length++
  return length
}

/** How many keys the server may count in a part, about. */
const mostCounted = 2_000
