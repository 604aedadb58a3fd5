import { Cause, Effect, Exit, Metric } from "effect"
import { LockBackendError, LockMetrics, LockTimeout, type OwnershipLost } from "effect-dlock"

/** Under this name metrics count what the sections of a worker do, and nothing of its jobs and leaders. */
export const sectionsName = "sections"

/** A lease, as far as its end is counted. */
interface Counted {
  readonly lost: Effect.Effect<never, OwnershipLost>
}

/** What the calls of this process themselves saw, which its metrics must say too. */
export class Tally {
  acquired = 0
  busy = 0
  timeouts = 0
  failed = 0
  /** Of those that failed, the ones whose locker had closed. Some of them asked nobody. */
  closed = 0
  /** Calls that were interrupted before they saw a lease. Some of them asked nobody, and some had just been granted one. */
  interrupted = 0
  /** Calls that ended in a way that nothing above explains. */
  others = 0
  readonly lost = new Map<string, number>()

  /** Leases reached their caller. It is followed to its end, also by who has interrupted its section. */
  readonly granted = (leases: ReadonlyArray<Counted>): void => {
    this.acquired += leases.length
    for (const lease of leases) {
      const loss = Effect.map(
        Effect.flip(lease.lost),
        ({ reason }) => void this.lost.set(reason, (this.lost.get(reason) ?? 0) + 1)
      )
      Effect.runFork(loss)
    }
  }

  /** A call for so many locks ended. `isGranted`: its leases were counted. */
  readonly ended = (locks: number, isGranted: boolean, exit: Exit.Exit<boolean, unknown>): void => {
    if (isGranted) return
    if (Exit.isSuccess(exit)) {
      if (!exit.value) this.busy++
      return
    }
    if (Cause.hasInterruptsOnly(exit.cause)) {
      this.interrupted += locks
      return
    }
    const error = Cause.squash(exit.cause)
    if (error instanceof LockTimeout) this.timeouts += locks
    else if (error instanceof LockBackendError) {
      this.failed += locks
      if (error.message.includes("has been closed")) this.closed += locks
    } else this.others += locks
  }
}

/** The tally of this process. Its layers may be closed and opened again, and its metrics go on. */
export const tally = new Tally()

/** The sum of a metric over its series that have these attributes. */
const sumOf = (
  all: ReadonlyArray<Metric.Metric.Snapshot>,
  metric: Metric.Metric<any, unknown>,
  attributes: Readonly<Record<string, string>> = {}
): number =>
  all.filter(({ attributes: own = {}, id }) =>
    id === metric.id && Object.entries(attributes).every(([name, value]) => own[name] === value)
  ).reduce((sum, { state }) => sum + Number("value" in state ? state.value : "count" in state ? state.count : 0), 0)

/** What is wrong with the metrics at any moment. */
export const problemsNow = Effect.map(Metric.snapshot, (all): ReadonlyArray<string> => {
  const { acquired, held, lost, released, wait } = LockMetrics
  const [got, given, gone, has] = [acquired, released, lost, held].map((metric) => sumOf(all, metric)) as [
    number,
    number,
    number,
    number
  ]
  const waits = sumOf(all, wait, { outcome: "granted" })
  return [
    ...(got === given + gone + has ? [] : [`${got} acquired, ${given} released, ${gone} lost and ${has} held`]),
    ...(waits === got ? [] : [`${waits} waits were granted, and ${got} locks acquired`])
  ]
})

/** What is wrong with the metrics when everything has ended: they count what the calls of this process saw. */
export const problemsAtEnd = Effect.map(
  Effect.all([Metric.snapshot, problemsNow]),
  ([all, problems]): ReadonlyArray<string> => {
    const { acquired, busy, held, lost, released, wait, waiting } = LockMetrics
    const of = (metric: Metric.Metric<any, unknown>, attributes?: Readonly<Record<string, string>>) =>
      sumOf(all, metric, { lock: sectionsName, ...attributes })
    const reasons = new Set([...all.flatMap(({ attributes }) => attributes?.reason ?? []), ...tally.lost.keys()])
    const lostInAll = Array.from(tally.lost.values()).reduce((sum, count) => sum + count, 0)
    // A call that was granted in the moment of its interruption saw no lease, and its lock is released at once.
    const unseen = of(acquired) - tally.acquired
    const rows: ReadonlyArray<readonly [what: string, metric: number, least: number, most: number]> = [
      ["acquired", of(acquired), tally.acquired, tally.acquired + tally.interrupted],
      ["interrupted", of(wait, { outcome: "interrupted" }), 0, tally.interrupted - unseen],
      ["busy", of(busy), tally.busy, tally.busy],
      ["timeouts", of(wait, { outcome: "timeout" }), tally.timeouts, tally.timeouts],
      ["failed", of(wait, { outcome: "failed" }), tally.failed - tally.closed, tally.failed + tally.others],
      ["released", of(released), of(acquired) - lostInAll, of(acquired) - lostInAll],
      ["held", sumOf(all, held), 0, 0],
      ["waiting", sumOf(all, waiting), 0, 0],
      ...Array.from(reasons, (reason) => {
        const seen = tally.lost.get(reason) ?? 0
        return [`lost by ${reason}`, of(lost, { reason }), seen, seen] as const
      })
    ]
    return [
      ...problems,
      ...rows.flatMap(([what, metric, least, most]) =>
        metric >= least && metric <= most
          ? []
          : [`${what}: ${metric} by the metrics, ${least === most ? least : `${least} to ${most}`} by the calls`]
      )
    ]
  }
)

/** What the metrics of this process counted, for the record of a run. */
export const summary = (): Readonly<Record<string, number>> => ({
  acquired: tally.acquired,
  busy: tally.busy,
  timeouts: tally.timeouts,
  failed: tally.failed,
  interrupted: tally.interrupted,
  ...Object.fromEntries(Array.from(tally.lost, ([reason, count]) => [`lost by ${reason}`, count]))
})
