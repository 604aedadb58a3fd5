import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import { LockBackendError } from "../../LockError.ts"
import type { LockStore, Renewal } from "../../LockStore.ts"
import type { Admission } from "../admission.ts"
import type { CallTimeouts } from "../scheduling/callTimeouts.ts"
import { DeadlineHeap } from "../scheduling/deadlineHeap.ts"
import { fromNanos, type Time } from "../scheduling/time.ts"
import type { Events } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"
import type { HeldLease } from "./heldLease.ts"
import type { Revocations } from "./revocations.ts"

/**
 * Renews all leases of a locker, with one heap, one timer, and one call for all leases that are due together.
 *
 * When a lease is due:
 *
 * - Normally: a third of its ttl after its last confirmation.
 * - While a renewal is in flight: at its deadline, so that the answer is not awaited any longer.
 * - After a failed renewal: at most a tenth of its ttl later, again and again until the deadline.
 */
export class Renewals {
  private readonly heap: DeadlineHeap<HeldLease>
  private readonly time: Time
  private readonly timeouts: CallTimeouts
  private readonly store: LockStore["Service"]
  private readonly events: Events
  private readonly admission: Admission
  private readonly revocations: Revocations
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Leases by their claim's id. Made at the first hint of a loss, so that stores without hints do not pay for it. */
  private byId: Map<string, HeldLease> | undefined

  constructor(
    time: Time,
    timeouts: CallTimeouts,
    store: LockStore["Service"],
    events: Events,
    log: Log,
    admission: Admission,
    revocations: Revocations,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.time = time
    this.timeouts = timeouts
    this.store = store
    this.events = events
    this.admission = admission
    this.revocations = revocations
    this.fork = fork
    this.heap = new DeadlineHeap(time, fork, log, (now) => this.renewDue(now))
    admission.closeWhile(this.isOverdue)
  }

  /**
   * Leases that are due a little later are renewed in the same call. An early renewal is harmless, and a separate call
   * has a cost.
   */
  add(lease: HeldLease, notBefore = 0): void {
    lease.slack = lease.retryAfter / 2
    this.byId?.set(lease.claim.id, lease)
    this.heap.schedule(lease, Math.min(Math.max(lease.renewAt, notBefore), lease.deadline))
  }

  /** Renews a claim no more. Its lease stays here until its deadline. */
  letRunOut(lease: HeldLease): void {
    lease.slack = 0
    this.heap.schedule(lease, lease.deadline)
  }

  remove(lease: HeldLease): void {
    this.byId?.delete(lease.claim.id)
    this.heap.remove(lease)
  }

  all(): ReadonlyArray<HeldLease> {
    return this.heap.items()
  }

  find(id: string): HeldLease | undefined {
    this.byId ??= new Map(this.heap.items().map((lease) => [lease.claim.id, lease]))
    return this.byId.get(id)
  }

  /** Whether a due lease has not been sent. Then this thread has been too busy to run its timers. */
  private readonly isOverdue = (now: number): boolean => {
    const first = this.heap.peek()
    return first !== undefined && now - first.dueAt > overdue
  }

  private renewDue(now: number): void {
    const due: Array<HeldLease> = []
    try {
      this.sendDue(due, now)
    } catch (defect) {
      this.giveUp(due, defect)
    }
    this.admission.admit()
  }

  private sendDue(due: Array<HeldLease>, now: number): void {
    for (let next = this.heap.peek(); next !== undefined; next = this.heap.peek()) {
      if (next.dueAt - next.slack > now) break
      this.heap.remove(next)
      if (next.isToRenew(now)) due.push(next)
    }
    for (const lease of due) {
      lease.slack = 0
      this.heap.schedule(lease, lease.deadline)
    }
    // One call may only take as long as its shortest lease allows, so leases with similar limits go together.
    for (const alike of Map.groupBy(due, ({ renewalTimeout }) => Math.floor(Math.log2(renewalTimeout))).values()) {
      this.fork(Effect.catchDefect(this.renew(alike), (defect) => Effect.sync(() => this.giveUp(alike, defect))))
    }
  }

  /**
   * Ends leases that cannot be renewed because of a defect, so that they do not end without an explanation at their
   * deadline.
   */
  private giveUp(leases: ReadonlyArray<HeldLease>, defect: unknown): void {
    this.events.renewalBroke(defect, leases.length, leases[0]?.key)
    for (const lease of leases) {
      lease.abandonRenewal()
      lease.lose("Revoked", this.time.now(), true)
    }
  }

  private renew(leases: ReadonlyArray<HeldLease>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const latch = Latch.makeUnsafe()
      let limit = Infinity
      let firstDeadline = Infinity
      for (const lease of leases) {
        lease.beginRenewal(latch)
        limit = Math.min(limit, lease.renewalTimeout)
        firstDeadline = Math.min(firstDeadline, lease.deadline)
      }
      const sentAt = this.time.now()
      const wallClockLead = this.time.wallClockLead(sentAt)
      // A second limit: the store should limit its own calls. A call that ignores its interruption is not awaited.
      return this.timeouts.limit<ReadonlyArray<Renewal>, never>(
        this.store.renew(leases),
        limit,
        Effect.succeed([])
      ).pipe(
        Effect.catchDefect((defect) => Effect.succeed<ReadonlyArray<Renewal>>([unknown(defect)])),
        Effect.map((answers) => {
          const failures: Array<LockBackendError> = []
          leases.forEach((lease, index) => {
            const answer = answers[index] ?? unknown("no answer in time")
            lease.endRenewal()
            this.settle(lease, answer, wallClockLead, firstDeadline)
            if (answer._tag === "Unknown") {
              failures.push(answer.error)
              this.events.notRenewed(lease)
            }
          })
          const { key } = leases[0]!
          const outcome = failures.length < leases.length ? "answered" : "failed"
          this.events.called("renew", this.time.now() - sentAt, outcome)
          if (failures.length < leases.length) this.events.answered(key)
          if (failures.length > 0) this.events.renewalFailed(key, failures[0]!, failures.length)
          // This comes last: the fibers that wait for the latch run at once, and may keep the thread busy.
          latch.openUnsafe()
        })
      )
    })
  }

  /** Applies the answer to a call that is no renewal. The next renewal of the claim stays scheduled as it is. */
  take(lease: HeldLease, answer: Renewal, wallClockLead: number): void {
    if (answer._tag !== "Confirmed") return this.settle(lease, answer, wallClockLead, lease.deadline)
    if (!lease.check(this.time.now())) return
    lease.confirm(fromNanos(answer.confirmedAt), wallClockLead)
    if (answer.revocation !== undefined) this.revocations.ask(lease, answer.revocation)
  }

  /**
   * Applies an answer about one claim. Checks the deadline first: a confirmation that arrives after the deadline counts
   * for nothing, and neither does one about a claim that is to run out.
   */
  private settle(lease: HeldLease, answer: Renewal, wallClockLead: number, firstDeadline: number): void {
    const now = this.time.now()
    if (!lease.isToRenew(now)) return
    switch (answer._tag) {
      case "Confirmed":
        this.events.renewed(lease, lease.deadline - now, Duration.toMillis(lease.ttl))
        lease.confirm(fromNanos(answer.confirmedAt), wallClockLead)
        // A store may confirm with an older request. That is no reason to renew again without a pause.
        this.add(lease, now + lease.retryAfter)
        if (answer.revocation !== undefined) this.revocations.ask(lease, answer.revocation)
        return
      case "Gone":
        return lease.lose("Expired", now)
      case "Replaced":
        return lease.lose("Replaced", now)
      case "Revoked":
        return this.revocations.refuse(lease, answer.revocation)
      case "Unknown":
        return this.heap.schedule(lease, Math.min(now + pause(lease, firstDeadline - now), lease.deadline))
      default:
        // A missing case is a compile error.
        answer satisfies never
    }
  }
}

/**
 * The pause before a failed renewal is tried again. `left` is the time until the first deadline among the leases that
 * went together, because they go together again. The pause is shorter if too little time would be left for a whole
 * call, so that the backend is asked until the end.
 */
const pause = ({ renewalTimeout, retryAfter }: HeldLease, left: number): number =>
  Math.min(retryAfter, Math.max(retryAfter / 4, left - renewalTimeout))

/** Milliseconds. A timer that is later than this shows that the thread is busy. */
const overdue = 20

const unknown = (cause: unknown): Renewal => ({
  _tag: "Unknown",
  error: new LockBackendError({ operation: "renew", retryable: true, cause })
})
