import { setTimeout as sleep } from "node:timers/promises"
import type { Crew, Member, Role } from "./crew.ts"
import type { With } from "./dimensions.ts"
import { type Fault, now } from "./events.ts"
import type { Field } from "./fields/field.ts"
import { type Misfortune, misfortunes, type Scene } from "./misfortunes.ts"
import { Random } from "./random.ts"
import type { Recorder } from "./recorder.ts"
import { isOneOf } from "./troubles.ts"

/** Milliseconds in which a server that is back serves what lay in its sockets. */
const afterwards = 1_500

/** Milliseconds from one fault of a lane to its next, at least. */
const beat = 450

/** Milliseconds between two faults of a crowd, about. Who dies behind a holder has to be before others when that begins. */
const between: Readonly<Record<Role, number>> = { usual: 5_000, crowd: 5_000, far: 5_000, doomed: 10_000 }

/** Milliseconds in which the last fault has to end. */
const patience = 60_000

export interface Nemesis {
  /** Ends when what is under way has ended. */
  readonly stop: () => Promise<void>
  /** No more is told. */
  readonly end: () => Promise<void>
  /** The first reason for which it could not go on. */
  readonly failed: () => string | undefined
}

export interface NemesisOptions {
  readonly hot: ReadonlyArray<string>
  readonly seed: number
  /** Workers that ask for many keys. */
  readonly usual: number
  readonly with: With
  /** How many workers are in trouble at once. */
  readonly lanes: number
  /** Milliseconds between two faults of one lane. */
  readonly pause: number
  /** Milliseconds between two faults of the servers, about. */
  readonly serverPause: number
  /** By kind, where they are not the usual ones. */
  readonly weights: Readonly<Record<string, number>>
  /** Only these, where given. */
  readonly only: ReadonlyArray<string> | undefined
  readonly scene: Omit<Scene, "isOver">
}

/** Brings faults over a crew and its servers, four of five aimed at somebody who is inside at that moment. */
export const startNemesis = (crew: Crew, field: Field, recorder: Recorder, options: NemesisOptions): Nemesis => {
  const { hot, lanes, only, pause, seed, serverPause, with: dimensions } = options
  const troubled = new Set<Member>()
  const underWay = new Set<string>()
  let stopped = false
  const scene: Scene = { ...options.scene, isOver: () => stopped }
  const stopping = Promise.withResolvers<void>()
  let failure: string | undefined
  let count = 0

  const allowed = (name: string) => only === undefined || only.includes(name)
  const ofRole = (role: Role) =>
    weights(Object.fromEntries(
      Object.entries<Misfortune>(misfortunes).filter(([, { of = "usual" }]) => of === role)
    ))
  const weights = (of: Readonly<Record<string, Pick<Misfortune, "weight" | "with" | "on">>>) =>
    Object.fromEntries(
      Object.entries(of)
        .filter(([name, one]) =>
          allowed(name) && (one.with === undefined || dimensions.has(one.with)) && (one.on?.(field) ?? true)
        )
        .map(([name, { weight }]) => [name, options.weights[name] ?? weight])
    )
  const lane = { ...ofRole("usual"), ...weights(field.strikes) }
  /** Where half of the crew is in trouble already, nobody would be inside for long. */
  const short = weights({ ...field.strikes, cut: misfortunes.cut })
  const serverLane = weights(field.faults)

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

  const strike = async (kind: string, random: Random): Promise<void> => {
    const present = await recorder.present()
    const aimed = present.filter(({ key }) => hot.includes(key))
    const key = random.chance(0.8) && aimed.length > 0 ? random.pick(aimed).key : random.pick(hot)
    const hit = aimed.some((one) => one.key === key)
    let heal: (() => void) | undefined
    const { act, harmless } = field.strikes[kind]!
    await act(key, (forgets) => (heal = begin(kind, "all", forgets, hit, { ...(harmless && { harmless }) })))
    heal?.()
  }

  const befall = async (kind: string, misfortune: Misfortune, random: Random): Promise<void> => {
    const present = await recorder.present()
    const free = crew.members.filter((one) => one.role === (misfortune.of ?? "usual") && !troubled.has(one))
    const holders = free.filter((member) => present.some(({ who }) => who === member.who()))
    const victim = random.chance(0.8) && holders.length > 0 ? random.pick(holders) : random.pick(free)
    if (victim === undefined) return
    troubled.add(victim)
    const { all = false, ends = false, harmless, limbo } = misfortune
    const heal = begin(kind, all ? "all" : [victim.who()], [], holders.includes(victim), {
      ...(limbo !== undefined && { limbo }),
      ...(harmless && { harmless })
    })
    if (ends) heal()
    try {
      await misfortune.act(victim, random, scene)
    } finally {
      troubled.delete(victim)
      if (!ends) heal()
    }
  }

  const run = async (index: number, one: (random: Random) => Promise<void>, rest: (random: Random) => number) => {
    const random = new Random(seed * 31 + index)
    while (!stopped) {
      await Promise.race([sleep(rest(random)), stopping.promise])
      if (stopped) return
      const startedAt = now()
      // A server that is away has no key to delete.
      await one(random).catch((error: unknown) => {
        if (/did not start/.test(String(error))) {
          failure ??= String(error)
          stopped = true
        }
      })
      // Many faults that take no time are not many faults.
      await sleep(Math.max(0, startedAt + beat - now()))
    }
  }

  const running = Array.from({ length: lanes }, (_, index) =>
    run(
      index,
      async (random) => {
        const crowded = troubled.size >= options.usual / 2 && Object.keys(short).length > 0
        const kind = random.weighted(crowded ? short : lane)
        const misfortune = (misfortunes as Record<string, Misfortune>)[kind]
        await (misfortune === undefined ? strike(kind, random) : befall(kind, misfortune, random))
      },
      (random) => pause * random.between(0.5, 1.5)
    ))
  // What befalls a crowd has a lane of its own: it takes long, and a crowd is not one of those who hold many keys.
  for (const role of new Set(crew.members.map(({ role }) => role))) {
    const crowdLane = ofRole(role)
    if (role === "usual" || Object.keys(crowdLane).length === 0) continue
    running.push(run(
      lanes + 1 + running.length,
      (random) => {
        const kind = random.weighted(crowdLane)
        return befall(kind, (misfortunes as Record<string, Misfortune>)[kind]!, random)
      },
      (random) => between[role] * random.between(0.5, 1.5)
    ))
  }
  if (Object.keys(serverLane).length > 0) {
    running.push(run(
      lanes,
      async (random) => {
        const kind = random.weighted(serverLane)
        const fault = field.faults[kind]!
        const present = await recorder.present()
        const { harmless, limbo, whom } = fault
        const workers = whom === undefined
          ? "all"
          : crew.members.filter((_, index) => whom(index)).map((member) => member.place)
        const aimed = present.filter(({ key, who }) =>
          hot.includes(key) && (workers === "all" || workers.some((place) => isOneOf(place, who)))
        )
        const key = aimed.length > 0 ? random.pick(aimed).key : random.pick(hot)
        const heal = begin(kind, workers, fault.forgets ? "all" : [], aimed.length > 0, {
          ...(limbo !== undefined && { limbo }),
          ...(harmless && { harmless })
        })
        try {
          await fault.act(key, random)
        } finally {
          heal(fault.tail ?? afterwards)
        }
      },
      (random) => serverPause * random.between(0.5, 1.5)
    ))
  }
  // On a busy machine servers replace one another without being made to.
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
  const watching = field.inStep === undefined ? undefined : watch(field.inStep)
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
      await Promise.all(crew.members.map((member) => member.heal()))
      if (field.last !== undefined) {
        const { fault, kind } = field.last
        const heal = begin(kind, "all", fault.forgets ? "all" : [], false, { own: true })
        await fault.act(hot[0]!, new Random(seed))
        heal(fault.tail)
      }
    },
    failed: () => failure
  }
}
