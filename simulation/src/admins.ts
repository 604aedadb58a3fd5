import { mutex } from "./lockShape.ts"
import type { ActPlan, IncidentPlan, SectionPlan } from "./plan.ts"
import type { Random } from "./random.ts"
import { calm, incidentOf, list, type Scenario } from "./scenarioParts.ts"
import { millis } from "./timeline.ts"

const act = (random: Random, keys: ReadonlyArray<string>, longestTtl: number, isOften: boolean): ActPlan => {
  const isBroken = random.chance(0.04)
  const grace = () => random.pick([0, 0, random.spread(1, longestTtl), random.spread(1, 3 * longestTtl)])
  return {
    kind: isBroken ? "break" : "revoke",
    key: random.pick(keys),
    delay: random.between(1, isOften ? 1_000 : 4_000),
    grace: grace(),
    again: random.chance(0.3) ? { after: random.spread(1, longestTtl), grace: grace() } : undefined,
    names: isBroken ? "current" : random.weighted({ current: 8, ended: 1, other: 1 }),
    dies: random.chance(0.1)
  }
}

/**
 * Operators in processes of their own, and in those of the holders, revoke what they see. Holders obey, or go on, or take a while to
 * end, or longer than their claims may stand. In half of the worlds nothing else goes wrong, and in some of these nobody dies either:
 * then holders must be told at once.
 */
export const revocations: Scenario = (plan, random) => {
  const isCalm = random.chance(0.5)
  const isFaultFree = isCalm && random.chance(0.5)
  const isObeyed = random.pick([0, 0.3, 0.8, 1])
  const isSlow = random.chance(0.5)
  const one = (section: SectionPlan): SectionPlan => {
    const gap = Math.max(100, section.ttl / 10)
    const windDown = random.pick([0, 0, 0.3 * gap, 0.9 * gap, 2 * gap, section.ttl, 4 * (section.ttl + gap)])
    const isCapped = random.chance(0.1)
    return {
      ...section,
      // Who holds for longer is seen more often.
      steps: section.steps * random.pick([1, 1, 3]),
      obeys: random.chance(isObeyed),
      windDown: isSlow ? Math.round(windDown) : 0,
      ...(isCapped && { maxHold: random.spread(1, Math.max(2, Math.round(1.3 * section.steps * section.pause))) })
    }
  }
  const sections = plan.processes.map((programs) => programs.map((sections) => sections.map(one)))
  const isOften = random.chance(0.5)
  const some = (most: number) => list(random.between(1, most), () => act(random, plan.keys, plan.longestTtl, isOften))
  const own = sections.map(() => random.chance(0.3) ? some(2) : [])
  const operators = list(random.between(1, 2), () => some(isOften ? 10 : 4))
  const processes = [...sections, ...operators.map(() => [])]
  const acts = [...own, ...operators].map((all) =>
    isFaultFree ? all.filter(({ kind }) => kind === "revoke").map((one) => ({ ...one, dies: false })) : all
  )
  const longestPause = Math.max(...sections.flat(2).map(({ pause, windDown }) => pause + windDown))
  const made = { ...plan, processes, acts, longestPause, isFaultFree: false, isHealthy: false }
  if (!isCalm) return made
  const incidents = isFaultFree
    ? []
    : list(
      random.between(0, 3),
      (index) =>
        incidentOf(random.pick(["client paused", "client paused", "cut off", "client crashed", "interrupt"]), {
          name: `e${index}`,
          at: millis(random.between(1, 3_000)),
          duration: millis(random.spread(10, 2 * plan.longestTtl)),
          process: random.between(0, processes.length - 1),
          section: random.between(0, Math.max(0, sections.flat(2).length - 1)),
          aimed: random.chance(0.6),
          choice: random.between(0, 1_000_000)
        })
    )
  return {
    ...calm(plan, plan.longestTtl, processes, incidents),
    acts,
    keys: plan.keys,
    kind: plan.kind,
    longestPause,
    isFaultFree,
    isHealthy: isFaultFree
  }
}

/**
 * Processes stand for one or two leaderships. Leaders resign, fail, end, are not well, or are interrupted; their processes die, stand
 * still or are cut off. Other processes observe who leads. In half of the worlds nothing else goes wrong.
 */
export const leaders: Scenario = (plan, random) => {
  const isCalm = random.chance(0.5)
  const ttl = Math.min(plan.longestTtl, random.pick([600, 1_500, 4_000]))
  const keys = ["k0", "k1"].slice(0, random.pick([1, 1, 2]))
  const until = random.between(4_000, 12_000)
  const gap = Math.max(100, ttl / 10)
  let number = 0
  const isStuck = random.chance(0.3)
  const one = (key: string): SectionPlan => ({
    ...plan.processes[0]![0]![0]!,
    number: number++,
    key,
    shape: mutex,
    also: [],
    form: "section",
    ttl,
    timeout: undefined,
    delay: random.between(1, 1_500),
    steps: random.between(1, 10),
    pause: random.spread(5, ttl),
    careful: false,
    downgradesAfter: undefined,
    maxHold: undefined,
    releasesEarly: false,
    windDown: Math.round(random.pick(isStuck ? [0, 2 * gap, 2 * (ttl + gap)] : [0, 0, 0.5 * gap])),
    leads: {
      until: random.between(Math.min(until, 3_000), until),
      cooldown: random.pick([0, ttl, random.spread(100, 4_000)]),
      ends: random.pick(["resigns", "resigns", "succeeds", "fails", undefined, undefined]),
      wellFor: random.chance(0.2) ? random.spread(1, 3 * ttl) : undefined
    }
  })
  const candidates = list(random.between(1, 4), () => keys.map((key) => [one(key)]))
  const watching = list(random.between(1, 2), () => [])
  const processes = [...candidates, ...watching]
  const all = processes.map((_, index) => index)
  const incident = (kinds: ReadonlyArray<IncidentPlan["kind"]>, index: number) =>
    incidentOf(random.pick(kinds), {
      name: `l${index}`,
      at: millis(random.between(500, until)),
      duration: millis(random.spread(10, 3 * ttl)),
      process: random.between(0, candidates.length - 1),
      key: random.pick(keys),
      section: random.between(0, number - 1),
      aimed: random.chance(0.7),
      choice: random.between(0, 1_000_000)
    })
  const made = {
    ...plan,
    kind: "mutex" as const,
    keys,
    processes,
    // A leader may observe too.
    observers: all.filter((index) => index >= candidates.length || random.chance(0.2)),
    acts: [],
    isFaultFree: false,
    isHealthy: false,
    longestTtl: ttl,
    longestPause: Math.max(
      ...candidates.flat(2).map(({ leads, pause, windDown }) => pause + windDown + leads!.cooldown)
    )
  }
  if (!isCalm) {
    const incidents = list(random.between(0, 3), (index) => incident(["client paused", "client crashed"], index))
    const usual = plan.incidents.map((one) => ({
      ...one,
      key: random.pick(keys),
      process: random.between(0, processes.length - 1)
    }))
    return { ...made, incidents: [...usual, ...incidents] }
  }
  const kinds = ["client paused", "client paused", "cut off", "client crashed", "interrupt"] as const
  const incidents = list(random.between(0, 6), (index) => incident(kinds, index))
  // An observer may stand still for longer than the server tells it of changes.
  if (random.chance(0.1)) {
    const duration = millis(random.spread(1_000, 20_000))
    incidents.push(
      incidentOf("client paused", { name: "o0", at: millis(2_000), duration, process: processes.length - 1 })
    )
  }
  const { healedAt } = calm(plan, ttl, processes, incidents)
  return {
    ...calm(made, ttl, processes, incidents),
    keys,
    healedAt,
    longestPause: made.longestPause
  }
}
