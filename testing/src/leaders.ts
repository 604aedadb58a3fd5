import { Duration, Effect, Fiber } from "effect"
import { Leader, type Lease, type Locker } from "effect-dlock"
import * as Fs from "node:fs"
import { onMessage, report } from "./report.ts"

/** What a candidate tells its test. */
export type CandidateReport =
  | { readonly event: "standing" }
  /** The durations are milliseconds, as granted. */
  | { readonly event: "leading"; readonly term: number; readonly ttl: number }

/** A line of the resource. It is written by appending, so the order of the lines is that of the writes. */
export interface Step {
  readonly term: number
  readonly what: "begin" | "step" | "end"
  /** Milliseconds of the clock that all processes of the machine share. */
  readonly at: number
}

export const now = (): number => Number(process.hrtime.bigint()) / 1_000_000

/** What a test tells a candidate: that its program hangs from now on, and whether it can be interrupted then. */
export type Trouble = "hang" | "wedge"

export const nameOfTheRole = "role"

/**
 * For programs that `startWorker` runs with the file of the resource and a ttl in milliseconds: stands for a leadership
 * until SIGTERM. Its leader writes to the resource all the time, and for a moment after its interruption.
 */
export const runCandidate = <E>(
  [file, ttl]: readonly [file: string, ttl: string],
  withLocker: <A, E2>(effect: Effect.Effect<A, E2, Locker>) => Effect.Effect<A, E | E2>
): void => {
  const resource = Fs.openSync(file, "a")
  let trouble: Trouble | undefined
  onMessage((message) => trouble = message as Trouble)
  const write = (lease: Lease, what: Step["what"]) =>
    Effect.sync(() => {
      const step: Step = { term: Number(lease.fencingToken), what, at: now() }
      Fs.writeSync(resource, `${JSON.stringify(step)}\n`)
    })
  const program = (lease: Lease) =>
    Effect.gen(function*() {
      yield* write(lease, "begin")
      yield* Effect.sync(() =>
        report(
          {
            event: "leading",
            term: Number(lease.fencingToken),
            ttl: Duration.toMillis(lease.ttl)
          } satisfies CandidateReport
        )
      )
      while (true) {
        if (trouble === "hang") return yield* Effect.never
        if (trouble === "wedge") return yield* Effect.uninterruptible(Effect.never)
        yield* Effect.sleep(2)
        yield* write(lease, "step")
      }
    }).pipe(
      // What it does at its end is work of the leader too.
      Effect.onInterrupt(() => Effect.andThen(Effect.sleep(10), write(lease, "end")))
    )
  const candidate = Effect.suspend(() => {
    report({ event: "standing" } satisfies CandidateReport)
    return Leader.run(nameOfTheRole, program, { ttl: Number(ttl), healthy: Effect.sync(() => trouble === undefined) })
  })
  const fiber = Effect.runFork(withLocker(candidate))
  process.once("SIGTERM", () => void Effect.runFork(Fiber.interrupt(fiber)))
  fiber.addObserver(() => process.exit(0))
}
