import { type Proxy, startProxy, startWorker, type Worker } from "dlock-testing"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Assignment, type Crowd, placeOf, type Report } from "./assignment.ts"
import type { Environment } from "./environments/environment.ts"
import type { Recorder } from "./recorder.ts"

/**
 * `usual` workers use many keys. A `crowd` waits for one key, `far` workers wait far from the head with a long ttl, and
 * `doomed` ones die behind a holder.
 */
export type Role = "usual" | "crowd" | "far" | "doomed"

/** One worker: its proxies, and its process, which may be replaced by another. */
export interface TorturedWorker {
  readonly role: Role
  readonly proxies: ReadonlyArray<Proxy>
  /** Its name, which its processes share. */
  readonly place: string
  readonly who: () => string
  readonly process: () => Worker<Report>
  /** Kills the process, and starts another so many milliseconds later. */
  readonly replace: (after?: number) => Promise<void>
  /** Asks the process to end, as a rolling restart does, and starts another when it has. */
  readonly restart: () => Promise<void>
  /** Ends all faults of its proxies. */
  readonly heal: () => Promise<void>
}

export interface WorkerGroup {
  readonly all: ReadonlyArray<TorturedWorker>
  /** Each worker finishes its sections, closes, and exits by itself; one that does not is reported. */
  readonly finish: (limit: number) => Promise<void>
  readonly stop: () => Promise<void>
}

export interface WorkerGroupOptions {
  readonly count: number
  /** Further processes, each a crowd. */
  readonly crowds?: ReadonlyArray<{ readonly role: Role; readonly crowd: Crowd }>
  readonly assignment: Omit<Assignment, "address" | "resource" | "who" | "seed" | "calm">
  readonly seed: number
  /** Whether each has its own proxies, and one more worker without proxies checks what is left behind. */
  readonly proxied: boolean
}

const file = Path.join(import.meta.dirname, "worker.ts")

export const startWorkers = async (
  environment: Environment,
  recorder: Recorder,
  options: WorkerGroupOptions
): Promise<WorkerGroup> => {
  const { assignment, count, crowds = [], proxied, seed } = options
  const everybody: Array<Worker<Report>> = []
  let finishing = false

  const launch = (
    who: string,
    ports: ReadonlyArray<number>,
    salt: number,
    calm: boolean,
    crowd?: Crowd
  ): Worker<Report> => {
    const full: Assignment = {
      ...assignment,
      ...(crowd !== undefined && { crowd }),
      ttl: environment.ttlOf?.(salt) ?? assignment.ttl,
      address: environment.through(ports, salt),
      resource: recorder.port,
      who,
      seed: seed * 1009 + salt,
      calm
    }
    const worker = startWorker<Report>(file, {
      args: [JSON.stringify(full)],
      execArgv: assignment.sections === undefined ? [] : ["--expose-gc"]
    })
    everybody.push(worker)
    void worker.exited.then(({ code, signal }) => {
      if (signal === null && code !== 0) {
        recorder.tell({ t: "unhandled", message: `${who} ended with code ${code}: ${worker.output().slice(-400)}` })
      }
    })
    return worker
  }
  const ready = (worker: Worker<Report>) => worker.waitFor((one) => "ready" in one || "failed" in one, 60_000)

  const makeWorker = async (index: number, role: Role, crowd?: Crowd): Promise<TorturedWorker> => {
    const proxies = proxied ? await Promise.all(environment.ports.map((port) => startProxy(port))) : []
    const ports = proxied ? proxies.map(({ port }) => port) : environment.ports
    let life = 1
    const place = placeOf(index)
    const who = () => `${place}.${life}`
    let process = launch(who(), ports, index, false, crowd)
    const next = async () => {
      if (finishing) return
      life++
      process = launch(who(), ports, index + 100 * life, false, crowd)
      await ready(process).catch(() => {})
    }
    return {
      role,
      proxies,
      place,
      who,
      process: () => process,
      replace: async (after = 0) => {
        await process.kill()
        await sleep(after)
        await next()
      },
      restart: async () => {
        process.signal("SIGTERM")
        const ended = await Promise.race([process.exited, sleep(20_000)])
        if (ended === undefined) recorder.tell({ t: "left", what: `${who()} did not end after a SIGTERM` })
        await process.kill()
        await next()
      },
      heal: async () => {
        for (const proxy of proxies) {
          proxy.delay(0)
          proxy.deliverNotifications("in time")
          proxy.release()
          await proxy.accept()
        }
      }
    }
  }
  const all = await Promise.all([
    ...Array.from({ length: count }, (_, index) => makeWorker(index, "usual")),
    ...crowds.map(({ crowd, role }, index) => makeWorker(count + index, role, crowd))
  ])
  const calm = proxied ? launch("calm", environment.ports, 98, true) : undefined
  await Promise.all(everybody.map(ready))

  const alive = () => [
    ...all.map((one) => ({ who: one.who(), worker: one.process() })),
    ...(calm === undefined ? [] : [
      { who: "calm", worker: calm }
    ])
  ]
  return {
    all,
    finish: async (limit) => {
      finishing = true
      const living = alive()
      for (const { worker } of living) worker.send({ stop: limit })
      await Promise.all(living.map(async ({ who, worker }) => {
        const closed = await worker.waitFor((one) => "closed" in one || "failed" in one, limit + 15_000).catch(() =>
          undefined
        )
        if (closed === undefined) return recorder.tell({ t: "left", what: `${who} did not close` })
        if (!("closed" in closed)) return
        if (closed.left.length > 0) recorder.tell({ t: "left", what: `${who} has ${closed.left.join(", ")}` })
        const exited = await Promise.race([worker.exited, new Promise((resolve) => setTimeout(resolve, 3_000))])
        if (exited === undefined) recorder.tell({ t: "left", what: `${who} does not end by itself` })
      }))
    },
    stop: async () => {
      finishing = true
      await Promise.all(everybody.map((worker) => worker.kill()))
      await Promise.all(all.flatMap(({ proxies }) => proxies.map((proxy) => proxy.stop())))
    }
  }
}
