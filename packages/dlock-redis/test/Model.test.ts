import { assert, describe, it } from "@effect/vitest"
import { readWriteCapacity } from "effect-dlock/LockStore"
import * as Client from "./model/client.ts"
import { explore, type Result } from "./model/explore.ts"
import { roam } from "./model/roam.ts"
import * as World from "./model/world.ts"

/** `DLOCK_MODEL=10` searches ten times as far. */
const effort = Number(process.env.DLOCK_MODEL ?? "1")

const two = [{ process: 0 }, { process: 1 }]
const three = [{ process: 0 }, { process: 1 }, { process: 2 }]

const told = (config: World.Config, { depth, found, sampled, seconds, states, whole }: Result): string =>
  [
    `model: ${config.name} (${World.limits(config)}): ${states} states`,
    whole ? "whole" : `cut after ${depth} moves`,
    ...found === undefined ? [`progress from ${sampled}`] : [`${found.what} in ${found.trace.length} moves`],
    `${seconds.toFixed(1)} s`
  ].join(", ")

const small = { process: 0, permits: 1 }
const large = { process: 1, permits: 2 }

/** While a fleet changes the capacity, two claims know two of them. */
const rolling = [{ process: 0, capacity: 2 }, { process: 1, capacity: 1 }]

const readWrite = { kind: "readWrite", capacity: readWriteCapacity } as const
const reader = { process: 0, permits: 1 }
const writer = { process: 1, permits: readWriteCapacity }

/** Searched completely: every state within the printed limits. */
const whole: ReadonlyArray<World.Config> = [
  { name: "two claims", claims: two },
  { name: "acquires twice in flight", claims: two, acquires: 2, refreshes: 0 },
  { name: "renewals", claims: two, sends: 1, renewals: true, interrupts: false },
  { name: "a process crashes", claims: two, sends: 1, crash: true },
  { name: "crash and cut", claims: two, refreshes: 0, crash: true, cut: true },
  { name: "messages lost", claims: two, refreshes: 0, loss: true },
  { name: "a foreign client", claims: two, refreshes: 0, foreign: true },
  { name: "guard of one tick", claims: two, sends: 1, guard: 1 },
  { name: "requests held without end", claims: two, sends: 1, endless: true },
  { name: "replicas to wait for", claims: two, sends: 1, refreshes: 0, replicas: true, generations: 2 },
  { name: "one waits, one tries", claims: [{ process: 0 }, { process: 1, mode: "try" }] },
  { name: "three claims", claims: three, sends: 1, refreshes: 0, interrupts: false },
  { name: "permits 1 and 1 of 2", capacity: 2, claims: two, sends: 1 },
  {
    name: "1 of 2 and 1 of 1, sums and values lost",
    capacity: 2,
    claims: rolling,
    sends: 1,
    refreshes: 0,
    evicts: true
  },
  {
    name: "a writer that becomes a reader, and a reader",
    ...readWrite,
    claims: [writer, reader],
    sends: 1,
    shrinks: true
  },
  { name: "holders asked to leave", claims: two, refreshes: 0, renewals: true, revokes: true },
  {
    name: "holders of permits asked to leave, sums and values lost",
    capacity: 2,
    claims: [small, large],
    sends: 1,
    refreshes: 0,
    renewals: true,
    evicts: true,
    revokes: true
  }
]

/**
 * One claim has been passed over because its process does not listen, the claim behind it holds the lock, and one more
 * claim has not asked yet.
 */
const passedOver: Omit<World.Config, "name"> = {
  claims: [...three, { process: 0 }],
  sends: 1,
  interrupts: false,
  cut: true,
  after: `a0 asks; run acquire a0; a0 hears acquire; b0 asks; run acquire b0; b0 hears acquire; c0 asks; run acquire c0;
    c0 hears acquire; process 1 cut off; a0 releases; run release a0; a0 hears release; c0 hears notification`
}

/** Too large to finish: searched as far as the number of states allows. */
const cut: ReadonlyArray<World.Config> = [
  { name: "messages lost, refreshes", claims: two, loss: true },
  { name: "a foreign client, refreshes", claims: two, sends: 1, foreign: true },
  { name: "a foreign client and interop", claims: two, sends: 1, foreign: true, interop: true },
  { name: "a fresh id after the first", claims: two, sends: 1, generations: 2 },
  { name: "refreshes twice in flight", claims: two, sends: 1, refreshes: 2, renewals: true },
  { name: "crash and cut, refreshes", claims: two, sends: 1, crash: true, cut: true },
  { name: "subscriptions cut, receivers not counted", claims: two, sends: 1, cut: true, blind: true },
  { name: "one passed over", ...passedOver },
  { name: "three claims, two processes, cut", claims: [...two, { process: 0 }], sends: 1, cut: true },
  { name: "replicas to wait for, messages lost", claims: two, replicas: true, generations: 2, loss: true },
  { name: "holders asked to leave, messages lost", claims: two, renewals: true, loss: true, revokes: true },
  {
    name: "a writer that becomes a reader is asked to leave",
    ...readWrite,
    claims: [writer, reader],
    sends: 1,
    renewals: true,
    shrinks: true,
    revokes: true
  },
  { name: "four claims", claims: [...three, { process: 0 }], sends: 1, refreshes: 0 },
  { name: "permits 1, 2, 1 of 2", capacity: 2, claims: [small, large, small], sends: 1, refreshes: 0 },
  { name: "1 of 2, 1 of 1, 1 of 2", capacity: 2, claims: [...rolling, small], sends: 1, refreshes: 0 },
  {
    name: "permits 1, 2, 1 of 2, sums and values lost",
    capacity: 2,
    claims: [small, large, small],
    sends: 1,
    evicts: true
  },
  {
    name: "writers that become readers, and a reader",
    ...readWrite,
    claims: [writer, reader, { ...writer, process: 2 }],
    sends: 1,
    refreshes: 0,
    shrinks: true
  }
]

describe("every interleaving", () => {
  for (const config of whole) {
    it(`keeps the promises: ${config.name}`, { timeout: 600_000 }, () => {
      const result = explore(config, { states: Infinity, sample: 200 })
      console.log(told(config, result))
      assert.isUndefined(result.found, JSON.stringify(result.found, null, 1))
      assert.isTrue(result.whole)
    })
  }

  for (const config of cut) {
    it(`keeps the promises as far as searched: ${config.name}`, { timeout: 600_000 }, () => {
      const result = explore(config, { states: 150_000 * effort, sample: 200 })
      console.log(told(config, result))
      assert.isUndefined(result.found, JSON.stringify(result.found, null, 1))
    })
  }

  it("keeps the promises on long random ways with all faults at once", { timeout: 600_000 }, () => {
    const everything: Omit<World.Config, "name"> = {
      claims: [...three, { process: 0 }],
      acquires: 2,
      refreshes: 2,
      sends: 4,
      generations: 4,
      renewals: true,
      loss: true,
      cut: true,
      foreign: true,
      revokes: true
    }
    const worlds: ReadonlyArray<World.Config> = [
      { ...everything, name: "mutex" },
      { ...everything, name: "mutex, guard, crashes", guard: 1, crash: true },
      { ...everything, name: "mutex, interop", interop: true },
      { ...everything, name: "mutex, replicas", replicas: true, crash: true },
      { ...everything, name: "semaphore", capacity: 2, claims: [small, large, small, large], foreign: false },
      {
        ...everything,
        name: "semaphore, rolling from 2 to 3, sums and values lost",
        capacity: 3,
        claims: [{ ...small, capacity: 2 }, large, { ...large, capacity: 2 }, small],
        foreign: false,
        evicts: true
      },
      {
        ...everything,
        ...readWrite,
        name: "writers that become readers, and readers",
        claims: [reader, writer, { ...reader, process: 2 }, { ...writer, process: 0 }],
        foreign: false,
        shrinks: true,
        evicts: true
      }
    ]
    for (const config of worlds) {
      const result = roam(config, 1, 1_000 * effort, 300)
      console.log(`model: random ways, ${config.name}: ${result.moves} moves`)
      assert.isUndefined(result.found)
    }
  })
})

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

const play = (config: Omit<World.Config, "name" | "claims"> & Partial<World.Config>, trace: string): World.State =>
  World.play(World.world({ name: "trace", claims: two, ...config }), trace)

const believes = (state: World.State): ReadonlyArray<boolean> =>
  state.claims.map((claim) => Client.believes(claim, state.server.now))

const holders = (state: World.State): ReadonlyArray<string> => state.server.holders.map((one) => one.id)

const queue = (state: World.State): ReadonlyArray<string> => state.server.queue.map((one) => one.id)

describe("regression traces", () => {
  it("1: an old notification is not believed after a later answer", () => {
    const trace = `
      a0 asks; run acquire a0; lost: acquire a0; tick; b0 asks; run acquire b0; lost: acquire b0; tick;
      a0 asks again; run acquire a0; tick; b0 asks again; run acquire b0; b0 hears acquire; b0 hears notification`
    const state = play({ loss: true }, trace)
    assert.deepStrictEqual(believes(state), [false, false])
    assert.deepStrictEqual(holders(state), ["a0"])
    assert.throws(() => play({ loss: true, flaws: { ignoresFloor: true } }, trace), /S2/)
  })

  it("2: a repeat that is answered keeps others out as long as it is believed", () => {
    const trace = `
      a0 asks; run acquire a0; lost: acquire a0; tick; a0 asks again; run acquire a0; a0 hears acquire; tick;
      b0 asks; run acquire b0`
    const state = play({ loss: true }, trace)
    assert.deepStrictEqual(believes(state), [true, false])
    assert.deepStrictEqual(holders(state), ["a0"])
    assert.throws(() => play({ loss: true, flaws: { keepsExpiry: true } }, trace), /S2/)
  })

  it("3: a notification does not count from a refresh in flight", () => {
    const trace = `
      a0 asks; run acquire a0; a0 hears acquire; b0 asks; run acquire b0; b0 hears acquire; a0 releases;
      run release a0; tick; tick; b0 refreshes; b0 hears notification`
    assert.deepStrictEqual(believes(play({}, trace)), [false, false])
    assert.throws(() => play({ flaws: { countsUnanswered: true } }, trace), /S2/)
  })

  it("4: a grant heard too late is not given back under its id", () => {
    const late = `
      a0 asks; run acquire a0; a0 hears acquire; b0 asks; run acquire b0; b0 hears acquire; a0 releases;
      run release a0; tick; tick; b0 hears notification; `
    const sound = `${late}run refresh b0; b0 hears refresh; run release b0; b0 hears release; b1 asks; run acquire b1;
      b1 hears acquire`
    assert.deepStrictEqual(believes(play({ generations: 2 }, sound)), [false, true])
    const flawed = `${late}b0 asks; run acquire b0; b0 hears acquire; run release b0`
    assert.throws(() => play({ flaws: { givesBack: true } }, flawed), /S2/)
  })

  it("5: a second acquire that runs after the release leaves nothing", () => {
    const trace = `
      a0 asks; a0 asks again; run acquire a0; a0 hears acquire; a0 releases; run release a0; run acquire a0;
      a0 hears release`
    const state = play({ acquires: 2 }, trace)
    assert.deepStrictEqual([holders(state), queue(state)], [[], []])
    assert.throws(() => play({ acquires: 2, flaws: { releasesWithoutTombstone: true } }, trace), /S4/)
  })

  it("6: a waiter whose subscriber is away is passed over and stays ahead of later ones", () => {
    const state = play(
      { claims: [...three, { process: 0 }], cut: true },
      `a0 asks; run acquire a0; a0 hears acquire; b0 asks; run acquire b0; c0 asks; run acquire c0;
      process 1 cut off; a0 releases; run release a0; d0 asks; run acquire d0`
    )
    assert.deepStrictEqual(holders(state), ["c0"])
    assert.deepStrictEqual(queue(state), ["b0", "d0"])
  })
})

describe("capacity above one", () => {
  it("a small claim does not overtake a large one that does not fit yet", () => {
    const trace = "a0 asks; run acquire a0; b0 asks; run acquire b0; c0 asks; run acquire c0"
    const state = play({ claims: [small, large, small], capacity: 2 }, trace)
    assert.deepStrictEqual(holders(state), ["a0"])
    assert.deepStrictEqual(queue(state), ["b0", "c0"])
  })
})
