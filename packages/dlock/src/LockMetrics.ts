/**
 * The metrics of a locker.
 *
 * **When to use**
 *
 * Use to read a metric in a program or a test, or to export it under another name. An exporter of `effect/observability`
 * needs nothing of this module: every locker updates these metrics by itself.
 *
 * **Details**
 *
 * All times are milliseconds. A locker updates the metrics in the registry of the context in which its layer was built,
 * with the attributes of `Metric.CurrentMetricAttributes` there, and with these:
 *
 * - `backend`: `memory`, `redis`, `etcd`, or what another store calls itself.
 * - `kind`: `mutex`, `semaphore` or `readWrite`. Not of `storeCalls`, because one call may be about several locks.
 * - `lock`: the option `name` of the call, or the name of a typed lock or of a leadership. Absent if there is none. A locker
 *   uses at most 100 names, and counts the locks of all later names under `other`.
 *
 * The key of a lock is never an attribute, so ten thousand keys make no more series than one.
 *
 * Lockers with the same attributes in one registry share their series: their counters add up, and so do their gauges.
 *
 * Whenever no call is under way, `acquired` is the sum of `released`, `lost` (over all reasons) and `held`. A lock that
 * is entered again by its own holder is counted once. Of several locks that are acquired at once each one counts, with its
 * own kind. A hold of several permits counts once.
 *
 * **Example** (Read how many locks this process holds)
 *
 * ```ts
 * import { Metric } from "effect"
 * import { LockMetrics } from "effect-dlock"
 *
 * const held = Metric.value(Metric.withAttributes(LockMetrics.held, { backend: "redis", kind: "mutex" }))
 * ```
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Metric from "effect/Metric"

/** Milliseconds: from what a lock in memory takes to an hour. */
const upToAnHour = [
  1,
  2,
  5,
  10,
  25,
  50,
  100,
  250,
  500,
  1_000,
  2_500,
  5_000,
  10_000,
  30_000,
  60_000,
  300_000,
  900_000,
  3_600_000
]

/** Milliseconds: no call to a store takes longer than a few seconds. */
const upToSeconds = [0.5, 1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000]

/** Milliseconds that are left of a ttl, which is 30 seconds by default. */
const upToATtl = [0, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 30_000, 60_000]

/** Parts of a ttl. A renewal that goes well leaves about two thirds. */
const parts = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]

/**
 * How long callers waited, from the call to its end. Changes when a call that asked for a lock ends. It does not count a
 * call that does not wait and found the lock held: see `busy`.
 *
 * Its attribute `outcome` is
 *
 * - `granted`: the caller got the lock.
 * - `timeout`: it failed with `LockTimeout`.
 * - `interrupted`: it was interrupted.
 * - `failed`: it failed with another error.
 *
 * @category timers
 * @since 0.1.0
 */
export const wait: Metric.Histogram<Duration.Duration> = Metric.timer("dlock_wait", {
  description: "How long callers waited for a lock",
  boundaries: upToAnHour
})

/**
 * How long locks were held, from the grant to the release or the loss. Changes when a hold ends.
 *
 * @category timers
 * @since 0.1.0
 */
export const hold: Metric.Histogram<Duration.Duration> = Metric.timer("dlock_hold", {
  description: "How long locks were held",
  boundaries: upToAnHour
})

/**
 * How long calls to the store took. Changes when a call ends, or when it is given up.
 *
 * Its attribute `operation` is `acquire`, `renew` or `release`. A renewal is one call for all locks that are due together.
 * Its attribute `outcome` is
 *
 * - `answered`: the backend answered, whatever it said.
 * - `failed`: the store failed, or did not answer in time.
 * - `interrupted`: the caller was interrupted before the answer came.
 *
 * @category timers
 * @since 0.1.0
 */
export const storeCalls: Metric.Histogram<Duration.Duration> = Metric.timer("dlock_store_calls", {
  description: "How long calls to the lock store took",
  boundaries: upToSeconds
})

/**
 * How much of the ttl was left when a renewal was confirmed. Changes with each confirmed renewal. It is an early warning:
 * a lock is lost when nothing is left. Renewals that go well leave about two thirds of the ttl.
 *
 * @category timers
 * @since 0.1.0
 */
export const deadlineSlack: Metric.Histogram<Duration.Duration> = Metric.timer("dlock_deadline_slack", {
  description: "How much of the ttl was left when a renewal was confirmed",
  boundaries: upToATtl
})

/**
 * The same as a part of the ttl, from 0 to 1, so that one alert is right for locks with any ttl.
 *
 * @category histograms
 * @since 0.1.0
 */
export const deadlineSlackRatio: Metric.Histogram<number> = Metric.histogram("dlock_deadline_slack_ratio", {
  description: "Which part of the ttl was left when a renewal was confirmed",
  boundaries: parts
})

/**
 * How many locks were acquired. Changes with each grant that reached its caller.
 *
 * @category counters
 * @since 0.1.0
 */
export const acquired: Metric.Counter<number> = Metric.counter("dlock_acquired_total", {
  description: "Locks that were acquired",
  incremental: true
})

/**
 * How many locks were released while they were held. Changes with each release, also if the backend does not answer it.
 *
 * @category counters
 * @since 0.1.0
 */
export const released: Metric.Counter<number> = Metric.counter("dlock_released_total", {
  description: "Locks that were released by their holder",
  incremental: true
})

/**
 * How many calls that do not wait found a lock held. Of several locks, only the one in the way counts.
 *
 * @category counters
 * @since 0.1.0
 */
export const busy: Metric.Counter<number> = Metric.counter("dlock_busy_total", {
  description: "Calls that do not wait and found the lock held",
  incremental: true
})

/**
 * How many held locks were lost. Changes when this process notices. Its attribute `reason` is that of `OwnershipLost`.
 *
 * @category counters
 * @since 0.1.0
 */
export const lost: Metric.Counter<number> = Metric.counter("dlock_lost_total", {
  description: "Locks that were lost",
  incremental: true
})

/**
 * How many renewals of a lock failed or were not answered in time. Each is tried again until the deadline.
 *
 * @category counters
 * @since 0.1.0
 */
export const renewalFailures: Metric.Counter<number> = Metric.counter("dlock_renewal_failures_total", {
  description: "Renewals that failed or were not answered in time",
  incremental: true
})

/**
 * How many locks are held now.
 *
 * @category gauges
 * @since 0.1.0
 */
export const held: Metric.Gauge<bigint> = Metric.gauge("dlock_held", {
  description: "Locks that are held now",
  bigint: true
})

/**
 * How many calls ask for a lock now and have neither got it nor ended. Of several locks that are asked for at once each
 * one counts, until all are there. Candidates for a leadership do not count, since they stand for as long as another one
 * leads.
 *
 * @category gauges
 * @since 0.1.0
 */
export const waiting: Metric.Gauge<bigint> = Metric.gauge("dlock_waiting", {
  description: "Calls that ask for a lock now",
  bigint: true
})

/**
 * For how many milliseconds the call has waited that waits longest now. 0 if none waits. It is computed when it is read,
 * so it grows while a lock is stuck and nothing else happens.
 *
 * @category gauges
 * @since 0.1.0
 */
export const oldestWait: Metric.Gauge<number> = Metric.gauge("dlock_oldest_wait", {
  description: "How long the oldest of the calls that wait now has waited",
  attributes: { time_unit: "milliseconds" }
})

/**
 * Whether this process leads: 1 or 0. There is one series for each name for which this process stands now.
 *
 * @category gauges
 * @since 0.1.0
 */
export const leader: Metric.Gauge<number> = Metric.gauge("dlock_leader", {
  description: "Whether this process leads"
})

/**
 * All these metrics.
 *
 * @category models
 * @since 0.1.0
 */
export const all: ReadonlyArray<Metric.Metric<any, unknown>> = [
  wait,
  hold,
  storeCalls,
  deadlineSlack,
  deadlineSlackRatio,
  acquired,
  released,
  busy,
  lost,
  renewalFailures,
  held,
  waiting,
  oldestWait,
  leader
]

/**
 * How many different values of `lock` a locker uses. All later names count as `other`.
 *
 * @category models
 * @since 0.1.0
 */
export const mostNames: number = 100
