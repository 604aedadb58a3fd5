import { setTimeout as sleep } from "node:timers/promises"
import type { Dimension } from "./dimensions.ts"
import { aLittle, type Environment, eventually } from "./environments/environment.ts"
import { now } from "./events.ts"
import type { Random } from "./random.ts"
import type { Recorder } from "./recorder.ts"
import { behind } from "./settings.ts"
import type { Role, TorturedWorker, WorkerGroup } from "./workers.ts"

/** A fault of one worker or of its connections to the servers, from its beginning to its end. */
export interface WorkerFault {
  readonly weight: number
  /** Only in a run that has this dimension. */
  readonly with?: Dimension
  /** Only on such servers. */
  readonly on?: (environment: Environment) => boolean
  /** The role of the workers that it hits: those that use many keys, unless given. */
  readonly role?: Role
  /** See `Fault`. */
  readonly limbo?: number
  readonly harmless?: boolean
  /** Whether it kills the process, so that it ends at once. */
  readonly endsProcess?: boolean
  /** Whether it hits the other workers too. */
  readonly hitsAll?: boolean
  readonly inject: (worker: TorturedWorker, random: Random, context: FaultContext) => Promise<void>
}

export interface FaultContext {
  readonly workers: WorkerGroup
  readonly environment: Environment
  /** The longest time in milliseconds that a holder keeps a lock without renewal. */
  readonly ttl: number
  readonly recorder: Recorder
  /** Keys that a burst asks for. */
  readonly burst: number
  /** Multiplies the durations of faults. */
  readonly stretch: number
  /** Whether the nemesis is stopping. */
  readonly isOver: () => boolean
}

const last = (random: Random, { stretch, ttl }: FaultContext) => sleep(aLittle(ttl, random) * stretch)

/** A fault of all connections of a worker that ends when they are healed. */
const connections = (weight: number, begin: (proxy: TorturedWorker["proxies"][number]) => void): WorkerFault => ({
  weight,
  inject: async (worker, random, context) => {
    worker.proxies.forEach(begin)
    await last(random, context)
    await worker.heal()
  }
})

/** A fault of the notifications to waiters far from the head, for so many milliseconds at most. */
const notifications = (
  fate: (random: Random) => Parameters<TorturedWorker["proxies"][number]["deliverNotifications"]>[0],
  longest: number
) =>
  ({
    with: "notifications",
    role: "far",
    harmless: true,
    inject: async ({ proxies }, random) => {
      for (const proxy of proxies) proxy.deliverNotifications(fate(random))
      await sleep(random.between(50, longest))
      for (const proxy of proxies) proxy.deliverNotifications("in time")
    }
  }) satisfies Partial<WorkerFault>

const replicated = ({ freezeReplicas }: Environment) => freezeReplicas !== undefined

export const workerFaults = {
  "cut": { weight: 12, inject: async ({ proxies }) => proxies.forEach((proxy) => proxy.reset()) },
  "hold": connections(12, (proxy) => proxy.hold()),
  "hold the replies": connections(8, (proxy) => proxy.holdReplies()),
  "hold the requests": connections(6, (proxy) => proxy.holdRequests()),
  "lose the replies": {
    weight: 10,
    inject: async (worker, random, { ttl }) => {
      for (const proxy of worker.proxies) proxy.holdReplies()
      await sleep(ttl * random.between(0.02, 0.3))
      for (const proxy of worker.proxies) proxy.reset()
      await worker.heal()
    }
  },
  // One server of several, or the only one.
  "hold one server": {
    weight: 4,
    inject: async (worker, random, context) => {
      random.pick(worker.proxies).hold()
      await last(random, context)
      await worker.heal()
    }
  },
  "refuse": {
    weight: 6,
    inject: async (worker, random, context) => {
      for (const proxy of worker.proxies) {
        proxy.refuse()
        proxy.reset()
      }
      await last(random, context)
      await worker.heal()
    }
  },
  "delay": {
    weight: 6,
    inject: async (worker, random, context) => {
      const late = context.ttl * random.between(0.02, 0.2)
      for (const proxy of worker.proxies) proxy.delay(late)
      await last(random, context)
      await worker.heal()
    }
  },
  "SIGSTOP": {
    weight: 10,
    inject: async (worker, random, context) => {
      const from = now()
      worker.process().signal("SIGSTOP")
      await last(random, context)
      worker.process().signal("SIGCONT")
      context.recorder.tell({ t: "lag", worker: worker.who(), from, to: now() })
    }
  },
  "stall": {
    weight: 6,
    harmless: true,
    inject: async (worker, random, { ttl }) => {
      const stall = aLittle(ttl, random)
      worker.process().send({ stall })
      await sleep(stall)
    }
  },
  "freeze the replicas": {
    weight: 4,
    with: "replicas",
    on: replicated,
    hitsAll: true,
    inject: async (_, random, context) => {
      const thaw = context.environment.freezeReplicas?.()
      if (thaw === undefined) return
      await last(random, context)
      thaw()
    }
  },
  // A grant that no replica confirmed is withdrawn and requested again. The withdrawal arrives after that request.
  "freeze the replicas, and withdraw late": {
    weight: 20,
    with: "replicas",
    on: replicated,
    hitsAll: true,
    inject: async (worker, random, { workers, environment, ttl }) => {
      const key = `late-${random.name()}`
      const section = { key, ttl: 10 * ttl, steps: 24, pace: 50 }
      const thaw = environment.freezeReplicas?.()
      if (thaw === undefined) return
      let late = false
      const givenBack = (request: Buffer) => {
        if (!late && request.includes(key) && environment.givesBack?.(request) === true) {
          late = true
          thaw()
        }
        return late
      }
      const [open, tail] = [random.between(10, 100), ttl * random.between(0.2, 1.2)]
      const arrived = worker.proxies.map((proxy) => proxy.strand(open, tail, givenBack))
      worker.process().send({ section })
      await sleep(ttl * random.between(1.2, 2))
      random.pick(workers.all.filter((one) => one !== worker)).process().send({ section })
      await Promise.all(arrived)
      if (!late) thaw()
      await sleep(24 * 50)
    }
  },
  "requests come late": {
    weight: 8,
    with: "replicas",
    inject: async ({ proxies }, random, { ttl }) => {
      await Promise.all(proxies.map((proxy) => proxy.strand(random.between(1, 100), ttl * random.between(0.1, 2))))
    }
  },
  "SIGKILL": { weight: 2, endsProcess: true, inject: (worker) => worker.replace() },
  "SIGTERM": {
    weight: 4,
    with: "leaders",
    harmless: true,
    // What it had is given back, and the next is in at once.
    limbo: 0,
    endsProcess: true,
    inject: (worker) => worker.restart()
  },
  "a burst": {
    weight: 4,
    with: "bursts",
    harmless: true,
    inject: async (worker, random, { burst }) => {
      worker.process().send({ burst })
      await sleep(random.between(2_000, 4_000))
    }
  },
  "busy for seconds": {
    weight: 6,
    with: "busy-thread",
    harmless: true,
    inject: async (worker, random) => {
      const stall = random.between(2_500, 4_500)
      const section = { key: `busy-${worker.who()}-${random.name()}`, ttl: 9_000, steps: 0, pace: 0 }
      worker.process().send({ section, stall })
      await sleep(stall)
    }
  },
  "lose the notifications": { weight: 6, limbo: 2_000, ...notifications(() => "lose", 500) },
  "delay the notifications": {
    weight: 3,
    limbo: 3_000,
    ...notifications((random) => ({ late: random.between(100, 1_000) }), 1_000)
  },
  // Its refreshes are answered late, while notifications come in time.
  "cut, then slow": {
    weight: 3,
    with: "notifications",
    role: "far",
    inject: async (worker, random) => {
      for (const proxy of worker.proxies) proxy.reset()
      await sleep(random.between(100, 500))
      for (const proxy of worker.proxies) proxy.delay(random.between(50, 300))
      await sleep(random.between(500, 2_000))
      await worker.heal()
    }
  },
  "close the layer": {
    weight: 8,
    with: "closing",
    inject: async (worker, random, { isOver }) => {
      const process = worker.process()
      const reopened = () => process.messages.filter((one) => "reopened" in one).length
      const before = reopened()
      process.send({ close: true })
      await sleep(random.between(500, 1_500))
      // Until it has another locker its calls fail, however long its sections need to end.
      const until = performance.now() + 20_000
      while (reopened() === before && performance.now() < until && !isOver() && worker.process() === process) {
        await sleep(50)
      }
    }
  },
  // For a while only other workers wait, which come seldom.
  "SIGKILL a crowd": {
    weight: 8,
    with: "crowds",
    role: "crowd",
    endsProcess: true,
    inject: (worker, random) => worker.replace(random.between(1_000, 12_000))
  },
  // Whoever is behind them is in when the holder ends, if it outlives what tells of their death; else the first of them stands
  // there until its time is over. Both come about: the holder has it for about twice as long as that takes.
  "SIGKILL a waiter": {
    weight: 8,
    with: "crowds",
    role: "doomed",
    endsProcess: true,
    // What it leaves behind is checked by the time of its death.
    limbo: 0,
    inject: async (worker, random, { isOver, recorder }) => {
      // Others hold it for a moment only: a holder that is still there half a second later has just begun to hold it
      // for long.
      const isKept = async (): Promise<boolean> =>
        (await recorder.present()).some(({ key, who }) => key === behind.key && who === "calm")
      await eventually(async () => isOver() || !await isKept(), behind.millis)
      await eventually(async () => isOver() || (await isKept() && (await sleep(500), await isKept())), behind.millis)
      if (!isOver()) await sleep(random.between(0, behind.millis / 2))
      await worker.replace(random.between(0, 2_000))
    }
  },
  "freeze a crowd": {
    weight: 3,
    with: "crowds",
    role: "crowd",
    inject: async (worker, random, { recorder }) => {
      const from = now()
      worker.process().signal("SIGSTOP")
      await sleep(random.between(500, 4_000))
      worker.process().signal("SIGCONT")
      recorder.tell({ t: "lag", worker: worker.who(), from, to: now() })
    }
  },
  "cut a crowd": {
    weight: 3,
    with: "crowds",
    role: "crowd",
    inject: async ({ proxies }) => proxies.forEach((proxy) => proxy.reset())
  }
} as const satisfies Record<string, WorkerFault>

export type WorkerFaultName = keyof typeof workerFaults
