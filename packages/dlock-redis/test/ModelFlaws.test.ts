import { assert, describe, it } from "@effect/vitest"
import { explore } from "./model/explore.ts"
import type * as World from "./model/world.ts"
import { large, passedOver, reader, readWrite, rolling, small, told, two, writer } from "./model/worlds.ts"

describe("the search finds a rule that was taken out", () => {
  const flaws: ReadonlyArray<World.Config & { readonly breaks: string }> = [
    {
      name: "F1, a notification counts whatever the floor",
      breaks: "S2",
      claims: two,
      acquires: 2,
      refreshes: 0,
      interrupts: false,
      flaws: { ignoresFloor: true }
    },
    { name: "F2, a repeat does not extend", breaks: "S2", claims: two, loss: true, flaws: { keepsExpiry: true } },
    {
      name: "F3, a request counts when it is sent",
      breaks: "S2",
      claims: two,
      sends: 1,
      flaws: { countsUnanswered: true }
    },
    { name: "F4, a late grant is given back", breaks: "S2", claims: two, flaws: { givesBack: true } },
    { name: "F5, a repeat is appended again", breaks: "S4", claims: two, acquires: 2, flaws: { appendsTwice: true } },
    {
      name: "F6, who does not listen loses its place",
      breaks: "F6",
      claims: two,
      cut: true,
      flaws: { skipsForGood: true }
    },
    {
      ...passedOver,
      name: "R3, what was passed over comes back behind all others",
      breaks: "F1",
      flaws: { returnsToEnd: true }
    },
    {
      ...passedOver,
      name: "R3, a refresh does not bring back what was passed over",
      breaks: "F1",
      flaws: { staysParked: true }
    },
    {
      ...passedOver,
      name: "R3, a release does not find what was passed over",
      breaks: "S4",
      interrupts: true,
      flaws: { missesParked: true }
    },
    {
      name: "F7, a release sets no tombstone",
      breaks: "S4",
      claims: two,
      acquires: 2,
      flaws: { releasesWithoutTombstone: true }
    },
    {
      name: "R1, what too few replicas have is given back and keeps its id",
      breaks: "S2",
      claims: two,
      refreshes: 0,
      interrupts: false,
      endless: true,
      replicas: true,
      flaws: { keepsId: true }
    },
    { name: "a claim said to be gone is not left", breaks: "S4", claims: two, flaws: { believesGone: true } },
    { name: "F7, a refresh creates", breaks: "S4", claims: two, flaws: { refreshCreates: true } },
    {
      name: "a release does not give permits back",
      breaks: "S3",
      capacity: 2,
      claims: two,
      flaws: { keepsUsed: true }
    },
    {
      name: "two permits are counted as one",
      breaks: "S1|S3",
      capacity: 2,
      claims: [large, small],
      flaws: { countsOne: true }
    },
    {
      name: "a claim that knows a larger capacity is let in beside one that knows a smaller",
      breaks: "S1",
      capacity: 2,
      claims: rolling,
      flaws: { ignoresHolders: true }
    },
    {
      name: "a reader is let past a writer that waits",
      breaks: "F1",
      ...readWrite,
      claims: [reader, writer, { ...reader, process: 2 }],
      sends: 1,
      refreshes: 0,
      flaws: { overtakes: true }
    },
    {
      name: "a shrink gives up the place",
      breaks: "S1",
      ...readWrite,
      claims: [writer, { ...writer, process: 0 }],
      sends: 1,
      shrinks: true,
      flaws: { shrinksAnew: true }
    },
    {
      name: "holders whose values are lost do not count",
      breaks: "S1",
      capacity: 1,
      kind: "semaphore",
      claims: two,
      sends: 1,
      evicts: true,
      flaws: { forgetsLost: true }
    },
    {
      name: "a revoked claim is extended by a late renewal",
      breaks: "S5",
      claims: two,
      sends: 1,
      refreshes: 0,
      renewals: true,
      revokes: true,
      flaws: { renewsRevoked: true }
    },
    {
      name: "a revoked claim is extended by a repeated request",
      breaks: "S5",
      claims: two,
      revokes: true,
      flaws: { repeatsRevoked: true }
    },
    {
      name: "a revocation lets the next in at once",
      breaks: "S2",
      claims: two,
      sends: 1,
      refreshes: 0,
      revokes: true,
      flaws: { revokesAtOnce: true }
    }
  ]
  for (const { breaks, ...config } of flaws) {
    it(config.name, { timeout: 600_000 }, () => {
      const result = explore(config, { states: 1_000_000, sample: 0 })
      console.log(told(config, result))
      assert.match(result.found?.what ?? "nothing found", new RegExp(`^${breaks}`))
      // The same world without the flaw keeps every promise, as far as the flaw needed to break one.
      const { flaws: _, ...sound } = config
      assert.isUndefined(explore(sound, { states: result.states, sample: 0 }).found)
    })
  }
})
