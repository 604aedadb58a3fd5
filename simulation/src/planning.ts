import type { BackendName } from "./backendName.ts"
import { type Dimension, drawn, isIn, none } from "./dimensions.ts"
import {
  evictionWeights,
  type Incident,
  type Kind,
  messageWeights,
  notificationWeights,
  refusalWeights,
  replicaWeights
} from "./faultKinds.ts"
import { mutex } from "./lockShape.ts"
import type { IncidentPlan, Plan, SectionPlan } from "./plan.ts"
import { Random } from "./random.ts"
import { scenarios } from "./scenarios.ts"
import { withShapes } from "./shapes.ts"
import { millis } from "./timeline.ts"

const ttls: Readonly<Record<BackendName, ReadonlyArray<number>>> = {
  redis: [150, 300, 600, 1_000, 2_000, 5_000, 12_000],
  etcd: [400, 800, 1_500, 2_500, 4_000]
}

const incidentsOf: Readonly<Record<BackendName, Readonly<Partial<Record<Incident, number>>>>> = {
  redis: {
    "server paused": 4,
    "server restarted": 2,
    "data lost": 1,
    "key deleted": 1,
    "queue deleted": 1,
    "early expiry": 1,
    "clock back": 1,
    "scripts forgotten": 1,
    "connections cut": 2,
    "cut off": 4,
    "listener silent": 2,
    "foreign lock": 2,
    "client paused": 6,
    "client crashed": 1,
    "wall clock set": 1,
    "locker closed": 1,
    "interrupt": 8
  },
  etcd: {
    "server paused": 4,
    "server restarted": 2,
    "data lost": 1,
    "key deleted": 1,
    "early expiry": 1,
    "connections cut": 2,
    "cut off": 4,
    "listener silent": 2,
    "lease revoked": 1,
    "history compacted": 1,
    "epoch raised": 1,
    "foreign lock": 1,
    "client paused": 6,
    "client crashed": 1,
    "wall clock set": 1,
    "locker closed": 1,
    "interrupt": 8
  }
}

/** All that can go wrong on a backend. */
export const kindsOf = (backend: BackendName, extra: ReadonlySet<Dimension> = none): ReadonlyArray<Kind> =>
  [
    messageWeights,
    notificationWeights,
    incidentsOf[backend],
    ...(backend === "redis" ? [evictionWeights] : []),
    ...(isIn(backend, "replicas", extra) ? [replicaWeights] : []),
    ...(isIn(backend, "refusals", extra) ? [refusalWeights] : [])
  ].flatMap((weights) => Object.keys(weights) as Array<Kind>)

/** Now and then a Redis evicts a part of what it knows of several holders. */
const withEvictions = (plan: Plan, random: Random): Plan => {
  const { backend, healedAt, incidents, isFaultFree, keys, kind } = plan
  if (backend === "etcd" || kind === "mutex" || isFaultFree || random.chance(0.7)) return plan
  const evicted = (_: unknown, index: number): IncidentPlan => ({
    name: `v${index}`,
    kind: random.weighted(evictionWeights),
    at: random.between(1, healedAt),
    duration: 0,
    process: 0,
    key: random.pick(keys),
    section: 0,
    afterMessages: 0,
    aimed: random.chance(0.6),
    choice: random.between(0, 1_000_000)
  })
  return { ...plan, incidents: [...incidents, ...Array.from({ length: random.between(1, 3) }, evicted)] }
}

/**
 * Half of the sections re-enter. Permits are never re-entered. A writer that lets readers in must not: while it has
 * re-entered, it would stay alone.
 */
const withReentries = (plan: Plan, random: Random): Plan => {
  if (!plan.dimensions.has("re-entries")) return plan
  const one = (section: SectionPlan): SectionPlan => {
    const [first, last] = [random.between(1, section.steps), random.between(1, section.steps)].toSorted((a, b) => a - b)
    const isReentrant = [section, ...section.also].every(({ shape }) => shape.kind !== "semaphore") &&
      section.downgradesAfter === undefined && section.leads === undefined
    return random.chance(0.5) && isReentrant ? { ...section, reenters: [first!, last!] } : section
  }
  const processes = plan.processes.map((programs) => programs.map((sections) => sections.map(one)))
  return { ...plan, processes }
}

/** What a seed decides. */
export const make = (seed: number, backend: BackendName, extra: ReadonlySet<Dimension> = none): Plan =>
  withReentries(makeWorld(seed, backend, drawn(seed, backend, extra)), Random.of(seed, 28))

const makeWorld = (seed: number, backend: BackendName, dimensions: ReadonlySet<Dimension>): Plan => {
  const random = Random.of(seed, 10, backend === "redis" ? 0 : 1)
  const isFaultFree = random.chance(0.15)
  const keys = ["k0", "k1", "k2"].slice(0, random.pick([1, 1, 1, 2, 3]))
  // One or two ttls in a world, so that claims with equal and with different ttls compete.
  const lengths = [random.pick(ttls[backend]), random.pick(ttls[backend])]
  const longestTtl = Math.max(...lengths)
  const window = Math.max(1_500, Math.min(9_000, random.between(2, 5) * longestTtl))
  let number = 0
  const section = (): SectionPlan => {
    const ttl = random.pick(lengths)
    const steps = random.between(1, 8)
    const long = random.chance(0.4)
    return {
      number: number++,
      key: random.pick(keys),
      shape: mutex,
      also: [],
      form: random.weighted({ section: 6, scope: 3, trySection: 1, tryScope: 1 }),
      ttl,
      timeout: random.chance(0.2) ? random.spread(20, 3 * ttl) : undefined,
      delay: random.chance(0.15) ? 0 : random.spread(1, window / 3),
      steps,
      pause: Math.max(1, Math.round((long ? 3 : 0.3) * ttl * random.next() / steps)),
      careful: random.chance(0.3),
      downgradesAfter: undefined,
      job: undefined,
      reenters: undefined,
      releasesEarly: random.chance(0.3),
      givesWay: false,
      windDown: 0,
      maxHold: undefined,
      obeys: false,
      leads: undefined
    }
  }
  const list = <A>(count: number, make: () => A): ReadonlyArray<A> => Array.from({ length: count }, make)
  const processes = list(
    random.between(2, 4),
    () => list(random.between(1, 3), () => list(random.between(1, 3), section))
  )
  const incident = (_: unknown, index: number): IncidentPlan => ({
    name: `e${index}`,
    kind: random.weighted(incidentsOf[backend] as Readonly<Record<Incident, number>>),
    at: millis(random.between(1, window)),
    duration: millis(random.spread(10, 4 * longestTtl)),
    process: random.between(0, processes.length - 1),
    key: random.pick(keys),
    section: random.between(0, number - 1),
    afterMessages: random.pick([0, 1, 1, 2, 3, 5]),
    aimed: random.chance(0.6),
    choice: random.between(0, 1_000_000)
  })
  const messageFaultRate = isFaultFree ? 0 : random.pick([0, 0.01, 0.03, 0.1, 0.25])
  const usual: Plan = {
    seed,
    backend,
    dimensions,
    isFaultFree,
    isHealthy: isFaultFree,
    drifts: random.chance(0.5),
    interop: backend === "redis" && random.chance(0.15),
    members: dimensions.has("refusals") ? Random.of(seed, 23).pick([1, 2, 2, 3]) : 1,
    replicas: dimensions.has("replicas") ? Random.of(seed, 22).between(1, 2) : 0,
    neverNotified: !isFaultFree && random.chance(0.1),
    kind: random.chance(0.75) ? "mutex" : Random.of(seed, 25).pick(["semaphore", "readWrite"]),
    keys,
    processes,
    acts: [],
    observers: [],
    incidents: isFaultFree ? [] : Array.from({ length: random.between(0, 8) }, incident),
    messageFaultRate,
    messages: messageWeights,
    longestDelay: millis(8_000),
    notificationFaultRate: messageFaultRate,
    notifications: notificationWeights,
    healedAt: isFaultFree ? 0 : millis(window),
    longestTtl,
    longestPause: Math.max(...processes.flat(2).map(({ pause }) => pause))
  }
  const plan = withScenario(withEvictions(withShapes(usual, Random.of(seed, 26)), Random.of(seed, 27)))
  return dimensions.has("jobs") ? withJobs(plan, Random.of(seed, 31)) : plan
}

const withScenario = (plan: Plan): Plan => {
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (plan.dimensions.has(name as Dimension)) return scenario(plan, Random.of(plan.seed, 30))
  }
  return plan
}

/** Some sections run a job once: for a slot, or within an interval that is longer than the world. */
const withJobs = (plan: Plan, random: Random): Plan => {
  const counts = random.pick(["start", "success"] as const)
  const within = random.chance(0.3) ? 3_600_000 : undefined
  const sectionOf = (section: SectionPlan): SectionPlan => {
    if (section.leads !== undefined) return section
    if (section.shape.kind !== "mutex" || section.also.length > 0 || random.chance(0.3)) return section
    const job = { slot: within === undefined ? BigInt(random.between(1, 5)) : 0n, within, counts }
    return { ...section, form: "trySection", timeout: undefined, job }
  }
  const processes = plan.processes.map((programs) => programs.map((sections) => sections.map(sectionOf)))
  // A job asks the server before it asks for the lock, and again under the lock.
  return { ...plan, processes, isFaultFree: false }
}
