import type { BackendName } from "./backendName.ts"
import { type Dimension, none } from "./dimensions.ts"
import { kindsOf } from "./planning.ts"
import type { Result } from "./world.ts"

/** The sums over many worlds. Plain data, since threads send it to each other. */
export interface Tally {
  seeds: number
  events: number
  grants: number
  steps: number
  waits: number
  /** Grants of permits and of read-write locks. */
  shared: number
  downgrades: number
  reentries: number
  /** How often a holder was told that others wait. */
  toldOf: number
  /** Claims that were marked, locks that were taken, terms of leaders, and what observers told of them. */
  revocations: number
  taken: number
  terms: number
  sightings: number
  refused: number
  lateSteps: number
  /** Seconds of the worlds' time. */
  lasted: number
  /** Seeds that were run twice with the same result. */
  replayed: number
  readonly losses: Record<string, number>
  readonly outcomes: Record<string, number>
  readonly faults: Record<string, number>
  readonly rules: Record<string, number>
  /** The first seeds that broke a promise. */
  readonly broken: Array<number>
}

export const empty = (): Tally => ({
  seeds: 0,
  events: 0,
  grants: 0,
  steps: 0,
  waits: 0,
  shared: 0,
  downgrades: 0,
  reentries: 0,
  toldOf: 0,
  revocations: 0,
  taken: 0,
  terms: 0,
  sightings: 0,
  refused: 0,
  lateSteps: 0,
  lasted: 0,
  replayed: 0,
  losses: {},
  outcomes: {},
  faults: {},
  rules: {},
  broken: []
})

const sum = (into: Record<string, number>, from: Readonly<Record<string, number>>): void => {
  for (const [name, count] of Object.entries(from)) into[name] = (into[name] ?? 0) + count
}

/** Adds the result of one world. */
export const add = (tally: Tally, { counts, events, lasted, seed, injected, violation }: Result): void => {
  tally.seeds++
  tally.events += events
  tally.lasted += lasted / 1_000
  tally.grants += counts.grants
  tally.steps += counts.steps
  tally.waits += counts.waits
  tally.shared += counts.shared
  tally.downgrades += counts.downgrades
  tally.reentries += counts.reentries
  tally.toldOf += counts.toldOf
  tally.revocations += counts.revocations
  tally.taken += counts.broken
  tally.terms += counts.terms
  tally.sightings += counts.sightings
  tally.refused += counts.refused
  tally.lateSteps += counts.lateSteps
  sum(tally.losses, counts.losses)
  sum(tally.outcomes, counts.outcomes)
  for (const { kind } of injected) sum(tally.faults, { [kind]: 1 })
  if (violation === undefined) return
  sum(tally.rules, { [violation.rule]: 1 })
  tally.broken.push(seed)
}

const sums = [
  "seeds",
  "events",
  "grants",
  "steps",
  "waits",
  "shared",
  "downgrades",
  "reentries",
  "toldOf",
  "revocations",
  "taken",
  "terms",
  "sightings",
  "refused",
  "lateSteps",
  "lasted",
  "replayed"
] as const

/** Adds what another thread has counted since its last report. */
export const merge = (into: Tally, from: Tally): void => {
  for (const name of sums) into[name] += from[name]
  sum(into.losses, from.losses)
  sum(into.outcomes, from.outcomes)
  sum(into.faults, from.faults)
  sum(into.rules, from.rules)
  into.broken.push(...from.broken)
}

const total = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((a, b) => a + b, 0)

/** Why a run of many seeds proves nothing; `undefined` if it may prove something. */
export const voidBecause = (
  backend: BackendName,
  tally: Tally,
  extra: ReadonlySet<Dimension> = none
): string | undefined => {
  const { downgrades, faults, grants, losses, reentries, revocations, seeds, shared, terms, toldOf, waits } = tally
  if (seeds < 200) return undefined
  if (grants < 3 * seeds) return `only ${grants} grants`
  if (waits < seeds) return `only ${waits} waits`
  if (shared < seeds / 4) return `only ${shared} grants of permits and of read-write locks`
  if (downgrades < seeds / 50) return `only ${downgrades} downgrades`
  if (reentries < seeds / 10) return `only ${reentries} re-entries`
  if (toldOf < seeds / 50) return `only ${toldOf} holders were told that others wait`
  if (revocations < seeds / 50) return `only ${revocations} revocations`
  if (terms < seeds / 50) return `only ${terms} terms of leaders`
  if (total(losses) < seeds / 20) return `only ${total(losses)} losses`
  if (total(faults) < 2 * seeds) return `only ${total(faults)} faults`
  const missing = seeds < 5_000 ? undefined : kindsOf(backend, extra).find((kind) => faults[kind] === undefined)
  return missing === undefined ? undefined : `no "${missing}" in it`
}

const list = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name} ${count}`).join(", ") || "none"

/** The table at the end of a run. */
export const table = (title: string, tally: Tally): string =>
  ([
    ["seeds", `${tally.seeds}, of which ${tally.replayed} were lived twice and came out the same`],
    ["events", `${tally.events} in ${Math.round(tally.lasted)} s of their time`],
    [
      "grants",
      `${tally.grants}, after ${tally.waits} waits; ${tally.shared} of shared locks, ${tally.downgrades} downgrades, ${tally.reentries} re-entries`
    ],
    ["told", `${tally.toldOf} holders, that others wait`],
    ["admin", `${tally.revocations} revocations, ${tally.taken} locks taken`],
    ["leaders", `${tally.terms} terms, of which observers told ${tally.sightings} times`],
    ["steps", `${tally.steps}: ${tally.lateSteps} late, ${tally.refused} refused by the fence`],
    ["ends", list(tally.outcomes)],
    ["losses", `${total(tally.losses)}: ${list(tally.losses)}`],
    ["faults", `${total(tally.faults)}: ${list(tally.faults)}`],
    ["violations", `${total(tally.rules)}${total(tally.rules) === 0 ? "" : `: ${list(tally.rules)}`}`]
  ] as const).reduce((text, [name, value]) => `${text}\n  ${name.padEnd(11)} ${value}`, title)
