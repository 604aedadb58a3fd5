import { assert, describe, it } from "@effect/vitest"
import { exploreGroups, type GroupsConfig, type GroupsResult } from "./model/groups.ts"

/** `DLOCK_MODEL=10` searches ten times as far. */
const effort = Number(process.env.DLOCK_MODEL ?? "1")

const both = {}
const backwards = { order: [1, 0] } as const
const tries = { mode: "try" } as const
const deaf = { isDeaf: true } as const

const told = ({ name }: GroupsConfig, { found, sampled, states, whole }: GroupsResult): string =>
  `groups: ${name}: ${states} states, ${whole ? "whole" : "cut"}, progress from ${sampled}${
    found === undefined ? "" : `, ${found.what} in ${found.trace.length} moves`
  }`

const worlds: ReadonlyArray<GroupsConfig> = [
  { name: "two callers in opposite orders", callers: [both, backwards] },
  { name: "one waits and one tries", callers: [both, tries], sends: 2 },
  { name: "one is deaf", callers: [deaf, backwards], cuts: true, attempts: 1 },
  { name: "requests repeated", callers: [both, backwards], sends: 2, attempts: 1 },
  { name: "requests lost", callers: [both, backwards], sends: 2, attempts: 1, loss: true },
  { name: "entries evicted", callers: [both, backwards], sends: 2, evicts: true, attempts: 1 },
  { name: "entries evicted, and asked anew", callers: [both, backwards], evicts: true },
  { name: "replicas to wait for", callers: [both, backwards], replicas: true },
  { name: "time passes", callers: [both, backwards], ticks: true, attempts: 1 },
  { name: "three callers", callers: [both, backwards, both], attempts: 1 },
  {
    name: "everything",
    callers: [both, backwards],
    sends: 2,
    evicts: true,
    replicas: true,
    loss: true,
    cuts: true,
    ticks: true
  }
]

describe("callers that want two locks at once", () => {
  for (const config of worlds) {
    it(`never wait for each other, and get in: ${config.name}`, { timeout: 600_000 }, () => {
      const result = exploreGroups(config, { states: 60_000 * effort, sample: 50 })
      console.log(told(config, result))
      assert.isUndefined(result.found, JSON.stringify(result.found, null, 1))
    })
  }

  const flaws: ReadonlyArray<GroupsConfig & { readonly breaks: string }> = [
    {
      name: "the locks are asked for one by one",
      breaks: "S5",
      callers: [both, backwards],
      attempts: 1,
      flaws: { asksOneByOne: true }
    },
    {
      name: "a claim that is gone is asked for again alone",
      breaks: "S5",
      callers: [both, backwards, both],
      evicts: true,
      flaws: { asksAgainAlone: true }
    },
    {
      name: "a repeated request enters what is missing",
      breaks: "S5",
      callers: [both, backwards, both],
      sends: 2,
      attempts: 1,
      evicts: true,
      flaws: { entersMissing: true }
    },
    {
      name: "a caller that is deaf is passed over in one queue",
      breaks: "S5",
      callers: [both, backwards, both],
      cuts: true,
      attempts: 1,
      flaws: { passesGrouped: true }
    },
    {
      name: "a part of the locks is kept after a refusal",
      breaks: "S4",
      callers: [both, tries],
      attempts: 1,
      flaws: { keepsPart: true }
    },
    {
      name: "a try takes a part",
      breaks: "S4|S5|L1",
      callers: [both, { ...tries }],
      attempts: 1,
      flaws: { takesPart: true, keepsPart: true }
    }
  ]
  for (const { breaks, ...config } of flaws) {
    it(`the search finds a rule that was taken out: ${config.name}`, { timeout: 600_000 }, () => {
      const result = exploreGroups(config, { states: 600_000, sample: 50 })
      console.log(told(config, result))
      assert.match(result.found?.what ?? "nothing found", new RegExp(`^(${breaks})`))
      const { flaws: _, ...sound } = config
      assert.isUndefined(exploreGroups(sound, { states: Math.min(result.states, 100_000), sample: 50 }).found)
    })
  }
})
