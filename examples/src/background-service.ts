// A background service of which a fleet needs one: three instances stand for it, one leads, and a rolling restart moves it
// from one to the next.
//
// What to learn from it:
// - `Leader.layer` is a layer beside the others of a service. Every instance has it, and one of them runs its program.
// - A process that is told to stop (SIGTERM) interrupts the program, waits until it has put its work away, and only then
//   releases the lock. The next one leads a moment later, and never beside it.
// - The term only rises. It is the fencing token, so what the leader writes can carry it.
//
// On Redis and etcd the instances are processes. In memory they are fibers of this one.
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Config, Console, Effect, Exit, Layer, Schedule, Scope, Stream } from "effect"
import { Leader, type Lease } from "effect-dlock"
import { ChildProcess } from "effect/process"
import { LockerLive } from "./locker.ts"

/** Tells what happens, and when by the clock that all processes of a machine share. */
type Say = (what: string) => Effect.Effect<void>

const mailer = (instance: string, say: Say) => (lease: Lease) =>
  Effect.gen(function*() {
    yield* say(`${instance} leads in term ${lease.fencingToken}`)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(Effect.sleep("20 millis"), say(`${instance} has sent its last mail`))
    )
    yield* Effect.repeat(Effect.void, Schedule.spaced("50 millis"))
  })

const service = (instance: string, say: Say) =>
  Layer.effectDiscard(say(`${instance} stands`)).pipe(
    Layer.merge(Leader.layer("services/mailer", mailer(instance, say), { ttl: "5 seconds", metadata: { instance } }))
  )

const millis = Effect.sync(() => Number(process.hrtime.bigint() / 1_000n) / 1_000)
const timed = (what: string) => Effect.map(millis, (at) => `${at.toFixed(1)} ${what}`)

/** What was said, by all instances. */
const said: Array<{ readonly at: number; readonly what: string }> = []

const countOf = (text: string) => said.filter(({ what }) => what === text).length

/** Hears a line of an instance. What it logs besides is passed on. */
const hear = (line: string) => {
  const [, at, what] = /^(\d+\.\d) (.*)$/.exec(line) ?? []
  if (what === undefined) return Console.log(line)
  said.push({ at: Number(at), what })
  return Console.log(what)
}

const startFiber = (instance: string) =>
  Layer.build(Layer.fresh(service(instance, (what) => Effect.flatMap(timed(what), hear))))

/** The end of the scope sends SIGTERM, as the end of a container does. */
const startProcess = Effect.fnUntraced(function*(instance: string) {
  const child = yield* ChildProcess.make(process.execPath, [import.meta.filename, instance], {
    extendEnv: true,
    stderr: "inherit",
    forceKillAfter: "5 seconds"
  })
  yield* child.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runForEach(hear), Effect.forkDetach)
})

const rollingRestart = Effect.gen(function*() {
  const driver = yield* Config.String("DLOCK_DRIVER")
  const running = new Map<string, Scope.Closeable>()
  const begin = Effect.fnUntraced(function*(instance: string) {
    const scope = yield* Scope.fork(yield* Effect.scope)
    running.set(instance, scope)
    const times = countOf(`${instance} stands`)
    if (driver === "memory") yield* Scope.provide(startFiber(instance), scope)
    else yield* Scope.provide(startProcess(instance), scope)
    // It has to be there before the next one goes.
    yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => countOf(`${instance} stands`) > times })
    yield* Effect.sleep("200 millis")
  })
  const instances = ["north", "east", "south"]
  yield* Effect.forEach(instances, begin, { discard: true, concurrency: "unbounded" })
  for (const instance of instances) {
    yield* Console.log(`restarts ${instance}`)
    yield* Scope.close(running.get(instance)!, Exit.void)
    yield* begin(instance)
  }

  const work = said.filter(({ what }) => !what.endsWith("stands")).toSorted((a, b) => a.at - b.at)
  const elections = work.flatMap(({ at, what }, index) => {
    const term = /leads in term (\d+)/.exec(what)?.[1]
    return term === undefined ? [] : [{ term: BigInt(term), before: work[index - 1], at }]
  })
  const beside = elections.filter(({ before }) =>
    before !== undefined && !before.what.endsWith("has sent its last mail")
  )
  const isRising = elections.every(({ term }, index) => index === 0 || term > elections[index - 1]!.term)
  const gaps = elections.flatMap(({ at, before }) => before === undefined ? [] : [at - before.at])
  yield* Console.log(
    `${elections.length} leaders, ${beside.length} of them beside another one, terms ${isRising ? "" : "not "}rising, `
      + `at most ${Math.ceil(Math.max(...gaps))} ms without one`
  )
})

const instance = process.argv[2]

if (instance === undefined) {
  NodeRuntime.runMain(
    rollingRestart.pipe(Effect.scoped, Effect.provide([LockerLive, NodeServices.layer]))
  )
} else {
  // A service has other layers beside this one.
  const say: Say = (what) => Effect.flatMap(timed(what), Console.log)
  NodeRuntime.runMain(Layer.launch(service(instance, say).pipe(Layer.provide(LockerLive))))
}
