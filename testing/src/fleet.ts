/** Several processes that run jobs once, as an effect; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { JobReport } from "./jobs.ts"
import { startWorker } from "./worker.ts"

export interface Fleet {
  /** The program that runs jobs: see `runJobs`. */
  readonly program: string
  readonly url: string
  readonly ticks: number
  /** Milliseconds, for the jobs that run once within an interval. */
  readonly interval: number
}

const period = 2_000

/** Milliseconds since 1970 at the beginning of the clock that all processes of the machine share. */
const epoch = Date.now() - Number(process.hrtime.bigint()) / 1_000_000

/**
 * Five processes, whose clocks differ by up to 40 % of the period, run jobs of each kind. One of them dies in the middle
 * of a run, and another one joins. Fails if a tick is missing, or if a job ran twice that must not.
 */
export const fleetRunsOnce = ({ interval, program, ticks, url }: Fleet): Effect.Effect<void> =>
  Effect.scoped(Effect.gen(function*() {
    const start = (offset: number, dies?: number) =>
      Effect.acquireRelease(
        Effect.sync(() =>
          startWorker<JobReport>(program, { args: [url, `${offset}`, `${interval}`, `${dies ?? -1}`] })
        ),
        (worker) => Effect.promise(() => worker.kill())
      )
    const offsets = [-0.4, -0.17, 0, 0.12]
    const workers = yield* Effect.forEach(
      [...offsets, 0.4],
      (offset) => start(offset * period, offset === 0.4 ? Math.floor(ticks / 3) : undefined)
    )
    // Until then there may be one process only, which skips a tick while it still loads what the last one needs.
    yield* Effect.forEach(
      workers,
      (worker) => Effect.promise(() => worker.waitFor(({ event }) => event === "up", 60_000))
    )
    const from = Date.now() + period
    const joinAt = Math.floor(ticks / 2)
    const all = () =>
      workers.flatMap(({ messages }) => messages.filter(({ job, slot }) => job.startsWith("within") || slot > from))
    const ticksOf = (job: string) => new Set(all().flatMap((one) => one.job === job ? [one.slot] : [])).size
    let hasJoined = false
    const end = Date.now() + ticks * period + 90_000
    while (Math.min(ticksOf("cron start"), ticksOf("cron success")) < ticks) {
      assert.isBelow(Date.now(), end, "the fleet is too slow")
      yield* Effect.sleep("50 millis")
      if (!hasJoined && ticksOf("cron start") >= joinAt) {
        hasJoined = true
        workers.push(yield* start(0.39 * period))
      }
    }
    const reports = all()
    const of = (job: string, event: JobReport["event"]) =>
      reports.filter((one) => one.job === job && one.event === event).toSorted((a, b) => a.at - b.at)
    /**
     * Whether a tick came while the run before it went on, as all processes saw it: then nobody runs it. A run takes 60 ms
     * and begins by the clock that is ahead, so this needs a machine that is late by about half a period.
     */
    const overrunsOf = (job: string) => {
      const ends = new Map<number, number>()
      for (const one of reports) {
        if (one.job !== job) continue
        ends.set(one.slot / period, Math.max(ends.get(one.slot / period) ?? 0, (one.at + epoch) / period))
      }
      return (slot: number): boolean => {
        const before = Math.max(...Array.from(ends.keys()).filter((other) => other < slot))
        return ends.get(before)! > slot - 0.6
      }
    }
    const slots = (list: ReadonlyArray<JobReport>) => list.map(({ slot }) => slot / period)
    const contiguous = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index)

    const started = slots(of("cron start", "begin"))
    // The process that died in a run may have died in this one too, when its start counted and it had not told of it.
    const diedAt = workers[offsets.length]!.messages.findLast(({ job }) => job === "cron success")!.slot / period
    const expected = (some: ReadonlyArray<number>, isExcused: (slot: number) => boolean) =>
      contiguous(some[0]!, some.at(-1)! - some[0]! + 1).filter((slot) => some.includes(slot) || !isExcused(slot))
    const overrun = overrunsOf("cron start")
    const isExcused = (slot: number): boolean => slot === diedAt || overrun(slot)
    assert.deepStrictEqual(started, expected(started, isExcused), "each tick once, in order")
    const succeeded = slots(of("cron success", "success"))
    assert.deepStrictEqual(succeeded, expected(succeeded, overrunsOf("cron success")), "one success for each tick")
    assert.isAbove(of("cron success", "begin").length, succeeded.length, "some runs failed, and one died")

    const started2 = of("within start", "begin")
    started2.forEach((run, index) => {
      const before = started2[index - 1]
      if (before !== undefined) assert.isAtLeast(run.at - before.asked, interval, "from start to start")
    })
    const successes = of("within success", "success")
    for (const [index, success] of successes.entries()) {
      const next = successes[index + 1]
      if (next !== undefined) assert.isAtLeast(next.began - success.at, interval, "from success to start")
    }
    // A process that died may keep the lock from the others for a while, and the machine may be slow.
    const least = ticks * period / interval / 4
    assert.isAtLeast(started2.length, least)
    assert.isAtLeast(successes.length, least)
    yield* Effect.log(
      `${started.length} and ${succeeded.length} ticks, ${started2.length} and ${successes.length} intervals, `
        + `${of("cron success", "begin").length} runs for the successes`
    )
  }))
