import { setTimeout as sleep } from "node:timers/promises"
import type { Crew, Member, Role } from "./crew.ts"
import type { Dimension } from "./dimensions.ts"
import { now } from "./events.ts"
import { aLittle, eventually, type Field } from "./fields/field.ts"
import type { Random } from "./random.ts"
import type { Recorder } from "./recorder.ts"
import { behind } from "./settings.ts"

/** What befalls one worker or its way to the servers, from its beginning to its end. */
export interface Misfortune {
  readonly weight: number
  /** Only in a run that has this dimension. */
  readonly with?: Dimension
  /** Only on such servers. */
  readonly on?: (field: Field) => boolean
  /** Whom it befalls: those who ask for many keys, unless given. */
  readonly of?: Role
  /** See `Fault`. */
  readonly limbo?: number
  readonly harmless?: boolean
  /** Whether nothing is left of its process, so that nothing lasts for it. */
  readonly ends?: boolean
  /** Whether it befalls those too who are not aimed at. */
  readonly all?: boolean
  readonly act: (member: Member, random: Random, scene: Scene) => Promise<void>
}

export interface Scene {
  readonly crew: Crew
  readonly field: Field
  /** Milliseconds that a holder survives at most. */
  readonly ttl: number
  readonly recorder: Recorder
  /** Keys that a burst asks for. */
  readonly burst: number
  /** Makes what lasts last longer. */
  readonly stretch: number
  /** Nothing more is to be done. */
  readonly isOver: () => boolean
}

const lasting = (random: Random, { stretch, ttl }: Scene) => sleep(aLittle(ttl, random) * stretch)

/** A fault of all its connections that is over when they are healed. */
const connections = (weight: number, begin: (proxy: Member["proxies"][number]) => void): Misfortune => ({
  weight,
  act: async (member, random, scene) => {
    member.proxies.forEach(begin)
    await lasting(random, scene)
    await member.heal()
  }
})

/** What becomes of the messages to those who wait far from the head, for so many milliseconds at most. */
const pushes = (fate: (random: Random) => Parameters<Member["proxies"][number]["pushes"]>[0], longest: number) =>
  ({
    with: "pushes",
    of: "far",
    harmless: true,
    act: async ({ proxies }, random) => {
      for (const proxy of proxies) proxy.pushes(fate(random))
      await sleep(random.between(50, longest))
      for (const proxy of proxies) proxy.pushes("in time")
    }
  }) satisfies Partial<Misfortune>

const replicated = ({ freezeReplicas }: Field) => freezeReplicas !== undefined

export const misfortunes = {
  "cut": { weight: 12, act: async ({ proxies }) => proxies.forEach((proxy) => proxy.reset()) },
  "hold": connections(12, (proxy) => proxy.hold()),
  "hold the replies": connections(8, (proxy) => proxy.holdReplies()),
  "hold the requests": connections(6, (proxy) => proxy.holdRequests()),
  "lose the replies": {
    weight: 10,
    act: async (member, random, { ttl }) => {
      for (const proxy of member.proxies) proxy.holdReplies()
      await sleep(ttl * random.between(0.02, 0.3))
      for (const proxy of member.proxies) proxy.reset()
      await member.heal()
    }
  },
  // One server of several, or the only one.
  "hold one server": {
    weight: 4,
    act: async (member, random, scene) => {
      random.pick(member.proxies).hold()
      await lasting(random, scene)
      await member.heal()
    }
  },
  "refuse": {
    weight: 6,
    act: async (member, random, scene) => {
      for (const proxy of member.proxies) {
        proxy.refuse()
        proxy.reset()
      }
      await lasting(random, scene)
      await member.heal()
    }
  },
  "delay": {
    weight: 6,
    act: async (member, random, scene) => {
      const late = scene.ttl * random.between(0.02, 0.2)
      for (const proxy of member.proxies) proxy.delay(late)
      await lasting(random, scene)
      await member.heal()
    }
  },
  "SIGSTOP": {
    weight: 10,
    act: async (member, random, scene) => {
      const worker = member.worker()
      const from = now()
      worker.signal("SIGSTOP")
      await lasting(random, scene)
      worker.signal("SIGCONT")
      scene.recorder.tell({ t: "lag", worker: member.who(), from, to: now() })
    }
  },
  "stall": {
    weight: 6,
    harmless: true,
    act: async (member, random, { ttl }) => {
      const stall = aLittle(ttl, random)
      member.worker().send({ stall })
      await sleep(stall)
    }
  },
  "freeze the replicas": {
    weight: 4,
    with: "replicas",
    on: replicated,
    all: true,
    act: async (_, random, scene) => {
      const thaw = scene.field.freezeReplicas?.()
      if (thaw === undefined) return
      await lasting(random, scene)
      thaw()
    }
  },
  // A grant that no replica has is given back, and asked for again. That it is given back arrives after all that.
  "freeze the replicas, and what is given back comes late": {
    weight: 20,
    with: "replicas",
    on: replicated,
    all: true,
    act: async (member, random, { crew, field, ttl }) => {
      const key = `late-${random.name()}`
      const section = { key, ttl: 10 * ttl, steps: 24, pace: 50 }
      const thaw = field.freezeReplicas?.()
      if (thaw === undefined) return
      let late = false
      const givenBack = (request: Buffer) => {
        if (!late && request.includes(key) && field.givesBack?.(request) === true) {
          late = true
          thaw()
        }
        return late
      }
      const [open, tail] = [random.between(10, 100), ttl * random.between(0.2, 1.2)]
      const arrived = member.proxies.map((proxy) => proxy.strand(open, tail, givenBack))
      member.worker().send({ section })
      await sleep(ttl * random.between(1.2, 2))
      random.pick(crew.members.filter((one) => one !== member)).worker().send({ section })
      await Promise.all(arrived)
      if (!late) thaw()
      await sleep(24 * 50)
    }
  },
  "requests come late": {
    weight: 8,
    with: "replicas",
    act: async ({ proxies }, random, { ttl }) => {
      await Promise.all(proxies.map((proxy) => proxy.strand(random.between(1, 100), ttl * random.between(0.1, 2))))
    }
  },
  "SIGKILL": { weight: 2, ends: true, act: (member) => member.replace() },
  "a burst": {
    weight: 4,
    with: "bursts",
    harmless: true,
    act: async (member, random, { burst }) => {
      member.worker().send({ burst })
      await sleep(random.between(2_000, 4_000))
    }
  },
  "busy for seconds": {
    weight: 6,
    with: "busy",
    harmless: true,
    act: async (member, random) => {
      const stall = random.between(2_500, 4_500)
      const section = { key: `busy-${member.who()}-${random.name()}`, ttl: 9_000, steps: 0, pace: 0 }
      member.worker().send({ section, stall })
      await sleep(stall)
    }
  },
  "lose the pushes": { weight: 6, limbo: 2_000, ...pushes(() => "lose", 500) },
  "delay the pushes": {
    weight: 3,
    limbo: 3_000,
    ...pushes((random) => ({ late: random.between(100, 1_000) }), 1_000)
  },
  // Its refreshes are answered late, while pushes come in time.
  "cut, and slow": {
    weight: 3,
    with: "pushes",
    of: "far",
    act: async (member, random) => {
      for (const proxy of member.proxies) proxy.reset()
      await sleep(random.between(100, 500))
      for (const proxy of member.proxies) proxy.delay(random.between(50, 300))
      await sleep(random.between(500, 2_000))
      await member.heal()
    }
  },
  "close the layer": {
    weight: 8,
    with: "closing",
    act: async (member, random) => {
      member.worker().send({ close: true })
      await sleep(random.between(500, 1_500))
    }
  },
  // For a while only those wait who come by seldom.
  "SIGKILL a crowd": {
    weight: 8,
    with: "crowds",
    of: "crowd",
    ends: true,
    act: (member, random) => member.replace(random.between(1_000, 12_000))
  },
  // Whoever is behind them is in when the holder ends, if it outlives what tells of their death; else the first of them stands
  // there until its time is over. Both come about: the holder has it for about twice as long as that takes.
  "SIGKILL who waits": {
    weight: 8,
    with: "crowds",
    of: "doomed",
    ends: true,
    // What it leaves behind is judged by its death.
    limbo: 0,
    act: async (member, random, { isOver, recorder }) => {
      // Others have it for a moment each: who is still there half a second later has it for long, since a moment ago.
      const isKept = async (): Promise<boolean> =>
        (await recorder.present()).some(({ key, who }) => key === behind.key && who === "calm")
      await eventually(async () => isOver() || !await isKept(), behind.millis)
      await eventually(async () => isOver() || (await isKept() && (await sleep(500), await isKept())), behind.millis)
      if (!isOver()) await sleep(random.between(0, behind.millis / 2))
      await member.replace(random.between(0, 2_000))
    }
  },
  "freeze a crowd": {
    weight: 3,
    with: "crowds",
    of: "crowd",
    act: async (member, random, { recorder }) => {
      const from = now()
      member.worker().signal("SIGSTOP")
      await sleep(random.between(500, 4_000))
      member.worker().signal("SIGCONT")
      recorder.tell({ t: "lag", worker: member.who(), from, to: now() })
    }
  },
  "cut a crowd": {
    weight: 3,
    with: "crowds",
    of: "crowd",
    act: async ({ proxies }) => proxies.forEach((proxy) => proxy.reset())
  }
} as const satisfies Record<string, Misfortune>

export type MisfortuneName = keyof typeof misfortunes
