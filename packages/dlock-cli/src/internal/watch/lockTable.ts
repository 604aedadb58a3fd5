import type { LockInfo } from "effect-dlock/LockInfo"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { holdersOf, shortKind } from "../text/lockTable.ts"

/** What is drawn of a lock: little, since there may be very many. */
export interface Row {
  readonly key: string
  readonly kind: string
  /** Safe to show. */
  readonly holder: string
  readonly token: bigint | undefined
  readonly holderCount: number
  readonly queueLength: number
  readonly isRevoked: boolean
  /** When the first hold runs out if it is not renewed, in milliseconds by this machine's clock. */
  readonly expiresAt: number | undefined
  /** The longest time that was left of this hold: what the bar is measured by. */
  readonly longest: number
  readonly pass: number
}

export type Sort = "key" | "time left" | "waiting" | "holder"

export const sorts: ReadonlyArray<Sort> = ["key", "time left", "waiting", "holder"]

export interface Wanted {
  readonly sort: Sort
  /** Rows whose key or holder contain this. */
  readonly filter: string
  readonly only: "all" | "held" | "waiting"
}

/** The locks as they were last seen. */
export class LockTable {
  private readonly rows = new Map<string, Row>()
  private pass = 0

  /** Whether all locks have been seen once. */
  get isComplete(): boolean {
    return this.pass > 0
  }

  see(info: LockInfo, now: number): void {
    const [first] = info.holders
    if (first === undefined && info.queueLength === 0) {
      this.rows.delete(info.key)
      return
    }
    const before = this.rows.get(info.key)
    const left = first === undefined ? undefined : Option.getOrUndefined(first.expiresIn)
    const millis = left === undefined ? undefined : Duration.toMillis(left)
    const isSameHold = before !== undefined && before.token === first?.token
    this.rows.set(info.key, {
      key: info.key,
      kind: shortKind(info),
      holder: holdersOf(info),
      token: first?.token,
      holderCount: info.holderCount,
      queueLength: info.queueLength,
      isRevoked: info.holders.some(({ revoked }) => revoked),
      expiresAt: millis === undefined ? undefined : now + millis,
      longest: Math.max(millis ?? 0, isSameHold ? before.longest : 0),
      pass: this.pass
    })
  }

  /** A pass over all locks has ended: what it did not see is gone. */
  complete(): void {
    for (const { key, pass } of this.rows.values()) if (pass < this.pass) this.rows.delete(key)
    this.pass++
  }

  counts(): { readonly locks: number; readonly held: number; readonly waiting: number } {
    let [held, waiting] = [0, 0]
    for (const { holderCount, queueLength } of this.rows.values()) {
      if (holderCount > 0) held++
      waiting += queueLength
    }
    return { locks: this.rows.size, held, waiting }
  }

  get(key: string): Row | undefined {
    return this.rows.get(key)
  }

  /** The keys to show, in their order. */
  keys({ filter, only, sort }: Wanted): ReadonlyArray<string> {
    const found: Array<Row> = []
    for (const row of this.rows.values()) {
      if (only === "held" ? row.holderCount === 0 : only === "waiting" && row.queueLength === 0) continue
      if (filter === "" || row.key.includes(filter) || row.holder.includes(filter)) found.push(row)
    }
    return found.sort(orders[sort]).map(({ key }) => key)
  }
}

type Order = (one: Row, other: Row) => number

const byKey: Order = (one, other) => one.key < other.key ? -1 : one.key > other.key ? 1 : 0

const orders: Readonly<Record<Sort, Order>> = {
  key: byKey,
  // Those that are about to run out come first; those of which it is not known last.
  "time left": (one, other) => compare(one.expiresAt ?? Infinity, other.expiresAt ?? Infinity) || byKey(one, other),
  waiting: (one, other) => compare(other.queueLength, one.queueLength) || byKey(one, other),
  holder: (one, other) => compare(one.holder, other.holder) || byKey(one, other)
}

const compare = <A extends number | string>(one: A, other: A): number => one < other ? -1 : one > other ? 1 : 0
