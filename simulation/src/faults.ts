import {
  type Fault,
  type Kind,
  type MessageFault,
  type NotificationFault,
  type ReplicaFault,
  replicaWeights
} from "./faultKinds.ts"
import type { Plan } from "./plan.ts"
import { Random } from "./random.ts"

/**
 * The faults of a world. The name of a fault says where it is injected. Whether it is depends on the seed and the name
 * alone: so a world can be run again with some of its faults only.
 */
export class Faults {
  /** The faults that were injected, in their order. */
  readonly injected: Array<Fault> = []
  private readonly plan: Plan
  private readonly only: ReadonlySet<string> | undefined

  constructor(plan: Plan, only: ReadonlySet<string> | undefined) {
    this.plan = plan
    this.only = only
  }

  tryInject(name: string, kind: Kind): boolean {
    if (this.only !== undefined && !this.only.has(name)) return false
    this.injected.push({ name, kind })
    return true
  }

  message(process: number, number: number, now: number): Injected<MessageFault> | undefined {
    return this.roll(`m${process}.${number}`, Random.of(this.plan.seed, 3, process, number), this.plan.messages, now)
  }

  notification(process: number, number: number, now: number): Injected<NotificationFault> | undefined {
    return this.roll(
      `p${process}.${number}`,
      Random.of(this.plan.seed, 4, process, number),
      this.plan.notifications,
      now,
      this.plan.notificationFaultRate
    )
  }

  replicas(process: number, number: number, now: number): Injected<ReplicaFault> | undefined {
    const { messageFaultRate, seed } = this.plan
    if (messageFaultRate === 0) return undefined
    return this.roll(`r${process}.${number}`, Random.of(seed, 7, process, number), replicaWeights, now, 0.3)
  }

  private roll<A extends Kind>(
    name: string,
    random: Random,
    weights: Readonly<Partial<Record<A, number>>>,
    now: number,
    rate = this.plan.messageFaultRate
  ): Injected<A> | undefined {
    const { healedAt, longestDelay } = this.plan
    if (now >= healedAt || !random.chance(rate)) return undefined
    const kind = random.weighted(weights as Readonly<Record<A, number>>)
    const delay = Math.min(random.spread(5_000, longestDelay), Math.max(0, healedAt - now))
    return this.tryInject(name, kind) ? { kind, delay, random } : undefined
  }
}

export interface Injected<A extends Kind> {
  readonly kind: A
  /** Microseconds. It ends by the end of all faults. */
  readonly delay: number
  /** For further choices about this fault. */
  readonly random: Random
}
