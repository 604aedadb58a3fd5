import { Clock, Cron, DateTime, Effect, Schedule } from "effect"
import { type Locker, Once } from "effect-dlock"
import { report } from "./report.ts"

/** What a process reports of its jobs. Times are milliseconds of the clock that all processes of the machine share. */
export interface JobReport {
  readonly job: string
  /** `up` comes once, without a job: the process takes part from now on. */
  readonly event: "up" | "begin" | "success"
  /** The tick, in milliseconds since 1970, or 0. */
  readonly slot: number
  readonly at: number
  /** When the run was asked for, and when it began. */
  readonly asked: number
  readonly began: number
}

const now = (): number => Number(process.hrtime.bigint()) / 1_000_000

/** The clock of a process whose time of day is off. */
const clockOff = (offset: number) =>
  Effect.map(Clock.clockWith(Effect.succeed), (clock): Clock.Clock => {
    const millis = () => clock.currentTimeMillisUnsafe() + offset
    const nanos = () => clock.currentTimeNanosUnsafe() + BigInt(Math.round(offset)) * 1_000_000n
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (duration) => clock.sleep(duration)
    }
  })

/**
 * For programs that `startWorker` runs with the milliseconds by which their clock is off, those of an interval, and the
 * tick in which the process dies: runs jobs of each kind, for ever.
 */
export const runJobs = <E>(
  [offset, interval, dies]: readonly [offset: string, interval: string, dies: string],
  withLocker: <A, E2>(effect: Effect.Effect<A, E2, Locker>) => Effect.Effect<A, E | E2>
): Promise<never> => {
  let ticks = 0
  /** Every tenth run fails. */
  let runs = 0
  const body = (job: string, slot: number, asked: number) =>
    Effect.gen(function*() {
      const began = now()
      const tell = (event: JobReport["event"]) =>
        Effect.sync(() => report({ job, event, slot, at: now(), asked, began }))
      yield* tell("begin")
      if (job === "cron success" && ++ticks === Number(dies)) process.kill(process.pid, "SIGKILL")
      yield* Effect.sleep(10 + (runs * 7) % 50)
      if (job.endsWith("success") && ++runs % 10 === 0) return yield* Effect.fail("the job fails")
      yield* tell("success")
    })
  const cron = (counts: "start" | "success") =>
    Once.cron(
      `cron ${counts}`,
      Cron.parseUnsafe("*/2 * * * * *"),
      (_, tick) => body(`cron ${counts}`, DateTime.toEpochMillis(tick), now()),
      { counts }
    )
  const within = (counts: "start" | "success") =>
    Effect.suspend(() => {
      const job = `within ${counts}`
      return Once.within(job, Number(interval), body(job, 0, now()), { counts, ttl: "1 second" })
    }).pipe(Effect.exit, Effect.repeat(Schedule.spaced("150 millis")))
  const up = Effect.sync(() => report({ job: "", event: "up", slot: 0, at: now(), asked: 0, began: 0 }))
  const jobs = Effect.all([cron("start"), cron("success"), within("start"), within("success")], {
    concurrency: "unbounded"
  })
  return Effect.runPromise(
    Effect.flatMap(
      clockOff(Number(offset)),
      (clock) => Effect.provideService(withLocker(Effect.andThen(up, jobs)), Clock.Clock, clock)
    )
  ) as Promise<never>
}
