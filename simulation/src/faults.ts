import {
  type Fault,
  type Kind,
  type MessageFault,
  type PushFault,
  type ReplicaFault,
  replicaWeights
} from "./faultKinds.ts"
import type { Plan } from "./plan.ts"
import { Random } from "./random.ts"

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
