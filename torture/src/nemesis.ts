import { setTimeout as sleep } from "node:timers/promises"
import type { With } from "./dimensions.ts"
import type { Environment } from "./environments/environment.ts"
import { type Fault, now } from "./events.ts"
import { isOneOf } from "./faultWindows.ts"
import { Random } from "./random.ts"
import type { Recorder } from "./recorder.ts"
import { type FaultContext, type WorkerFault, workerFaults } from "./workerFaults.ts"
import type { Role, TorturedWorker, WorkerGroup } from "./workers.ts"

/** Milliseconds in which a server, after a fault, serves the requests in its sockets. */
const afterwards = 1_500

/** Milliseconds from one fault of a loop to its next, at least. */
const beat = 450

/**
 * About how many milliseconds pass between two faults of a role. A worker that dies behind a holder must first wait
 * before others.
 */
const between: Readonly<Record<Role, number>> = { usual: 5_000, crowd: 5_000, far: 5_000, doomed: 10_000 }

/** Milliseconds in which the last fault has to end. */
const patience = 60_000

export interface Nemesis {
  /** Stops new faults and waits until the current ones have ended. */
  readonly stop: () => Promise<void>
  /** Stops reporting. */
  readonly end: () => Promise<void>
  /** The first reason why it could not go on. */
  readonly failed: () => string | undefined
}

export interface NemesisOptions {
  readonly hot: ReadonlyArray<string>
  readonly seed: number
  /** How many workers use many keys. */
  readonly usual: number
  readonly with: With
  /** How many loops inject faults into workers and keys: as many workers have a fault at once. */
  readonly faultLoops: number
  /** Milliseconds between two faults of one loop. */
  readonly pause: number
  /** Milliseconds between two faults of the servers, about. */
  readonly serverPause: number
  /** Weights by kind, if they differ from the usual ones. */
  readonly weights: Readonly<Record<string, number>>
  /** Only these, where given. */
  readonly only: ReadonlyArray<string> | undefined
  readonly context: Omit<FaultContext, "isOver">
}

/** Injects faults into workers and their servers. Four of five are aimed at a worker that holds a lock at that moment. */
export const startNemesis = (
  workers: WorkerGroup,
  environment: Environment,
  recorder: Recorder,
  options: NemesisOptions
): Nemesis => {
  const { hot, faultLoops, only, pause, seed, serverPause, with: dimensions } = options
  const busyWorkers = new Set<TorturedWorker>()
  const underWay = new Set<string>()
  let stopped = false
  const context: FaultContext = { ...options.context, isOver: () => stopped }
  const stopping = Promise.withResolvers<void>()
  let failure: string | undefined
  let count = 0

  const allowed = (name: string) => only === undefined || only.includes(name)
  const ofRole = (role: Role) =>
    weights(Object.fromEntries(
      Object.entries<WorkerFault>(workerFaults).filter(([, { role: own = "usual" }]) => own === role)
    ))
  const weights = (of: Readonly<Record<string, Pick<WorkerFault, "weight" | "with" | "on">>>) =>
    Object.fromEntries(
      Object.entries(of)
        .filter(([name, one]) =>
          allowed(name) && (one.with === undefined || dimensions.has(one.with)) && (one.on?.(environment) ?? true)
        )
        .map(([name, { weight }]) => [name, options.weights[name] ?? weight])
    )
  const kinds = { ...ofRole("usual"), ...weights(environment.keyFaults) }
  /** While half of the workers have a fault already, only short ones: else nobody would hold a lock for long. */
  const short = weights({ ...environment.keyFaults, cut: workerFaults.cut })
  const serverKinds = weights(environment.serverFaults)

  const begin = (
    kind: string,
    workers: "all" | ReadonlyArray<string>,
    forgets: "all" | ReadonlyArray<string>,
    hit: boolean,
    more: Pick<Fault, "own" | "limbo" | "harmless"> = {}
  ) => {
    const n = count++
    underWay.add(kind)
    recorder.tell({ t: "fault", n, kind, from: now(), workers, forgets, hit, ...more })
    return (tail = 0) => {
      underWay.delete(kind)
      recorder.tell({ t: "healed", n, to: now() + tail })
    }
  }

  const injectKeyFault = async (kind: string, random: Random): Promise<void> => {
    const present = await recorder.present()
    const aimed = present.filter(({ key }) => hot.includes(key))
    const key = random.chance(0.8) && aimed.length > 0 ? random.pick(aimed).key : random.pick(hot)
    const hit = aimed.some((one) => one.key === key)
    let heal: (() => void) | undefined
    const { inject, harmless } = environment.keyFaults[kind]!
    await inject(key, (forgets) => (heal = begin(kind, "all", forgets, hit, { ...(harmless && { harmless }) })))
    heal?.()
  }

  const injectWorkerFault = async (kind: string, fault: WorkerFault, random: Random): Promise<void> => {
    const present = await recorder.present()
    const free = workers.all.filter((one) => one.role === (fault.role ?? "usual") && !busyWorkers.has(one))
    const holders = free.filter((worker) => present.some(({ who }) => who === worker.who()))
    const victim = random.chance(0.8) && holders.length > 0 ? random.pick(holders) : random.pick(free)
    if (victim === undefined) return
    busyWorkers.add(victim)
    const { endsProcess = false, harmless, hitsAll = false, limbo } = fault
    const heal = begin(kind, hitsAll ? "all" : [victim.who()], [], holders.includes(victim), {
      ...(limbo !== undefined && { limbo }),
      ...(harmless && { harmless })
    })
    if (endsProcess) heal()
    try {
      await fault.inject(victim, random, context)
    } finally {
      busyWorkers.delete(victim)
      if (!endsProcess) heal()
    }
  }

  const run = async (index: number, one: (random: Random) => Promise<void>, rest: (random: Random) => number) => {
    const random = new Random(seed * 31 + index)
    while (!stopped) {
      await Promise.race([sleep(rest(random)), stopping.promise])
      if (stopped) return
      const startedAt = now()
      // Injecting may fail, for example deleting a key while the server is down.
      await one(random).catch((error: unknown) => {
        if (/did not start/.test(String(error))) {
          failure ??= String(error)
          stopped = true
        }
      })
      // Faults that take no time must not follow each other too fast.
      await sleep(Math.max(0, startedAt + beat - now()))
    }
  }

  const running = Array.from({ length: faultLoops }, (_, index) =>
    run(
      index,
      async (random) => {
        const crowded = busyWorkers.size >= options.usual / 2 && Object.keys(short).length > 0
        const kind = random.weighted(crowded ? short : kinds)
        const fault = (workerFaults as Record<string, WorkerFault>)[kind]
        await (fault === undefined ? injectKeyFault(kind, random) : injectWorkerFault(kind, fault, random))
      },
      (random) => pause * random.between(0.5, 1.5)
    ))
  // Faults of a crowd have a loop of their own: they take long, and a crowd does not use many keys.
  for (const role of new Set(workers.all.map(({ role }) => role))) {
    const crowdKinds = ofRole(role)
    if (role === "usual" || Object.keys(crowdKinds).length === 0) continue
    running.push(run(
      faultLoops + 1 + running.length,
      (random) => {
        const kind = random.weighted(crowdKinds)
        return injectWorkerFault(kind, (workerFaults as Record<string, WorkerFault>)[kind]!, random)
      },
      (random) => between[role] * random.between(0.5, 1.5)
    ))
  }
  if (Object.keys(serverKinds).length > 0) {
    running.push(run(
      faultLoops,
      async (random) => {
        const kind = random.weighted(serverKinds)
        const fault = environment.serverFaults[kind]!
        const present = await recorder.present()
        const { harmless, limbo, hits } = fault
        const affected = hits === undefined
          ? "all"
          : workers.all.filter((_, index) => hits(index)).map((worker) => worker.place)
        const aimed = present.filter(({ key, who }) =>
          hot.includes(key) && (affected === "all" || affected.some((place) => isOneOf(place, who)))
        )
        const key = aimed.length > 0 ? random.pick(aimed).key : random.pick(hot)
        const heal = begin(kind, affected, fault.forgets ? "all" : [], aimed.length > 0, {
          ...(limbo !== undefined && { limbo }),
          ...(harmless && { harmless })
        })
        try {
          await fault.inject(key, random)
        } finally {
          heal(fault.tail ?? afterwards)
        }
      },
      (random) => serverPause * random.between(0.5, 1.5)
    ))
  }
  // On a busy machine servers fail over by themselves.
  let over = false
  const watch = async (inStep: () => Promise<boolean>) => {
    let calm: ((tail: number) => void) | undefined
    while (!over) {
      const quiet = await inStep().catch(() => false)
      if (!quiet) calm ??= begin("unrest", "all", "all", false, { own: true })
      else if (calm !== undefined) {
        calm(afterwards)
        calm = undefined
      }
      await sleep(400)
    }
    calm?.(afterwards)
  }
  const watching = environment.inStep === undefined ? undefined : watch(environment.inStep)
  return {
    end: async () => {
      over = true
      await watching
    },
    stop: async () => {
      stopped = true
      stopping.resolve()
      const ended = await Promise.race([Promise.all(running), sleep(patience)])
      if (ended === undefined) failure ??= `these faults do not end: ${Array.from(underWay).join(", ")}`
      await Promise.all(workers.all.map((worker) => worker.heal()))
      if (environment.last !== undefined) {
        const { fault, kind } = environment.last
        const heal = begin(kind, "all", fault.forgets ? "all" : [], false, { own: true })
        await fault.inject(hot[0]!, new Random(seed))
        heal(fault.tail)
      }
    },
    failed: () => failure
  }
}
