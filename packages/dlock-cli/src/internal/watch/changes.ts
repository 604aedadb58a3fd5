/** A line for each change, for files and other programs. */
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Info from "../info.ts"
import { shown } from "../shown.ts"
import { holdersOf } from "../text/lockTable.ts"
import type { Sight } from "./source.ts"

export type Kind = "held" | "waiting" | "revoked" | "free"

export interface Change {
  readonly kind: Kind
  /** Of a lock that is free: as it was seen last. */
  readonly info: LockInfo
}

interface Known {
  readonly composition: string
  readonly tokens: string
  readonly revoked: number
  readonly info: LockInfo
  readonly pass: number
}

/** Compares what is seen with what was seen before. */
export class Changes {
  private readonly known = new Map<string, Known>()
  private pass = 0

  /** The changes that this sight shows. */
  of(sight: Sight): ReadonlyArray<Change> {
    switch (sight._tag) {
      case "Seen":
        return this.seen(sight.info)
      case "Complete": {
        const gone = Array.from(this.known.values()).filter(({ pass }) => pass < this.pass)
        for (const { info } of gone) this.known.delete(info.key)
        this.pass++
        return gone.map(({ info }) => ({ kind: "free", info }))
      }
      case "Failed":
        return []
    }
  }

  private seen(info: LockInfo): ReadonlyArray<Change> {
    const before = this.known.get(info.key)
    if (info.holderCount === 0 && info.queueLength === 0) {
      this.known.delete(info.key)
      return before === undefined ? [] : [{ kind: "free", info: before.info }]
    }
    const tokens = info.holders.map(({ token }) => String(token)).join(" ")
    const revoked = info.holders.filter((holder) => holder.revoked).length
    const composition = `${tokens}|${info.holderCount}|${info.queueLength}|${revoked}`
    // The details are kept for the last line only.
    const brief = { ...info, waiting: [], holders: info.holders.slice(0, 1) }
    this.known.set(info.key, { composition, tokens, revoked, info: brief, pass: this.pass })
    if (before?.composition === composition) return []
    if (before !== undefined && revoked > before.revoked) return [{ kind: "revoked", info }]
    return [{ kind: before?.tokens !== tokens && info.holderCount > 0 ? "held" : "waiting", info }]
  }
}

export const toJson = ({ info, kind }: Change, at: Date): unknown => ({
  at: at.toISOString(),
  change: kind,
  ...(kind === "free" ? { key: info.key } : Info.toJson(info) as object)
})

/** `14:03:07.123 held nightly-report by worker-3 (token 17), 3 wait` */
export const toText = ({ info, kind }: Change, at: Date): string => {
  const time = at.toISOString().slice(11, 23)
  const [first] = info.holders
  const by = first === undefined ? "" : ` by ${holdersOf(info)} (token ${first.token})`
  const queue = info.queueLength === 0 ? "" : `, ${info.queueLength} wait`
  return `${time} ${kind.padEnd(7)} ${shown(info.key)}${kind === "free" ? "" : by + queue}`
}
