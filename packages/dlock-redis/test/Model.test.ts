import { assert, describe, it } from "@effect/vitest"
import * as Client from "./model/client.ts"
import { explore } from "./model/explore.ts"
import { roam } from "./model/roam.ts"
import * as World from "./model/world.ts"
import { large, passedOver, reader, readWrite, rolling, small, three, told, two, writer } from "./model/worlds.ts"

/** `DLOCK_MODEL=10` searches ten times as far. */
const effort = Number(process.env.DLOCK_MODEL ?? "1")

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
      const result = explore(config, { states: 150_000 * effort / World.alike(config), sample: 200 })
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

describe("claims that are alike", () => {
  it("hide no state from a search that takes them for one another", () => {
    const world = World.world({ name: "three claims", claims: three, sends: 1, refreshes: 0, interrupts: false })
    const plain = { ...world, exchanges: world.exchanges.filter(({ claims }) => claims.join() === "0,1,2") }
    assert.deepStrictEqual([world.exchanges.length, plain.exchanges.length], [6, 1])
    const start = World.initial(world)
    const seen = new Set([World.key(plain, start)])
    const all = new Set([World.key(world, start)])
    const next = [start]
    for (let state = next.pop(); state !== undefined; state = next.pop()) {
      for (const move of World.moves(world, state)) {
        const after = World.settle(move.state)
        if (seen.size === seen.add(World.key(plain, after)).size) continue
        all.add(World.key(world, after))
        next.push(after)
      }
    }
    assert.strictEqual(explore(world, { states: Infinity, sample: 0 }).states, all.size)
    assert.isAbove(seen.size, 5 * all.size)
  })

  it("are those of the same kind in processes of the same kind", () => {
    assert.strictEqual(World.alike({ name: "a process has two", claims: [...three, { process: 0 }] }), 4)
    assert.strictEqual(World.alike({ name: "permits", claims: [small, large, small] }), 2)
    assert.strictEqual(World.alike({ name: "one tries", claims: [{ process: 0 }, { process: 1, mode: "try" }] }), 1)
    assert.strictEqual(World.alike({ name: "rolling", claims: rolling }), 1)
  })
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
