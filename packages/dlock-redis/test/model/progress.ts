/**
 * L1: from this state on there are no more faults, and one fair schedule runs. Requests in flight are dropped or
 * delivered, or only the notifications are lost. Within eight ticks, each live waiter is granted and nothing is left
 * over.
 */
import * as Client from "./client.ts"
import * as World from "./world.ts"

const patience = 8

const pump = (world: World.World, state: World.State, wanted: Set<number>): World.State => {
  let next = state
  for (let round = 0; round < 200; round++) {
    next.claims.forEach((claim, index) => {
      if (claim.phase === "held") wanted.delete(index)
    })
    const message = next.net[0]
    if (message !== undefined) {
      next = message.kind === "notification" || message.reply !== undefined
        ? World.deliver(world, next, message)
        : World.execute(world, next, message).state
      continue
    }
    const act = World.moves(world, next).find(({ name }) =>
      name.endsWith(" is confirmed") || name.endsWith(" releases") || name.endsWith(" withdraws again") ||
      name.endsWith(" asks again") ||
      name.endsWith(" asks")
    )
    if (act === undefined) return next
    next = act.state
  }
  return next
}

const refreshAll = (world: World.World, state: World.State): World.State =>
  state.claims.reduce((next, claim, index) => {
    if (claim.phase !== "queued") return next
    return World.moves(world, next).find(({ name }) => name === `${World.idOf(index, claim.generation)} refreshes`)
      ?.state ?? next
  }, state)

const run = (world: World.World, state: World.State): string | undefined => {
  const wanted = new Set<number>()
  let next: World.State = {
    ...state,
    processes: state.processes.map((process) => ({ ...process, subscribed: process.alive })),
    claims: state.claims.map((claim) => claim.phase === "idle" ? Client.over(claim.generation) : claim)
  }
  next.claims.forEach((claim, index) => {
    if (Client.waits(claim) && world.claims[index]?.mode !== "try") wanted.add(index)
  })
  for (let time = 0; time <= patience; time++) {
    next = pump(world, next, wanted)
    next = pump(world, refreshAll(world, next), wanted)
    const left = next.claims.some((claim) => claim.phase !== "over" && claim.phase !== "dead")
    if (!left && next.server.holders.length === 0 && next.server.queue.length === 0) {
      return wanted.size === 0 ? undefined : `L1: not granted: ${[...wanted].join()}`
    }
    next = World.tick(world, next)
  }
  return `L1: still there after ${patience} ticks`
}

/** Returns what prevents progress from this state, if anything does. */
export const progress = (world: World.World, state: World.State): string | undefined => {
  // The schedule may ask any number of times, and a claim whose waiter died may ask under a new id.
  const free: World.World = {
    ...world,
    sends: Infinity,
    refreshes: 2,
    generations: Infinity,
    loss: false,
    crash: false,
    foreign: false
  }
  const notificationsLost = { ...state, net: state.net.filter((message) => message.kind !== "notification") }
  return run(free, state) ?? run(free, notificationsLost) ?? run(free, { ...state, net: [] })
}
