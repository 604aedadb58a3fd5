/** Two runner processes, one of which is frozen or killed, again and again, while their entities work. */
import { NodeClusterSocket } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import { freePorts, startWorker, type Worker } from "dlock-testing"
import { lag, timed } from "dlock-testing/live"
import { Context, Duration, Effect, Layer, References, Schedule, type Scope } from "effect"
import { MessageStorage, RunnerStorage, type Sharding } from "effect/cluster"
import { Redis } from "ioredis"
import * as Path from "node:path"
import { config, Counter, guardGap, lists, type Step, storage, ttl } from "./programs/counter.ts"

const program = Path.join(import.meta.dirname, "programs/runner.ts")

export const rounds = Number(process.env.DLOCK_CLUSTER_ROUNDS || 2)

const entities = Array.from({ length: 6 }, (_, index) => `e${index}`)

/** What went wrong in the resource's order, and how many steps came late although nothing else did. */
export interface Verdict {
  /** For each list, the steps that came after a step of a later life. */
  readonly late: Readonly<Record<(typeof lists)[number], ReadonlyArray<Late>>>
  /** The longest time from a fault until all entities worked elsewhere, in milliseconds. */
  readonly recovered: ReadonlyArray<number>
  readonly refused: number
  readonly steps: number
  readonly moves: number
}

interface Late extends Step {
  readonly entity: string
  /** How many milliseconds after the process was continued the step began. Negative if it began before the freeze. */
  readonly afterFreeze: number
}

interface Freeze {
  readonly pid: number
  readonly from: number
  readonly to: number
}

/**
 * The steps that came after a step of a later life of the entity. Which life is later its token tells: the first step of a life may
 * itself be late.
 */
const lateIn = (entity: string, steps: ReadonlyArray<Step>, freezes: ReadonlyArray<Freeze>): ReadonlyArray<Late> => {
  let newest = 0n
  const late: Array<Late> = []
  for (const step of steps) {
    const token = BigInt(step.token)
    if (token >= newest) {
      newest = token
      continue
    }
    const freeze = freezes.findLast(({ from, pid }) => pid === step.pid && from <= step.at + 50)
    late.push({ ...step, entity, afterFreeze: freeze === undefined ? Infinity : step.at - freeze.to })
  }
  return late
}

const client = (locks: string): Effect.Effect<
  { readonly touch: (entity: string) => Effect.Effect<string>; readonly runners: Effect.Effect<number> },
  unknown,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const runnerStorage = storage(locks)
    const context = yield* Layer.build(
      NodeClusterSocket.layer({ clientOnly: true, storage: "byo", shardingConfig: config(undefined) }).pipe(
        Layer.provideMerge([runnerStorage, MessageStorage.layerNoop])
      )
    ).pipe(Effect.provideService(References.MinimumLogLevel, "None"))
    const make = yield* Effect.provideContext(Counter.client, context as Context.Context<Sharding.Sharding>)
    const scope = yield* Effect.scope
    return {
      /** The process that has the entity now, and works in it from now on. A frozen one does not answer. */
      touch: (entity) =>
        Effect.suspend(() => make(entity).Touch()).pipe(
          Effect.timeout("500 millis"),
          Effect.retry(Schedule.spaced("50 millis")),
          Effect.tap(() => Effect.forkIn(Effect.ignoreCause(make(entity).Work()), scope)),
          Effect.orDie
        ),
      runners: Effect.map(
        Effect.orDie(Context.get(context, RunnerStorage.RunnerStorage).getRunners),
        (runners) => runners.length
      )
    }
  })

/** Freezes and kills runners so many times each, and returns what their resource saw. */
export const disturb = Effect.fnUntraced(function*(
  locks: string,
  resource: string,
  counts: { readonly freezes: number; readonly kills: number }
) {
  const admin = yield* Effect.acquireRelease(
    Effect.sync(() => new Redis(resource)),
    (admin) => Effect.sync(() => admin.disconnect())
  )
  const { max } = yield* lag
  const ports = yield* Effect.promise(() => freePorts(2))
  const start = (index: number): Worker<{ readonly started?: true }> =>
    startWorker(program, { args: [locks, resource, `${ports[index]}`] })
  const workers = yield* Effect.acquireRelease(
    Effect.sync(() => [start(0), start(1)]),
    (workers) => Effect.promise(() => Promise.all(workers.map((worker) => worker.kill())))
  )
  yield* Effect.promise(() => Promise.all(workers.map((worker) => worker.waitFor(({ started }) => started === true))))
  const { runners, touch } = yield* client(locks)
  const touchAll = Effect.forEach(entities, touch, { concurrency: "unbounded" })
  /** Until every entity works in a process that is not this one. */
  const allElsewhere = (pid: number) =>
    Effect.repeat(Effect.delay(touchAll, 20), { while: (pids) => pids.includes(`${pid}`) })
  const bothHaveSome = Effect.repeat(Effect.delay(touchAll, 100), { until: (pids) => new Set(pids).size === 2 })
  const freezes: Array<Freeze> = []
  const recovered: Array<number> = []
  const faults = [
    ...Array.from({ length: counts.freezes }, () => "freeze" as const),
    ...Array.from({ length: counts.kills }, () => "kill" as const)
  ]
  for (const [round, fault] of faults.entries()) {
    yield* Effect.repeat(Effect.delay(runners, 50), { until: (count) => count === 2 })
    yield* Effect.timeout(bothHaveSome, "20 seconds")
    // Somewhere between two refreshes.
    yield* Effect.sleep((round * 377) % 1_000)
    const index = round % 2
    const victim = workers[index]!
    const from = Date.now()
    victim.signal(fault === "freeze" ? "SIGSTOP" : "SIGKILL")
    const [took] = yield* timed(Effect.timeout(allElsewhere(victim.pid), "30 seconds"))
    recovered.push(took)
    if (fault === "freeze") {
      // The others have worked for a while when it wakes up.
      yield* Effect.sleep(200)
      freezes.push({ pid: victim.pid, from, to: Date.now() })
      victim.signal("SIGCONT")
    } else {
      yield* Effect.promise(() => victim.exited)
      workers[index] = start(index)
      yield* Effect.promise(() => workers[index]!.waitFor(({ started }) => started === true))
    }
  }
  yield* Effect.timeout(bothHaveSome, "20 seconds")

  const late = { plain: [] as Array<Late>, checked: [] as Array<Late>, fenced: [] as Array<Late> }
  let refused = 0
  let steps = 0
  let moves = 0
  for (const entity of entities) {
    refused += yield* Effect.promise(() => admin.llen(`refused:${entity}`))
    for (const list of lists) {
      const lines = yield* Effect.promise(() => admin.lrange(`${list}:${entity}`, 0, -1))
      const taken = lines.map((line) => JSON.parse(line) as Step)
      if (list === "plain") {
        steps += taken.length
        moves += new Set(taken.map(({ life, pid }) => `${pid}/${life}`)).size - 1
      }
      late[list].push(...lateIn(entity, taken, freezes))
    }
  }
  const verdict: Verdict = { late, recovered, refused, steps, moves }
  const { checked, fenced, plain } = late
  console.log(JSON.stringify({
    ...counts,
    steps,
    moves,
    refused,
    late: { plain: plain.length, checked: checked.length, fenced: fenced.length },
    afterFreeze: plain.map(({ afterFreeze }) => afterFreeze),
    recovered: recovered.map(Math.round),
    lag: Math.round(max())
  }))
  return { verdict, lag: max() }
})

/** What is promised, whatever backend keeps the locks. */
export const keepsItsPromises = Effect.fnUntraced(function*(locks: string, resource: string) {
  const { lag, verdict: { late, moves, recovered } } = yield* disturb(locks, resource, {
    freezes: rounds,
    kills: rounds
  })
  assert.isAtLeast(moves, 2 * rounds)
  // A fence takes no step of an earlier runner.
  assert.deepStrictEqual(late.fenced, [])
  // A runner that was not frozen takes no step after the next one, whether it was killed or gave the shard away. One that
  // was frozen takes what was under way, in the moment in which it wakes up: one step, and one that a timer was due for.
  for (const list of [late.plain, late.checked]) {
    for (const { afterFreeze } of list) assert.isBelow(afterFreeze, 250 + lag)
    const most = list === late.plain ? 2 : 1
    const perLife = Map.groupBy(list, ({ entity, life, pid }) => `${entity} ${pid}/${life}`)
    for (const steps of perLife.values()) assert.isAtMost(steps.length, most)
  }
  // The locks and the registration of a runner that died expire, then the next one finds that out and asks again.
  for (const took of recovered) assert.isBelow(took, ttl + guardGap + 300 + 1_000 + 1_500)
  return Duration.millis(Math.max(...recovered))
})
