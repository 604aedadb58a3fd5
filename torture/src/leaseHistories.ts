import type { Recorded } from "./events.ts"
import { findImpossible, findOverfull, type Hold, type Operation } from "./linearizability.ts"
import { downgraded, type LockShape, mutex } from "./lockShape.ts"

/** What one holder was told of one lease, from when to when. */
interface LeaseHistory {
  readonly who: string
  readonly key: string
  readonly lock: LockShape
  readonly operations: Array<Operation>
  readonly acquiredAt: number
  /** When it began to work as a reader. */
  downgradedAt: number | undefined
  /** From when it counts, and when it was known to be over. */
  readonly since: number
  /** When it last found that it holds, or asked. */
  last: number
  over: number | undefined
}

interface Loss {
  readonly keys: "all" | ReadonlyArray<string>
  readonly from: number
  to: number
}

/** Milliseconds after which what a backend forgot is heard of by nobody any more. */
const margin = 250

/** What the holders of a run were told, key by key. Leases that the backend may have forgotten are left out. */
export class LeaseHistories {
  private readonly all = new Map<string, LeaseHistory>()
  private readonly losses = new Map<number, Loss>()

  add(event: Recorded): void {
    switch (event.t) {
      case "acquired": {
        const { age, asked, at, id, key, lock = mutex, who } = event
        const operations: Array<Operation> = [{ kind: "acquire", holder: id, from: asked, to: at }]
        this.all.set(id, {
          who,
          key,
          lock,
          operations,
          acquiredAt: at,
          downgradedAt: undefined,
          since: at - age,
          last: asked,
          over: undefined
        })
        return
      }
      case "enter":
      case "step":
      case "downgrade":
      case "exit": {
        const history = this.all.get(event.id)
        if (history === undefined || event.held === undefined) return
        if (event.t === "downgrade") history.downgradedAt = event.held[0]
        const [from, to] = event.held
        history.operations.push({ kind: "holds", holder: event.id, from, to })
        history.last = from
        return
      }
      case "lost":
        return this.recordEnd(event.id, event.at)
      case "ended":
        return event.id === undefined ? undefined : this.recordEnd(event.id, event.at)
      case "gone":
        for (const [id, { who }] of this.all) if (who === event.who) this.recordEnd(id, event.arrived)
        return
      case "fault":
        if (event.forgets.length > 0) this.losses.set(event.n, { keys: event.forgets, from: event.from, to: Infinity })
        return
      case "healed": {
        const loss = this.losses.get(event.n)
        if (loss !== undefined) loss.to = event.to + margin
      }
    }
  }

  /** How many leases were looked at, and what cannot have come from a lock. */
  check(): { readonly leases: number; readonly wrong: ReadonlyArray<string> } {
    const remembered = Array.from(this.all.values()).filter((one) => !this.hasBeenForgotten(one))
    const wrong: Array<string> = []
    for (const [key, of] of Map.groupBy(remembered, (one) => one.key)) {
      if (of[0]!.lock.kind !== "mutex") {
        const found = findOverfull(of.flatMap((one) => this.holdsOf(one)))
        if (found !== undefined) wrong.push(`${key}: ${found.holder} and others surely had more permits than there are`)
        continue
      }
      const found = findImpossible(of.flatMap((one) => one.operations))
      if (found === undefined) continue
      const { holder, kind, to } = found
      wrong.push(`${key}: no order explains what ${holder} (${kind}) and others were told until ${to.toFixed(0)}`)
    }
    return { leases: remembered.length, wrong }
  }

  private holdsOf({ acquiredAt, downgradedAt, last, lock, operations }: LeaseHistory): ReadonlyArray<Hold> {
    const { holder } = operations[0]!
    const hold = ({ capacity, permits }: LockShape, from: number, to: number) => ({
      holder,
      permits,
      capacity,
      from,
      to
    })
    return downgradedAt === undefined
      ? [hold(lock, acquiredAt, last)]
      : [hold(lock, acquiredAt, downgradedAt), hold(downgraded(lock), downgradedAt, last)]
  }

  /** It is over at some moment since it was last found to be held. */
  private recordEnd(id: string, at: number): void {
    const history = this.all.get(id)
    if (history === undefined || history.over !== undefined) return
    history.over = at
    history.operations.push({ kind: "end", holder: id, from: history.last, to: Math.max(at, history.last) })
  }

  private hasBeenForgotten({ key, over = Infinity, since }: LeaseHistory): boolean {
    for (const { from, keys, to } of this.losses.values()) {
      if (from <= over && to >= since && (keys === "all" || keys.includes(key))) return true
    }
    return false
  }
}
