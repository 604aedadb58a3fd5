/** Several processes that stand for one leadership, as an effect; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { recordLag } from "./lag.ts"
import { type CandidateReport, now, type Step, type Trouble } from "./leaders.ts"
import { startWorker, type Worker } from "./worker.ts"

type Candidate = Worker<CandidateReport>
type Leading = Extract<CandidateReport, { readonly event: "leading" }>

const isLeading = (message: CandidateReport): message is Leading => message.event === "leading"

/** Three processes that stand for a leadership, and the resource that the leader writes. */
export interface Fleet {
  /** The process that leads, and its report, when its term is larger than the one given. */
  readonly leader: (after: number) => Effect.Effect<readonly [Candidate, Leading]>
  /** Takes a process that has ended out of the fleet, starts another one, and waits until it stands. */
  readonly replace: (candidate: Candidate) => Effect.Effect<void>
  /** The resource in the order of its writes. */
  readonly steps: () => ReadonlyArray<Step>
}

/** Starts the fleet. The program takes an address, and the arguments of `runCandidate`. */
export const fleetOf = (program: string, url: string, ttl: number): Effect.Effect<Fleet, never, Scope.Scope> =>
  Effect.gen(function*() {
    const dir = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-leaders-"))),
      (dir) => Effect.sync(() => Fs.rmSync(dir, { recursive: true, force: true }))
    )
    const file = Path.join(dir, "resource")
    Fs.writeFileSync(file, "")
    const candidates = new Set<Candidate>()
    yield* Effect.addFinalizer(() => Effect.promise(() => Promise.all(Array.from(candidates, (one) => one.kill()))))
    const start = Effect.promise(async () => {
      const candidate = startWorker<CandidateReport>(program, { args: [url, file, `${ttl}`] })
      candidates.add(candidate)
      await candidate.waitFor(({ event }) => event === "standing")
      // It is in the queue a little later.
      await new Promise((resolve) => setTimeout(resolve, 100))
    })
    yield* Effect.all([start, start, start], { concurrency: "unbounded" })
    return {
      leader: (after) =>
        Effect.promise(async () => {
          const waits = Array.from(candidates, async (candidate) => {
            const report = await candidate.waitFor(
              (message): message is Leading => isLeading(message) && message.term > after
            )
            return [candidate, report] as const
          })
          // Those who are not elected fail with their time limit later.
          for (const wait of waits) wait.catch(() => {})
          return await Promise.any(waits)
        }),
      replace: (candidate) => {
        candidates.delete(candidate)
        return start
      },
      steps: () =>
        Fs.readFileSync(file, "utf8").split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Step)
    }
  })

/** What was wrong by the resource's own order: a term after a later one, or a step after the program's end. */
export const wrongIn = (steps: ReadonlyArray<Step>): ReadonlyArray<string> =>
  steps.flatMap((step, index) => {
    const before = steps[index - 1]
    if (before === undefined || before.term < step.term) {
      return step.what === "begin" ? [] : [`term ${step.term} has a step before its beginning`]
    }
    if (before.term > step.term) return [`a step of term ${step.term} after one of term ${before.term}`]
    return step.what === "begin" || before.what === "end" ? [`term ${step.term} has two programs`] : []
  })

export const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

const shown = (values: ReadonlyArray<number>): string =>
  `median ${median(values).toFixed(0)} ms, longest ${Math.max(...values).toFixed(0)} ms`

/** When the program of this term began. */
const began = (fleet: Fleet, term: number): number =>
  fleet.steps().find((step) => step.term === term && step.what === "begin")!.at

/**
 * Restarts the leader with SIGTERM so many times. Half of the times without a leader must be below 200 milliseconds, from
 * the signal to the next leader's first step, and no program may run beside another.
 */
export const restartsHandOver = (fleet: Fleet, restarts: number) =>
  Effect.gen(function*() {
    const lag = recordLag()
    const fromSignal: Array<number> = []
    let term = 0
    for (let restart = 0; restart < restarts; restart++) {
      const [leader, leading] = yield* fleet.leader(term)
      const signalledAt = now()
      leader.signal("SIGTERM")
      const [, next] = yield* fleet.leader(leading.term)
      fromSignal.push(began(fleet, next.term) - signalledAt)
      assert.deepStrictEqual(yield* Effect.promise(() => leader.exited), { code: 0, signal: null })
      term = leading.term
      yield* fleet.replace(leader)
    }
    const steps = fleet.steps()
    lag.stop()
    assert.deepStrictEqual(wrongIn(steps), [])
    const begins = steps.flatMap((step, index) => step.what === "begin" && index > 0 ? [index] : [])
    assert.isAtLeast(begins.length, restarts)
    // Each program had ended, its finalizer included, before the next one began.
    assert.deepStrictEqual(begins.filter((index) => steps[index - 1]!.what !== "end"), [])
    const gaps = begins.map((index) => steps[index]!.at - steps[index - 1]!.at)
    yield* Effect.log(
      `${restarts} restarts by SIGTERM: from the signal to the next leader ${shown(fromSignal)}; `
        + `from the last step of one to the first of the next ${shown(gaps)}; ${steps.length} steps; `
        + `lag ${lag.max().toFixed(0)} ms`
    )
    assert.isBelow(median(fromSignal), 200 + lag.max())
  })

/** Kills the leader so many times. Another one must lead within ttl + guard gap + 1 second. */
export const deathsAreFollowed = (fleet: Fleet, kills: number, guardGap: number) =>
  Effect.gen(function*() {
    const took: Array<number> = []
    let term = 0
    for (let kill = 0; kill < kills; kill++) {
      const [leader, leading] = yield* fleet.leader(term)
      // At any moment between two renewals.
      yield* Effect.sleep(leading.ttl / 3 * (kill % 10) / 10)
      const lag = recordLag()
      const killedAt = now()
      leader.signal("SIGKILL")
      const [, next] = yield* fleet.leader(leading.term)
      lag.stop()
      const gap = began(fleet, next.term) - killedAt
      took.push(gap)
      assert.isBelow(gap, leading.ttl + guardGap + 1_000 + lag.max())
      term = leading.term
      yield* fleet.replace(leader)
    }
    assert.deepStrictEqual(wrongIn(fleet.steps()), [])
    yield* Effect.log(`${kills} deaths by SIGKILL: to the next leader ${shown(took)}`)
  })

/**
 * Hangs the program of the leader, which steps down when it was unhealthy for a ttl; or hangs it so that it cannot be
 * interrupted, and its lock runs out.
 */
export const unhealthyStepsDown = (fleet: Fleet, trouble: Trouble, guardGap: number) =>
  Effect.gen(function*() {
    const [leader, leading] = yield* fleet.leader(0)
    yield* Effect.sleep(leading.ttl / 2)
    const lag = recordLag()
    const hungAt = now()
    leader.send(trouble)
    const [next, { term }] = yield* fleet.leader(leading.term)
    lag.stop()
    const took = began(fleet, term) - hungAt
    assert.notStrictEqual(next, leader)
    const limit = trouble === "hang" ? leading.ttl + 500 : 2 * (leading.ttl + guardGap) + 1_000
    assert.isBelow(took, limit + lag.max())
    assert.deepStrictEqual(wrongIn(fleet.steps()), [])
    yield* Effect.log(
      `a program that ${trouble}s: ${took.toFixed(0)} ms to the next leader, with a ttl of ${leading.ttl} ms`
    )
  })
