import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import type { LockKind } from "../../LockError.ts"
import * as LockMetrics from "../../LockMetrics.ts"
import type { Time } from "../scheduling/time.ts"
import { Meter } from "./meter.ts"
import { type Distribution, distribution, gauge } from "./series.ts"

/** What a call to the store is for. */
export type StoreOperation = "acquire" | "renew" | "release"

/** How a call to the store ended. */
export type CallOutcome = "answered" | "failed" | "interrupted"

export const outcomeOf = (cause: Cause.Cause<unknown>): CallOutcome =>
  Cause.hasInterruptsOnly(cause) ? "interrupted" : "failed"

/** The meters of a locker. */
export class Meters {
  private readonly time: Time
  private readonly context: Context.Context<never>
  private readonly backend: string
  private readonly unnamed: { [Kind in LockKind]?: Meter } = {}
  private readonly named = new Map<string, Meter>()
  private readonly names = new Set<string>()
  private readonly answered: { [Operation in StoreOperation]?: Distribution } = {}

  constructor(time: Time, context: Context.Context<never>, backend: string) {
    this.time = time
    this.context = context
    this.backend = backend
  }

  of(kind: LockKind, name: string | undefined): Meter {
    return name === undefined
      ? this.unnamed[kind] ??= new Meter(this.time, this.context, { backend: this.backend, kind })
      : this.ofName(kind, name)
  }

  private ofName(kind: LockKind, name: string): Meter {
    const lock = this.label(name)
    const id = `${kind} ${lock}`
    let meter = this.named.get(id)
    if (meter === undefined) {
      meter = new Meter(this.time, this.context, { backend: this.backend, kind, lock })
      this.named.set(id, meter)
    }
    return meter
  }

  /** Names that are made from keys would make a series for each. */
  private label(name: string): string {
    if (this.names.has(name)) return name
    if (this.names.size >= LockMetrics.mostNames) return "other"
    this.names.add(name)
    return name
  }

  /** A call to the store took so long. */
  called(operation: StoreOperation, millis: number, outcome: CallOutcome): void {
    const { backend, context } = this
    const found = outcome === "answered" ? this.answered[operation] : undefined
    const calls = found ?? distribution(LockMetrics.storeCalls, { backend, operation, outcome }, context)
    if (outcome === "answered") this.answered[operation] = calls
    calls.add(millis)
  }

  /**
   * A candidate stands for a leadership, together with those of all lockers with the same attributes. It returns what ends
   * that. The last one takes the series along: a process in which nobody stands says nothing about who leads.
   */
  stand(name: string, candidate: Candidate): () => void {
    const attributes = { backend: this.backend, kind: "mutex", lock: this.label(name) }
    const candidates = gauge(LockMetrics.leader, attributes, this.context, () => new Set<Candidate>(), (candidates) => {
      for (const candidate of candidates) if (candidate.isLeading) return 1
      return 0
    })
    candidates.add(candidate)
    return () => {
      if (candidates.delete(candidate) && candidates.size === 0) {
        Metric.removeUnsafe(Metric.withAttributes(LockMetrics.leader, attributes), this.context)
      }
    }
  }
}

/** Who stands for a leadership. */
export interface Candidate {
  readonly isLeading: boolean
}
