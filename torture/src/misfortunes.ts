import { setTimeout as sleep } from "node:timers/promises"
import type { Member } from "./crew.ts"
import { now } from "./events.ts"
import { aLittle } from "./fields/field.ts"
import type { Random } from "./random.ts"
import type { Recorder } from "./recorder.ts"

/** What befalls one worker or its way to the servers, from its beginning to its end. */
export interface Misfortune {
  readonly weight: number
  readonly act: (member: Member, random: Random, scene: Scene) => Promise<void>
}

export interface Scene {
  /** Milliseconds that a holder survives at most. */
  readonly ttl: number
  readonly recorder: Recorder
  /** Makes what lasts last longer. */
  readonly stretch: number
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
    act: async (member, random, { ttl }) => {
      const stall = aLittle(ttl, random)
      member.worker().send({ stall })
      await sleep(stall)
    }
  },
  "SIGKILL": { weight: 2, act: (member) => member.replace() }
} as const satisfies Record<string, Misfortune>

export type MisfortuneName = keyof typeof misfortunes
