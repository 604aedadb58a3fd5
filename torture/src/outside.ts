import type { Recorded, Rule } from "./events.ts"
import type { FaultWindows } from "./faultWindows.ts"
import type { IdleLimits } from "./idle.ts"
import type { Lags } from "./lags.ts"
import { LeaderHistories, leaderKeys } from "./leaders.ts"
import type { Lease } from "./lease.ts"
import { RevocationHistories } from "./revocations.ts"

/** Reports what is wrong, at once or when all is known. */
interface Verdicts {
  /** `decide` returns false while it is too early. */
  readonly later: (at: number, decide: (last: boolean) => boolean, who?: string) => void
  readonly found: (rule: Rule, text: string, at: number) => void
}

const kinds = ["revoked", "told", "freed", "listed", "misled", "resigned", "observed", "leaderless"] as const

/** An event of operators, leaders and observers. */
type Outside = Extract<Recorded, { readonly t: typeof kinds[number] }>

const names: ReadonlySet<string> = new Set(kinds)
export const isOutside = (event: Recorded): event is Outside => names.has(event.t)

/** The process of the operator. */
const operator = "calm"

/** Checks what operators, leaders and observers tell against what holders do. */
export class OutsideChecks {
  readonly revocations: RevocationHistories
  readonly leaders: LeaderHistories
  private readonly byToken = new Map<string, Lease>()
  private readonly leases: ReadonlyMap<string, Lease>
  private readonly lags: Lags
  private readonly verdicts: Verdicts

  constructor(
    leases: ReadonlyMap<string, Lease>,
    faultWindows: FaultWindows,
    lags: Lags,
    limits: IdleLimits,
    verdicts: Verdicts
  ) {
    this.leases = leases
    this.lags = lags
    this.verdicts = verdicts
    this.revocations = new RevocationHistories(faultWindows, lags, limits)
    this.leaders = new LeaderHistories(faultWindows, lags)
  }

  add(event: Outside): void {
    const { arrived, who } = event
    switch (event.t) {
      case "revoked":
        this.revocations.add(event)
        if (event.answer === "asked") this.wasTold(event)
        return
      case "told":
        this.revocations.tell(event.id, event.at)
        return this.wasAsked(event.id, event.at, arrived)
      case "freed":
        return this.check("kept", arrived, () => {
          const lease = this.byToken.get(nameOf(event))
          return lease && this.revocations.kept(event, lease)
        }, who)
      case "listed":
        return this.check("misled", arrived, () => this.revocations.unlisted(event, this.leases.values()), who)
      case "misled":
        return this.verdicts.found("misled", event.what, arrived)
      case "resigned": {
        const lease = this.leases.get(event.id)
        return lease && this.leaders.resigns(event, lease)
      }
      case "observed":
        return this.leaders.observes(event)
      case "leaderless":
        return this.check("leaderless", arrived, () => this.leaders.leaderless(event))
    }
  }

  begins(lease: Lease): void {
    this.byToken.set(nameOf(lease), lease)
  }

  enters(lease: Lease, at: number): void {
    if (!leaderKeys.includes(lease.key)) return
    this.check("recooled", at, this.leaders.enters(lease, at, (id) => this.leases.get(id)))
  }

  leaves(lease: Lease, at: number, isGone: boolean): void {
    if (leaderKeys.includes(lease.key)) this.check("unobserved", at, this.leaders.leaves(lease, at, isGone))
  }

  /** A holder lost its lock because it was revoked: by an operator, or as a leader that hangs by its own process. */
  loses({ id, key }: Lease, at: number, arrived: number): void {
    if (!leaderKeys.includes(key)) this.wasAsked(id, at, arrived)
  }

  forget(lease: Lease): void {
    this.byToken.delete(nameOf(lease))
    this.revocations.forget(lease)
  }

  /** Whether a holder that was told to leave was asked to. */
  private wasAsked(id: string, at: number, arrived: number): void {
    const lease = this.leases.get(id)
    if (lease === undefined) return
    this.check(
      "unasked",
      arrived,
      () => this.revocations.unasked(lease, at, (one) => this.leases.get(one)),
      operator
    )
  }

  /** Whether a holder that was asked to leave was told so in time. */
  private wasTold(event: Outside & { readonly t: "revoked" }): void {
    const { arrived } = event
    this.verdicts.later(arrived, (last) => {
      const lease = this.byToken.get(nameOf(event))
      if (lease === undefined) return true
      if (this.lags.isOpen(lease.who, arrived) && !last) return false
      const text = this.revocations.unheard(event, lease)
      if (text !== undefined) this.verdicts.found("unheard", text, arrived)
      return true
    })
  }

  private check(rule: Rule, at: number, decide: (() => string | undefined) | undefined, who?: string): void {
    if (decide === undefined) return
    this.verdicts.later(at, () => {
      const text = decide()
      if (text !== undefined) this.verdicts.found(rule, text, at)
      return true
    }, who)
  }
}

const nameOf = ({ key, token }: { readonly key: string; readonly token: bigint | string | undefined }): string =>
  `${key}|${token}`
