import type { Incident } from "./faultKinds.ts"
import { mutex } from "./lockShape.ts"
import type { IncidentPlan, Plan, SectionPlan } from "./plan.ts"
import type { Random } from "./random.ts"
import { millis } from "./timeline.ts"

/** Turns a plan into a world about one thing, mostly without other faults. */
export type Scenario = (plan: Plan, random: Random) => Plan

export const list = <A>(count: number, make: (index: number) => A): Array<A> =>
  Array.from({ length: count }, (_, i) => make(i))

/** Numbered sections, all on one lock unless given otherwise. */
export const sections = (ttl: number, first = 0) => {
  let number = first
  return (some: Partial<SectionPlan>): SectionPlan => ({
    number: number++,
    key: "k0",
    shape: mutex,
    also: [],
    form: "section",
    ttl,
    timeout: undefined,
    delay: 1,
    steps: 2,
    pause: 1,
    careful: false,
    downgradesAfter: undefined,
    job: undefined,
    reenters: undefined,
    releasesEarly: false,
    givesWay: false,
    windDown: 0,
    maxHold: undefined,
    obeys: false,
    leads: undefined,
    ...some
  })
}

export const incidentOf = (kind: Incident, some: Partial<IncidentPlan>): IncidentPlan => ({
  name: kind.replaceAll(" ", "-"),
  kind,
  at: 0,
  duration: 0,
  process: 0,
  key: "k0",
  section: 0,
  afterMessages: 0,
  aimed: false,
  choice: 0,
  ...some
})

/** A plan of these programs and incidents, with exact clocks and a healthy network. */
export const calm = (plan: Plan, ttl: number, processes: Plan["processes"], incidents: Plan["incidents"]): Plan => ({
  ...plan,
  isFaultFree: false,
  isHealthy: false,
  drifts: false,
  interop: false,
  neverNotified: false,
  kind: "mutex",
  keys: ["k0"],
  processes,
  incidents,
  messageFaultRate: 0,
  notificationFaultRate: 0,
  healedAt: Math.max(millis(1_000), ...incidents.map(({ at, duration }) => at + duration)) + 1,
  longestTtl: ttl,
  longestPause: Math.max(...processes.flat(2).map(({ pause }) => pause))
})
