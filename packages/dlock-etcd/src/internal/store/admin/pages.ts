/** Reads the names in a large range in parts that cost the server little. */

import type { IRequestOp } from "etcd3"
import * as Admin from "../../protocol/adminTransactions.ts"
import type { Range } from "../../protocol/clauses.ts"

/**
 * The parts of a range, one after another. The server counts all keys of the range that it is asked for, however few it returns.
 * So where many keys follow, a part ends where the first bytes of the next key change. Only a few parts are large: the first one,
 * and those in which it turns out how the keys go on.
 */
export class Pages {
  private start: Buffer
  /** Very many keys begin with these bytes, and so with any part of them. */
  private crowd: Buffer | undefined
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
    if (first !== undefined && last !== undefined && count > kvs.length) {
      this.start = behind ?? Admin.after(last)
      if (count > mostCounted) this.crowd = first.subarray(0, commonLength(first, last))
    } else {
      // Where nothing is, the next part may be larger.
      if (first === undefined) {
        this.crowd = this.crowd?.subarray(0, Math.max(0, commonLength(this.start, this.crowd) - 1))
      }
      this.start = behind !== undefined && isBefore(end, behind) ? behind : end
    }
    return isBefore(this.start, this.to)
  }

  private get end(): Buffer {
    const { crowd, start, to } = this
    if (crowd === undefined) return to
    const end = Admin.beginningWith(start.subarray(0, commonLength(start, crowd) + 1)).to
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

/** With more keys than this in a part, the next parts are smaller. */
const mostCounted = 2_000
