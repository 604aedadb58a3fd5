/**
 * A process that uses a lock library with many fibers and reports everything to the resource. When told to stop, it
 * finishes its sections, closes what it has opened, and exits because nothing is left to do.
 */
import { onMessage, report } from "dlock-testing/report"
import { Cause, Effect, Exit, Fiber, Schedule, Scope, Semaphore } from "effect"
import type { Assignment, Order, Section } from "./assignment.ts"
import { now } from "./events.ts"
import { job } from "./jobs.ts"
import { observes, stands } from "./leaders.ts"
import { sharedKeys } from "./lockShape.ts"
import { problemsAtEnd, problemsNow, summary } from "./metrics.ts"
import { operate } from "./operator.ts"
import { quick } from "./quick.ts"
import { Random } from "./random.ts"
import { ResourceClient } from "./resourceClient.ts"
import { burst, busy, comesBack, crowd, keeps, probe, Sections, several, type Work } from "./sections.ts"
import { longFar } from "./settings.ts"
import { makeOf } from "./subjects/index.ts"
import type { Subject } from "./subjects/subject.ts"
import { watchLag } from "./watchLag.ts"

const assignment = JSON.parse(process.argv[2]!) as Assignment
const {
  address,
  calm,
  cold,
  fibers,
  hot,
  jobs,
  joins,
  keeps: keep,
  leaders,
  lingering,
  long,
  resource,
  rest,
  revocable,
  seed,
  sets,
  ttl,
  who,
  writers
} = assignment

/** Milliseconds in which all that runs ends when it is interrupted. */
const termination = 12_000

const interrupted = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber))

const stand = (stall: number) => {
  const end = now() + stall
  while (now() < end);
}
let orders: {
  readonly section: (section: Section) => void
  readonly burst: (count: number) => void
  readonly close: () => void
} | undefined
let stopping: ((limit: number) => void) | undefined
const stopped = new Promise<number>((resolve) => (stopping = resolve))
let stopsSoon = false
let isTerminated = false
// As a rolling restart asks a process to end: whatever runs is interrupted, and ends.
process.on("SIGTERM", () => {
  stopsSoon = true
  isTerminated = true
  stopping?.(termination)
})
onMessage((message) => {
  const { burst, close, section, stall, stop } = message as Order
  if (section !== undefined) orders?.section(section)
  if (close === true) orders?.close()
  if (burst !== undefined) orders?.burst(burst)
  // As a long loop or a garbage collection does. The last request has been sent; its reply will lie in the socket.
  if (stall !== undefined) setImmediate(() => stand(stall))
  if (stop !== undefined) {
    stopsSoon = true
    stopping?.(stop)
  }
})

const client = await ResourceClient.open(resource, who)
for (const event of ["unhandledRejection", "uncaughtException"] as const) {
  process.on(event, (error: unknown) => client.tell({ t: "unhandled", message: String(error).slice(0, 300) }))
}
const unwatch = watchLag((from, to) => client.tell({ t: "lag", from, to }))

const closing = (scope: Scope.Closeable) =>
  Effect.suspend(() => {
    const from = now()
    return Effect.tap(Scope.close(scope, Exit.void), () => {
      const took = now() - from
      if (took > 5_000) client.tell({ t: "slow", what: "closing the layer", took, limit: 5_000, at: now() })
      return Effect.void
    })
  })

const miscounted = (problems: ReadonlyArray<string>): void => {
  for (const what of problems) client.tell({ t: "miscounted", what })
}

const main = Effect.gen(function*() {
  const make = yield* Effect.promise(() => makeOf(assignment.subject))
  let scope = Scope.makeUnsafe()
  // A worker that is started into a fault waits like everybody else. A server that refuses does so at once.
  const again = { schedule: Schedule.spaced(100), times: 100, while: () => !stopsSoon }
  const build = Effect.exit(Effect.suspend(() => Effect.retry(Scope.provide(make(address), scope), again)))
  const built = yield* build
  if (Exit.isFailure(built)) {
    report({ failed: Cause.pretty(built.cause) })
    return yield* Effect.sync(() => process.exit(0))
  }
  let current: Subject = built.value
  const subject: Subject = {
    hold: (ask, body) => Effect.suspend(() => current.hold(ask, body)),
    once: (job, run) => Effect.suspend(() => current.once?.(job, run) ?? Effect.succeedNone),
    lead: (candidacy, program) =>
      Effect.suspend(() => current.lead?.(candidacy, program) ?? Effect.succeed("busy" as const))
  }
  const rebuild = Effect.gen(function*() {
    const old = scope
    yield* closing(old)
    scope = Scope.makeUnsafe()
    const next = yield* build
    if (Exit.isSuccess(next)) current = next.value
    report({ reopened: now() })
  })
  // One after the other, and none when the last is closed.
  const layers = Semaphore.makeUnsafe(1)
  const random = new Random(seed)
  const habits = calm ? { ...assignment, ending: 0 } : assignment
  // What takes a moment to end takes it after a SIGTERM too.
  const sections = new Sections(subject, client, who, habits, () => stopsSoon && !isTerminated)
  const work: Work = { sections, random, ttl, who, writers, lingering, stopped: () => stopsSoon }
  let bursts = 0
  orders = {
    section: ({ key, pace, steps, ttl }) =>
      void Effect.runFork(sections.run({ key, ttl, way: "with" }, { steps, pace })),
    close: () => void (stopsSoon || Effect.runFork(layers.withPermits(1)(rebuild))),
    burst: (count) => void Effect.runFork(burst(subject, client, count, `${who}-${bursts++}`))
  }
  report({ ready: now() })
  // Where several are inside, more have to come, so that some wait.
  const fibersOf = (key: string): number => sharedKeys.includes(key) ? 2 * fibers : fibers
  const names = [...hot, ...Array.from({ length: cold }, (_, index) => `cold-${who.split(".")[0]}-${index}`)]
  const all = assignment.sections !== undefined
    ? [quick(work, hot, names, fibers, assignment.sections)]
    : assignment.crowd !== undefined
    ? [crowd(work, assignment.crowd)]
    : calm
    ? [
      ...["a", "b", "c"].map((name) => probe(work, `probe-${who}-${name}`, client)),
      ...joins.map((key) => crowd(work, { key, waiters: 2, ttls: [longFar] })),
      ...(keep === undefined ? [] : [keeps(work, keep)]),
      ...(current.operator === undefined || revocable.length === 0
        ? []
        : [operate(current.operator, client, random, { keys: revocable, ttl, stopped: work.stopped })]),
      ...leaders.map((name) => observes(current, client, name, work.stopped))
    ]
    : [
      ...hot.flatMap((key) => Array.from({ length: fibersOf(key) }, () => busy(work, key, long, rest))),
      ...names.slice(hot.length).map((key) => busy(work, key, 0.1, 3 * rest)),
      ...(sets.length === 0 ? [] : Array.from({ length: fibers }, () => several(work, sets, rest))),
      ...jobs.map((one) => job(subject, client, random, one, ttl, () => stopsSoon)),
      ...leaders.map((name) => stands(work, subject, client, name, assignment.guard))
    ]
  const running = yield* Effect.forkDetach(
    Effect.scoped(Effect.forEach(all, (one) => one, { concurrency: "unbounded", discard: true }))
  )
  // What a killed process counted is known up to its last look.
  const look = Effect.tap(problemsNow, (problems) => Effect.sync(() => miscounted(problems)))
  const looking = yield* Effect.forkDetach(Effect.repeat(look, Schedule.spaced(1_000)))
  const limit = yield* Effect.promise(() => stopped)
  const ended = yield* Effect.timeoutOption(isTerminated ? interrupted(running) : Fiber.await(running), limit)
  if (ended._tag === "None") {
    const moment = now()
    for (const { key, since } of sections.waiting.values()) client.tell({ t: "stuck", key, waited: moment - since })
  } else if (Exit.isFailure(ended.value) && !(isTerminated && Cause.hasInterruptsOnly(ended.value.cause))) {
    client.tell({ t: "unhandled", message: Cause.pretty(ended.value.cause).slice(0, 500) })
  }
  if (assignment.sections === undefined && !isTerminated) yield* comesBack(work, who, limit, client)
  yield* layers.withPermits(1)(Effect.suspend(() => closing(scope)))
  yield* Fiber.interrupt(looking)
  if (ended._tag === "None") return
  const problems = yield* Effect.delay(problemsAtEnd, 100)
  miscounted(problems)
  if (problems.length === 0) client.tell({ t: "counted", counts: summary() })
})

await Effect.runPromise(main)
unwatch()
client.close()
// Time for the last fibers, and for sockets that the client closes in the background.
await new Promise((resolve) => setTimeout(resolve, 500))
const pipes = new Set(["PipeWrap", "TTYWrap", "FSReqCallback", "Immediate"])
report({ closed: now(), left: process.getActiveResourcesInfo().filter((name) => !pipes.has(name)) })
process.stdin.removeAllListeners("close").destroy()
