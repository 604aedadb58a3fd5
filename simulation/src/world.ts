import { Locker, LockStore } from "effect-dlock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { Backend } from "./backend.ts"
import * as Etcd from "./etcd/backend.ts"
import { type Fault, Faults } from "./faults.ts"
import * as Ids from "./ids.ts"
import { Log } from "./log.ts"
import { withPermits } from "./permits.ts"
import * as Plans from "./plan.ts"
import { Process } from "./process.ts"
import * as Program from "./program.ts"
import * as Redis from "./redis/backend.ts"
import { prefix, Section } from "./section.ts"
import { millis, Timeline } from "./timeline.ts"
import type { Variant } from "./variants.ts"
import { type Counts, type Rule, type Violation, Witness } from "./witness.ts"

export interface Settings {
  readonly seed: number
  readonly backend: Plans.BackendName
  readonly variant?: Variant | undefined
  /** Only these faults strike. */
  readonly only?: ReadonlySet<string> | undefined
  /** Only these sections are there. */
  readonly sections?: ReadonlySet<number> | undefined
  /** Only these rules count. */
  readonly rules?: ReadonlySet<Rule> | undefined
  /** Whether to keep what happened in words. */
  readonly recorded?: boolean | undefined
}

export interface Result {
  readonly seed: number
  readonly violation: Violation | undefined
  readonly struck: ReadonlyArray<Fault>
  readonly counts: Counts
  /** The numbers of the sections that were there. */
  readonly sections: ReadonlyArray<number>
  readonly events: number
  /** Milliseconds of the world's time. */
  readonly lasted: number
  readonly hash: number
  readonly lines: ReadonlyArray<string>
}

/** A process while its programs run. */
interface Client {
  readonly process: Process
  readonly sections: ReadonlyArray<ReadonlyArray<Section>>
  readonly closing: Deferred.Deferred<void>
  /** Programs that run now, by the number of their section. */
  readonly running: Map<number, Fiber.Fiber<void>>
  /** Interrupts that wait for a message: how many more, and of which section. */
  readonly armed: Array<{ left: number; readonly section: number }>
  done: boolean
  closedEarly: boolean
}

/** Lives one seed from beginning to end. */
export const run = (settings: Settings): Result => {
  const restore = settings.variant?.install?.()
  try {
    return live(settings)
  } finally {
    restore?.()
  }
}

const live = (settings: Settings): Result => {
  const { backend: backendName, seed, variant } = settings
  Ids.restart(seed)
  const plan = Plans.make(seed, backendName)
  const timeline = new Timeline()
  const log = new Log(timeline, settings.recorded === true)
  const witness = new Witness(timeline, log, plan, settings.rules)
  const faults = new Faults(seed, plan.often, plan.healedAt, settings.only)
  const network = { seed, timeline, log, faults, witness }
  const backend: Backend = backendName === "redis"
    ? Redis.make(network, plan, variant?.redis ?? {})
    : Etcd.make(network, plan, variant?.etcd ?? {})
  witness.server = backend

  const clients = plan.processes.map((programs, index): Client => {
    const process = new Process(timeline, seed, index, plan.drifts)
    const sections = programs.map((program) =>
      program.filter(({ number }) => settings.sections?.has(number) !== false).map((plan) => new Section(process, plan))
    )
    const closing = Deferred.makeUnsafe<void>()
    return { process, sections, closing, running: new Map(), armed: [], done: false, closedEarly: false }
  })
  for (const client of clients) start(client, backend, witness, timeline, plan, variant)
  for (const incident of plan.incidents) {
    timeline.at(incident.at, () => {
      if (faults.strikes(incident.name, incident.kind)) strike(incident, clients, backend, witness, timeline, log, plan)
    })
  }
  timeline.at(plan.healedAt + 1, () => {
    backend.heal()
    log.note(40, 0, () => "from now on nothing goes wrong")
  })

  const patience = progressWithin(plan)
  const isAlive = ({ done, process }: Client) => !done && !process.dead
  const goesOn = (): boolean => {
    witness.look()
    if (timeline.now > plan.healedAt + 1) witness.lookForProgress(plan.healedAt, patience + backend.lateness())
    return witness.violation === undefined && clients.some(isAlive)
  }
  try {
    timeline.run(millis(longest), goesOn)
    if (witness.violation === undefined) inspect(clients, backend, witness, timeline, plan)
  } catch (error) {
    witness.broken("S8", String((error as Error).stack))
  }
  for (const client of clients) client.process.crash()
  return {
    seed,
    violation: witness.violation,
    struck: faults.struck,
    counts: witness.counts,
    sections: clients.flatMap(({ sections }) => sections.flat().map(({ plan }) => plan.number)),
    events: timeline.steps,
    lasted: timeline.now / 1_000,
    hash: log.hash,
    lines: log.lines ?? []
  }
}

/** Nobody in a world lives longer than this: milliseconds. */
const longest = 600_000

/** How long a claim stands at the server at most: milliseconds. An etcd counts in seconds, and two at least. */
const longestClaim = ({ backend, mostTtl }: Plans.Plan): number => {
  const kept = mostTtl + Math.max(100, mostTtl / 10)
  return backend === "redis" ? kept : Math.max(2_000, Math.ceil(kept / 1_000) * 1_000)
}

/**
 * How long nothing may happen on a key for which somebody waits, once nothing goes wrong any more: milliseconds. The
 * longest time for which a claim stands that nobody ends, the time after which the next one looks for itself, calls, and
 * the longest time between two steps.
 */
const progressWithin = (plan: Plans.Plan): number =>
  longestClaim(plan) + Math.max(1_000, plan.mostTtl / 3) * 1.3 + 4_000 + plan.mostPause

/** Starts a process: its layer, and its programs over it. */
const start = (
  client: Client,
  backend: Backend,
  witness: Witness,
  timeline: Timeline,
  plan: Plans.Plan,
  variant: Variant | undefined
): void => {
  const { process } = client
  const heed = () => {
    for (const armed of client.armed.slice()) {
      if (--armed.left > 0) continue
      client.armed.splice(client.armed.indexOf(armed), 1)
      interrupt(client, armed.section, timeline.now)
    }
  }
  const store = Effect.map(backend.open(process, heed), (store) => {
    const wide = withPermits(store, plan.capacity)
    return variant?.store?.(wide, process) ?? wide
  })
  const layer = Locker.layer({ prefix, holder: `process-${process.index}` }).pipe(
    Layer.provide(Layer.effect(LockStore, store))
  )
  const program = (locker: Locker["Service"], sections: ReadonlyArray<Section>) =>
    Effect.forEach(sections, (section) =>
      Effect.gen(function*() {
        yield* Effect.sleep(section.plan.delay)
        const fiber = yield* Effect.forkDetach(Program.run(witness, locker, section), { startImmediately: true })
        client.running.set(section.plan.number, fiber)
        yield* Fiber.await(fiber)
        client.running.delete(section.plan.number)
      }), { discard: true })
  const all = Effect.gen(function*() {
    const programs = yield* Effect.scoped(Effect.gen(function*() {
      const locker = Context.get(yield* Layer.build(layer), Locker)
      const programs = yield* Effect.forEach(
        client.sections,
        (sections) => Effect.forkDetach(program(locker, sections))
      )
      yield* Effect.raceFirst(Fiber.awaitAll(programs), Deferred.await(client.closing))
      return programs
    }))
    // Where the locker was closed under them, they must come to an end by themselves.
    yield* Fiber.awaitAll(programs)
    client.done = true
  })
  process.run(all)
}

const interrupt = ({ running, sections }: Client, number: number, now: number): void => {
  const section = sections.flat().find(({ plan }) => plan.number === number)
  const fiber = running.get(number)
  if (section === undefined || fiber === undefined) return
  if (!section.interrupted && section.state === "asking") section.hurries(now)
  section.interrupted = true
  fiber.interruptUnsafe()
}

/** Those who are inside make the better targets. */
const aim = (incident: Plans.IncidentPlan, { inside }: Witness): Plans.IncidentPlan => {
  const targets = Array.from(inside).filter(({ process }) => !process.dead && !process.paused)
  const target = targets[incident.choice % targets.length]
  if (!incident.aimed || target === undefined) return incident
  const { key, number } = target.plan
  return { ...incident, process: target.process.index, key, section: number }
}

const strike = (
  planned: Plans.IncidentPlan,
  clients: ReadonlyArray<Client>,
  backend: Backend,
  witness: Witness,
  timeline: Timeline,
  log: Log,
  plan: Plans.Plan
): void => {
  const incident = aim(planned, witness)
  const { duration, kind, name } = incident
  const client = clients[incident.process]!
  log.note(
    41,
    incident.choice,
    () => `${name}: ${kind} (process ${incident.process}, ${incident.key}, ${duration / 1_000} ms)`
  )
  switch (kind) {
    case "client paused":
      return client.process.pause(Math.min(duration, plan.healedAt - incident.at))
    case "client crashed":
      witness.crashes(client.process)
      return client.process.crash()
    case "wall clock set":
      return client.process.jump((incident.choice % 2 === 0 ? 1 : -1) * duration / 1_000)
    case "locker closed":
      client.closedEarly = true
      return client.process.deliver(() => Deferred.doneUnsafe(client.closing, Effect.void))
    case "interrupt": {
      const owner = clients.find(({ sections }) => sections.flat().some(({ plan }) => plan.number === incident.section))
      if (owner === undefined) return
      witness.counts.interrupts++
      if (incident.afterMessages > 0) {
        return void owner.armed.push({ left: incident.afterMessages, section: incident.section })
      }
      return owner.process.deliver(() => interrupt(owner, incident.section, timeline.now))
    }
    // Another library's client knows mutexes only, and where it is the key is in use as one.
    case "foreign lock":
      return plan.capacity === 1 ? backend.strike(incident) : undefined
    default:
      return backend.strike(incident)
  }
}

/** What must be true once everybody is gone. */
const inspect = (
  clients: ReadonlyArray<Client>,
  backend: Backend,
  witness: Witness,
  timeline: Timeline,
  plan: Plans.Plan
): void => {
  for (const { done, process, sections } of clients) {
    if (process.defects.length > 0) {
      witness.broken("S8", `a fiber of process ${process.index} died: ${process.defects[0]}`)
    }
    if (process.dead) continue
    for (const section of sections.flat()) {
      if (section.state !== "over") witness.broken("S6", `${section.title} is ${section.state} and never ends`)
    }
    if (!done) witness.broken("S6", `process ${process.index} never ends`)
  }
  if (witness.violation !== undefined) return
  // What is yet to go wrong does, and what is on its way arrives; then the times to live are over.
  timeline.pass(Math.max(timeline.now, plan.healedAt + 2))
  timeline.pass(timeline.now + (plan.quiet ? millis(50) : millis(longestClaim(plan) + 100 + backend.lateness())))
  for (const { process } of clients) {
    if (process.dead) continue
    if (process.fibers > 0) witness.broken("S8", `${process.fibers} fibers of process ${process.index} are left`)
    if (process.timers > 0) witness.broken("S8", `${process.timers} timers of process ${process.index} are left`)
  }
  const left = backend.leftovers()
  if (left.length > 0) witness.broken("S4", `left at the server: ${left.join(", ")}`)
}
