import { ConfigProvider, Effect, Fiber, Layer, Queue, Record, Redacted, Stream } from "effect"
import { Ndjson } from "effect/encoding"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { type Environment, environment, type ServerDriver } from "../servers.ts"
import { Event, History } from "./journal.ts"
import { ShopByDriver } from "./shops.ts"
import { Order, WorkerFailed, workerNames, Workers } from "./workers.ts"

/** Starts a worker and waits until it is ready. It ends with the scope, or when its standard input ends. */
const startWorker = Effect.fnUntraced(function*(worker: string, env: Environment) {
  const history = yield* History
  const orders = yield* Queue.unbounded<Order>()
  const child = yield* ChildProcess.make(process.execPath, [`${import.meta.dirname}/worker.ts`, worker], {
    env,
    extendEnv: true,
    stdin: Stream.fromQueue(orders).pipe(Stream.pipeThroughChannel(Ndjson.encodeSchema(Order)()), Stream.orDie),
    stderr: "inherit",
    forceKillAfter: "3 seconds"
  })
  const reading = yield* child.stdout.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(Event)()),
    Stream.runForEach(history.add),
    Effect.andThen(Effect.fail("its process has ended")),
    Effect.mapError((cause) => new WorkerFailed({ worker, cause })),
    Effect.forkScoped
  )
  const heard = (tag: Event["_tag"]) =>
    Effect.raceFirst(
      history.first((event) => event._tag === tag && event.worker === worker),
      Fiber.join(reading)
    )
  yield* heard("Ready")
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner

  return {
    serve: (order: Order) => Effect.andThen(Queue.offer(orders, order), heard("Done")),
    cutOff: (from: Effect.Effect<unknown>, until: Effect.Effect<unknown>) =>
      pause(child.pid, from, until).pipe(
        Effect.provideService(ChildProcessSpawner.ChildProcessSpawner, spawner),
        Effect.mapError((cause) => new WorkerFailed({ worker, cause }))
      )
  }
})

/**
 * Stops a process between two events, by the hand of a shell that goes on when its standard input ends: even if this
 * process is killed in between, the other does not stay stopped.
 */
const pause = (pid: number, from: Effect.Effect<unknown>, until: Effect.Effect<unknown>) => {
  const word = Effect.as(from, new TextEncoder().encode("\n"))
  return ChildProcess.make("sh", ["-c", "read _ && kill -STOP $0; read _; kill -CONT $0", `${pid}`], {
    stdin: Stream.concat(Stream.fromEffect(word), Stream.fromEffectDrain(until))
  }).pipe(
    Effect.flatMap((shell) => shell.exitCode),
    Effect.scoped,
    Effect.ensuring(Effect.ignore(Effect.try(() => process.kill(pid, "SIGCONT"))))
  )
}

const makeWorkers = Effect.fnUntraced(function*(env: Environment, { adds, place }: typeof words[ServerDriver]) {
  const started = yield* Effect.forEach(workerNames, (worker) => startWorker(worker, env), { concurrency: "unbounded" })
  const staff = new Map(workerNames.map((worker, index) => [worker, started[index]!]))
  return Workers.of({
    described: `Each worker is a process of its own, and the locks are in ${place}.`,
    fault: `his process is stopped (SIGSTOP), as by a long garbage collection or a moved machine${adds}`,
    serve: (worker, order) => Effect.asVoid(staff.get(worker)!.serve(order)),
    cutOff: (worker, from, until) => Effect.asVoid(staff.get(worker)!.cutOff(from, until))
  })
})

const words = {
  redis: { place: "Redis", adds: "" },
  etcd: { place: "etcd", adds: "; etcd counts in whole seconds, so it takes two" }
} as const

/** Each worker is a separate process, and the locks and the shop are in the server of the driver. */
export const workersInProcesses = (driver: ServerDriver) =>
  Layer.unwrap(Effect.gen(function*() {
    const prefix = `dlock-demo:${process.pid}:`
    const env: Environment = {
      ...yield* environment(driver, "demo", `, keys ${prefix}*, which expire`),
      DLOCK_PREFIX: prefix
    }
    const plain = Record.map(env, (value) => Redacted.isRedacted(value) ? Redacted.value(value) : value)
    return Layer.effect(Workers, makeWorkers(env, words[driver])).pipe(
      Layer.provideMerge(ShopByDriver),
      Layer.provideMerge(History.layer),
      Layer.provide(ConfigProvider.layerAdd(ConfigProvider.fromUnknown(plain), { asPrimary: true }))
    )
  }))
