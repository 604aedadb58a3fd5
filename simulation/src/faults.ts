import type { Plan } from "./plan.ts"
import { Random } from "./random.ts"

/** What can go wrong with a request or its reply. */
export type MessageFault =
  | "request lost"
  | "reply lost"
  | "request late"
  | "reply late"
  | "executed twice"
  | "executed late"
  | "error before"
  | "error after"

/** What can go wrong with a message that nobody asked for: a grant that is pushed, an event of a watch. */
export type PushFault = "push lost" | "push late" | "push twice"

/** What replicas do where a grant waits for them. */
export type ReplicaFault = "replica late" | "replica silent"

/** What happens at a moment of its own. */
export type Incident =
  | "server paused"
  | "server restarted"
  | "data lost"
  | "key deleted"
  | "claim deleted"
  | "queue deleted"
  | "early expiry"
  | "clock back"
  | "scripts forgotten"
  | "connections cut"
  | "cut off"
  | "listener silent"
  | "lease revoked"
  | "history compacted"
  | "epoch raised"
  | "foreign lock"
  | "client paused"
  | "client crashed"
  | "wall clock set"
  | "locker closed"
  | "credentials refused"
  | "member refuses"
  | "member silent"
  | "space exceeded"
  | "permission denied"
  | "interrupt"

export type Kind = MessageFault | PushFault | ReplicaFault | Incident

/** A fault as it is planned. `only` knows it by its name. */
export interface Fault {
  readonly name: string
  readonly kind: Kind
}

export const messageWeights: Readonly<Record<MessageFault, number>> = {
  "request lost": 3,
  "reply lost": 3,
  "request late": 4,
  "reply late": 4,
  "executed twice": 2,
  "executed late": 3,
  "error before": 2,
  "error after": 1
}

export const pushWeights: Readonly<Record<PushFault, number>> = { "push lost": 3, "push late": 3, "push twice": 2 }

export const replicaWeights: Readonly<Record<ReplicaFault, number>> = { "replica late": 1, "replica silent": 1 }

/** Who refuses what it is asked, for a while: one of the members, the cluster, or who looks after the users. */
export const refusalWeights = {
  "member refuses": 6,
  "member silent": 2,
  "space exceeded": 2,
  "permission denied": 2
} as const satisfies Partial<
  Record<Incident, number>
>

/**
 * The faults of a world. Each has a name that says where it strikes, and whether it does depends on the seed and that name
 * alone: so a world can be run again with some of them only.
 */
export class Faults {
  /** Those that have struck, in that order. */
  readonly struck: Array<Fault> = []
  private readonly plan: Plan
  private readonly only: ReadonlySet<string> | undefined

  constructor(plan: Plan, only: ReadonlySet<string> | undefined) {
    this.plan = plan
    this.only = only
  }

  strikes(name: string, kind: Kind): boolean {
    if (this.only !== undefined && !this.only.has(name)) return false
    this.struck.push({ name, kind })
    return true
  }

  message(process: number, number: number, now: number): Struck<MessageFault> | undefined {
    return this.roll(`m${process}.${number}`, Random.of(this.plan.seed, 3, process, number), this.plan.messages, now)
  }

  push(process: number, number: number, now: number): Struck<PushFault> | undefined {
    return this.roll(
      `p${process}.${number}`,
      Random.of(this.plan.seed, 4, process, number),
      this.plan.pushes,
      now,
      this.plan.oftenPushes
    )
  }

  replicas(process: number, number: number, now: number): Struck<ReplicaFault> | undefined {
    const { often, seed } = this.plan
    if (often === 0) return undefined
    return this.roll(`r${process}.${number}`, Random.of(seed, 7, process, number), replicaWeights, now, 0.3)
  }

  private roll<A extends Kind>(
    name: string,
    random: Random,
    weights: Readonly<Partial<Record<A, number>>>,
    now: number,
    often = this.plan.often
  ): Struck<A> | undefined {
    const { healedAt, mostDelay } = this.plan
    if (now >= healedAt || !random.chance(often)) return undefined
    const kind = random.weighted(weights as Readonly<Record<A, number>>)
    const delay = Math.min(random.spread(5_000, mostDelay), Math.max(0, healedAt - now))
    return this.strikes(name, kind) ? { kind, delay, random } : undefined
  }
}

export interface Struck<A extends Kind> {
  readonly kind: A
  /** Microseconds, and over when the faults are. */
  readonly delay: number
  /** For what else is to be chosen about it. */
  readonly random: Random
}
