import type { Recorded } from "./events.ts"
import { impossible, type Operation } from "./linear.ts"

/** What one holder believed of one lease, from when to when. */
interface Belief {
  readonly who: string
  readonly key: string
  readonly operations: Array<Operation>
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

/** What a run's holders believed, key by key, as far as its backend forgot nothing of it. */
export class Beliefs {
  private readonly all = new Map<string, Belief>()
  private readonly losses = new Map<number, Loss>()

  add(event: Recorded): void {
    switch (event.t) {
      case "acquired": {
        const { age, asked, at, id, key, who } = event
        const operations: Array<Operation> = [{ kind: "acquire", holder: id, from: asked, to: at }]
        this.all.set(id, { who, key, operations, since: at - age, last: asked, over: undefined })
        return
      }
      case "enter":
      case "step":
      case "exit": {
        const belief = this.all.get(event.id)
        if (belief === undefined || event.held === undefined) return
        const [from, to] = event.held
        belief.operations.push({ kind: "holds", holder: event.id, from, to })
        belief.last = from
        return
      }
      case "lost":
        return this.ends(event.id, event.at)
      case "ended":
        return event.id === undefined ? undefined : this.ends(event.id, event.at)
      case "gone":
        for (const [id, { who }] of this.all) if (who === event.who) this.ends(id, event.arrived)
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
  judge(): { readonly leases: number; readonly wrong: ReadonlyArray<string> } {
    const remembered = Array.from(this.all.values()).filter((one) => !this.forgot(one))
    const wrong: Array<string> = []
    for (const [key, of] of Map.groupBy(remembered, (one) => one.key)) {
      const found = impossible(of.flatMap((one) => one.operations))
      if (found === undefined) continue
      const { holder, kind, to } = found
      wrong.push(`${key}: no order of what ${holder} (${kind}) and others believed until ${to.toFixed(0)}`)
    }
    return { leases: remembered.length, wrong }
  }

  /** It is over at some moment since it was last found to be held. */
  private ends(id: string, at: number): void {
    const belief = this.all.get(id)
    if (belief === undefined || belief.over !== undefined) return
    belief.over = at
    belief.operations.push({ kind: "end", holder: id, from: belief.last, to: Math.max(at, belief.last) })
  }

  private forgot({ key, over = Infinity, since }: Belief): boolean {
    for (const { from, keys, to } of this.losses.values()) {
      if (from <= over && to >= since && (keys === "all" || keys.includes(key))) return true
    }
    return false
  }
}
