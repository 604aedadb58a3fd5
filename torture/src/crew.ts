import { type Proxy, startProxy, startWorker, type Worker } from "dlock-testing"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Assignment, type Crowd, placeOf, type Report } from "./assignment.ts"
import type { Field } from "./fields/field.ts"
import type { Recorder } from "./recorder.ts"

/** Who asks for many keys, who waits in a crowd for one, who far from its head and for long, and who dies behind a holder. */
export type Role = "usual" | "crowd" | "far" | "doomed"

/** A place in the crew: its proxies, and the process that is in it now. */
export interface Member {
  readonly role: Role
  readonly proxies: ReadonlyArray<Proxy>
  /** Its name in all of its lives. */
  readonly place: string
  readonly who: () => string
  readonly worker: () => Worker<Report>
  /** Ends the process without a warning, and starts another so many milliseconds later. */
  readonly replace: (after?: number) => Promise<void>
  /** What the proxies did to it is over. */
  readonly heal: () => Promise<void>
}

export interface Crew {
  readonly members: ReadonlyArray<Member>
  /** Each finishes what it has begun, closes, and ends by itself; who does not is told of. */
  readonly finish: (limit: number) => Promise<void>
  readonly stop: () => Promise<void>
}

export interface CrewOptions {
  readonly count: number
  /** Further processes, each a crowd. */
  readonly crowds?: ReadonlyArray<{ readonly role: Role; readonly crowd: Crowd }>
  readonly assignment: Omit<Assignment, "address" | "resource" | "who" | "seed" | "calm">
  readonly seed: number
  /** Whether each has proxies of its own, and there is one more without that looks at what is left behind. */
  readonly proxied: boolean
}

const file = Path.join(import.meta.dirname, "worker.ts")

export const startCrew = async (field: Field, recorder: Recorder, options: CrewOptions): Promise<Crew> => {
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
      ttl: field.ttlOf?.(salt) ?? assignment.ttl,
      address: field.through(ports, salt),
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

  const member = async (index: number, role: Role, crowd?: Crowd): Promise<Member> => {
    const proxies = proxied ? await Promise.all(field.ports.map((port) => startProxy(port))) : []
    const ports = proxied ? proxies.map(({ port }) => port) : field.ports
    let life = 1
    const place = placeOf(index)
    const who = () => `${place}.${life}`
    let worker = launch(who(), ports, index, false, crowd)
    return {
      role,
      proxies,
      place,
      who,
      worker: () => worker,
      replace: async (after = 0) => {
        await worker.kill()
        await sleep(after)
        if (finishing) return
        life++
        worker = launch(who(), ports, index + 100 * life, false, crowd)
        await ready(worker).catch(() => {})
      },
      heal: async () => {
        for (const proxy of proxies) {
          proxy.delay(0)
          proxy.pushes("in time")
          proxy.release()
          await proxy.accept()
        }
      }
    }
  }
  const members = await Promise.all([
    ...Array.from({ length: count }, (_, index) => member(index, "usual")),
    ...crowds.map(({ crowd, role }, index) => member(count + index, role, crowd))
  ])
  const calm = proxied ? launch("calm", field.ports, 98, true) : undefined
  await Promise.all(everybody.map(ready))

  const alive = () => [
    ...members.map((one) => ({ who: one.who(), worker: one.worker() })),
    ...(calm === undefined ? [] : [
      { who: "calm", worker: calm }
    ])
  ]
  return {
    members,
    finish: async (limit) => {
      finishing = true
      const all = alive()
      for (const { worker } of all) worker.send({ stop: limit })
      await Promise.all(all.map(async ({ who, worker }) => {
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
      await Promise.all(members.flatMap(({ proxies }) => proxies.map((proxy) => proxy.stop())))
    }
  }
}
