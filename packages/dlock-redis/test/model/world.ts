/**
 * A small world: one lock, a few claims in processes, and a network that holds, reorders and loses messages. Every
 * process may move at any time, so a process that pauses is a process that moves late.
 */
import * as Client from "./client.ts"
import * as Server from "./server.ts"

export interface Config {
  readonly name: string
  readonly claims: ReadonlyArray<
    {
      readonly process: number
      readonly permits?: number
      /** The capacity as this claim knows it. Default: that of the world. */
      readonly capacity?: number
      readonly mode?: "queue" | "try"
    }
  >
  readonly ttl?: number
  readonly guard?: number
  readonly capacity?: number
  /** Default: a mutex, or a semaphore if the capacity is above 1. */
  readonly kind?: Server.Kind
  /** A holder of several permits may give back all but one. */
  readonly shrinks?: boolean
  /** Somebody asks holders to leave, at once or within a tick. */
  readonly revokes?: boolean
  /** The server may lose the sum over the holders, or what each of them has. */
  readonly evicts?: boolean
  /** How many acquires, refreshes and notifications of one claim may be in flight. Of releases and renewals, one. */
  readonly acquires?: number
  readonly refreshes?: number
  readonly notifications?: number
  /** How often an acquire is sent under one id. */
  readonly sends?: number
  /** How many ids one claim uses. */
  readonly generations?: number
  readonly renewals?: boolean
  /** Waiting claims may give up at any moment. */
  readonly interrupts?: boolean
  /** Messages may be lost. Without this, the network may still hold them forever. */
  readonly loss?: boolean
  readonly crash?: boolean
  /** Subscriptions are cut and come back. */
  readonly cut?: boolean
  /** The server does not tell how many clients listen. */
  readonly blind?: boolean
  /** A foreign client takes and frees the lock. */
  readonly foreign?: boolean
  readonly interop?: boolean
  /** A grant counts when the replicas have it. At any moment they may not. */
  readonly replicas?: boolean
  /**
   * Requests may run more than a ttl after they were sent, later than any tombstone lives. Late grants are then not
   * checked.
   */
  readonly endless?: boolean
  readonly flaws?: Server.Flaws & Client.ClientFlaws
  /** The moves before the search begins. */
  readonly after?: string
}

export type World = Required<Omit<Config, "flaws" | "after">> & {
  readonly flaws: Server.Flaws & Client.ClientFlaws
  readonly exchanges: ReadonlyArray<Exchange>
}

export const world = (config: Config): World => ({
  ttl: 2,
  guard: 0,
  capacity: 1,
  kind: config.capacity === undefined ? "mutex" : "semaphore",
  shrinks: false,
  revokes: false,
  evicts: false,
  acquires: 1,
  refreshes: 1,
  notifications: 2,
  sends: 2,
  generations: 1,
  renewals: false,
  interrupts: true,
  loss: false,
  crash: false,
  cut: false,
  blind: false,
  foreign: false,
  interop: false,
  replicas: false,
  endless: false,
  flaws: {},
  exchanges: exchanges(config),
  ...config
})

/** The limits of a world in words. */
export const limits = (config: Config): string => {
  const { acquires, claims, cut, exchanges, guard, interrupts, notifications, refreshes, sends, ttl } = world(config)
  const processes = new Set(claims.map((claim) => claim.process)).size
  return [
    `${claims.length} claims in ${processes} processes`,
    `ttl ${ttl} guard ${guard}`,
    `in flight of each: acquires ${acquires}, refreshes ${refreshes}, notifications ${notifications}`,
    `acquires of an id: ${sends}`,
    ...interrupts ? [] : ["nobody gives up waiting"],
    ...cut ? ["subscriptions cut"] : [],
    ...exchanges.length > 1 ? [`up to ${exchanges.length} states as one, because claims are alike`] : []
  ].join(", ")
}

interface Sent {
  readonly claim: number
  readonly id: string
  readonly at: number
}

export type Message =
  | Sent & { readonly kind: "acquire" | "refresh"; readonly reply: Server.AcquireReply | undefined }
  | Sent & { readonly kind: "renew"; readonly token: number; readonly reply: Server.RenewReply | undefined }
  | Sent & { readonly kind: "shrink"; readonly token: number; readonly reply: Server.RenewReply | undefined }
  | Sent & { readonly kind: "release"; readonly tombstone: boolean; readonly reply: Server.ReleaseReply | undefined }
  | Sent & { readonly kind: "notification"; readonly token: number | undefined }

export interface State {
  readonly server: Server.Server
  readonly claims: ReadonlyArray<Client.Claim>
  readonly processes: ReadonlyArray<{ readonly alive: boolean; readonly subscribed: boolean }>
  readonly net: ReadonlyArray<Message>
  /**
   * Claims that were passed over while their processes did not listen, and that have not asked since. Others may
   * overtake them.
   */
  readonly excused: ReadonlyArray<string>
}

export interface Move {
  readonly name: string
  readonly state: State
  /** A promise that the move itself broke. */
  readonly broken?: string
}

export const initial = (world: World): State => ({
  server: Server.empty,
  claims: world.claims.map(() => Client.idle(0)),
  processes: [...new Set(world.claims.map(({ process }) => process))].map(() => ({ alive: true, subscribed: true })),
  net: [],
  excused: []
})

export const idOf = (index: number, generation: number): string => `${"abcdefgh"[index]}${generation}`
const presentId = (state: State, index: number): string => idOf(index, (state.claims[index] as Client.Claim).generation)
const claimOf = (id: string): number => "abcdefgh".indexOf(id[0] as string)

const put = <A>(list: ReadonlyArray<A>, index: number, value: A): ReadonlyArray<A> =>
  list.map((other, at) => at === index ? value : other)

const setClaim = (state: State, index: number, claim: Client.Claim): State => ({
  ...state,
  claims: put(state.claims, index, claim)
})

const send = (state: State, message: Message): State => ({ ...state, net: [...state.net, message] })
const without = (state: State, message: Message): State => ({
  ...state,
  net: state.net.filter((other) => other !== message)
})

const subscribersOf = (world: World, state: State): Server.Subscribers => (inbox) =>
  world.blind ? undefined : state.processes[Number(inbox)]?.subscribed === true ? 1 : 0

/**
 * No claim that is alive and connected is overtaken by a later claim, and no live claim loses a place that has not
 * expired.
 */
const overtaken = (world: World, before: State, step: Server.Step<unknown>, asking: string): string | undefined => {
  for (const granted of step.grants) {
    const order = before.server.queue.toSorted((a, b) => a.arrival - b.arrival).map((waiter) => waiter.id)
    if (!order.includes(granted)) order.push(granted)
    for (const id of order.slice(0, order.indexOf(granted))) {
      const index = claimOf(id)
      const process = before.processes[(world.claims[index] as Config["claims"][number]).process]
      const stillWaits = !step.grants.includes(id) && Client.waits(before.claims[index] as Client.Claim)
      const excused = before.excused.includes(id) || id === asking
      if (process?.alive === true && process.subscribed && stillWaits && !excused) {
        return `F1: ${granted} overtook ${id}`
      }
    }
  }
  for (const { id } of before.server.queue) {
    const index = claimOf(id)
    const alive = before.processes[(world.claims[index] as Config["claims"][number]).process]?.alive === true
    const gone = id !== asking && !step.grants.includes(id) && !step.server.queue.some((waiter) => waiter.id === id)
    if (gone && alive) return `F6: ${id} lost its place`
  }
  return undefined
}

/** Nothing extends a claim once its holder had to leave, and a revocation lets nobody in. */
const extended = (before: State, step: Server.Step<unknown>): string | undefined => {
  for (const { expiry, id, moment = Infinity, token } of before.server.holders) {
    const after = step.server.holders.find((one) => one.id === id && one.token === token)
    if (moment <= before.server.now && after !== undefined && after.expiry > expiry) {
      return `S5: ${id} was extended after it had to leave`
    }
  }
  return undefined
}

/** A claim that asks is no longer excused, and no claim whose process listens is excused for good. */
const excusedAfter = (world: World, before: State, step: Server.Step<unknown>, asking: string): State["excused"] =>
  step.server.queue.flatMap(({ id, parked }) => {
    const { process } = world.claims[claimOf(id)] as Config["claims"][number]
    const still = before.excused.includes(id) || before.processes[process]?.subscribed !== true
    return parked && still && id !== asking ? [id] : []
  })

/** The server runs a request. Its answer and the notifications are sent. */
export const execute = (world: World, state: State, message: Message): Move => {
  if (message.kind === "notification") throw new Error("a notification is not a request")
  const { flaws, guard, kind, ttl } = world
  const { capacity = world.capacity, mode = "queue", permits = 1, process } = world
    .claims[message.claim] as Config["claims"][number]
  const { id } = message
  const subscribers = subscribersOf(world, state)
  const inbox = String(process)
  const finish = (step: Server.Step<unknown>, answer: Message): Move => {
    let next: State = {
      ...state,
      server: step.server,
      net: state.net.filter((other) => other !== message),
      excused: excusedAfter(world, state, step, id)
    }
    if (state.processes[process]?.alive === true) next = send(next, answer)
    for (const notification of step.notifications) {
      const claim = claimOf(notification.id)
      const reached = state.processes[Number(notification.inbox)]?.subscribed === true
      const flying = next.net.filter((other) => other.kind === "notification" && other.claim === claim).length
      if (reached && flying < world.notifications) {
        next = send(next, { kind: "notification", claim, id: notification.id, token: notification.token, at: 0 })
      }
    }
    const broken = overtaken(world, state, step, id) ?? extended(state, step)
    return { name: `run ${message.kind} ${id}`, state: next, ...broken === undefined ? {} : { broken } }
  }
  switch (message.kind) {
    case "acquire": {
      const args = { id, inbox, ttl, guard, kind, permits, capacity, mode }
      const step = Server.acquire(state.server, args, subscribers, flaws)
      return finish(step, { ...message, reply: step.reply })
    }
    case "refresh": {
      const step = Server.refresh(state.server, { inbox, claims: [{ id, ttl, guard }] }, subscribers, flaws)
      return finish(step, { ...message, reply: step.reply[0] })
    }
    case "renew": {
      const args = { id, token: message.token, ttl, guard, kind, permits, capacity }
      const step = Server.renew(state.server, args, flaws)
      return finish(step, { ...message, reply: step.reply })
    }
    case "shrink": {
      const args = { id, token: message.token, ttl, guard, kind, permits, capacity }
      const step = Server.shrink(state.server, args, 1, subscribers, flaws)
      return finish(step, { ...message, reply: step.reply })
    }
    case "release": {
      const args = { id, tombstone: message.tombstone, interop: world.interop }
      const step = Server.release(state.server, args, Infinity, subscribers, flaws)
      return finish(step, { ...message, reply: step.reply })
    }
  }
}

/** The client receives an answer or a notification. */
export const deliver = (world: World, state: State, message: Message): State => {
  const next = without(state, message)
  const { claim: index, id } = message
  const claim = state.claims[index] as Client.Claim
  const { now } = state.server
  const { flaws, ttl } = world
  if (id !== presentId(state, index)) return next
  if (message.kind === "notification") {
    if (message.token === undefined) return Client.waits(claim) ? ask(world, next, index, "refresh") ?? next : next
    if (!Client.waits(claim)) return next
    return heardGrant(world, next, index, Client.notified(claim, message.token, ttl, now, flaws))
  }
  if (message.reply === undefined) throw new Error("not an answer")
  switch (message.kind) {
    case "acquire":
    case "refresh": {
      const heard = Client.answered(claim, message.kind, message.reply, message.at, ttl, now, flaws)
      const next2 = claim.phase !== "withdrawing" && heard.phase === "withdrawing"
        ? withdraw(next, index, heard)
        : undefined
      return next2 ?? (message.reply._tag === "Granted"
        ? heardGrant(world, next, index, heard)
        : setClaim(next, index, heard))
    }
    case "renew":
    case "shrink": {
      const heard = Client.renewed(claim, message.reply, message.token, message.at, ttl, now, flaws)
      return heard.phase === "withdrawing" ? withdraw(next, index, heard) : setClaim(next, index, heard)
    }
    case "release":
      return claim.phase === "withdrawing" ? setClaim(next, index, Client.withdrawn(claim, world.generations)) : next
  }
}

const flying = (state: State, index: number, kind: Message["kind"]): number =>
  state.net.filter((message) => message.claim === index && message.kind === kind).length

const withdraw = (state: State, index: number, claim: Client.Claim): State => {
  const next = setClaim(state, index, claim)
  if (flying(next, index, "release") > 0) return next
  const { tombstone } = claim
  return send(next, {
    kind: "release",
    claim: index,
    id: idOf(index, claim.generation),
    at: state.server.now,
    tombstone,
    reply: undefined
  })
}

/** With replicas, a grant does not count at once. */
const heardGrant = (world: World, state: State, index: number, heard: Client.Claim): State =>
  world.replicas && heard.phase === "held" && (state.claims[index] as Client.Claim).phase !== "held"
    ? setClaim(state, index, Client.confirming(heard))
    : lateness(world, state, index, heard)

/**
 * Too few replicas have the grant, so the claim is withdrawn and asks again under a new id. With flaw R1, under the
 * same id.
 */
const tooFew = (world: World, state: State, index: number, claim: Client.Claim): State => {
  const next = withdraw(state, index, Client.withdrawing(claim, true, world.flaws))
  return world.flaws.keepsId === true ? setClaim(next, index, Client.idle(claim.generation)) : next
}

/** A grant came too late: ask for the claim's state. With flaw F4, give it back and start again under the same id. */
const lateness = (world: World, state: State, index: number, heard: Client.Claim): State => {
  if (!Client.waits(heard)) return setClaim(state, index, heard)
  if (world.flaws.givesBack !== true) {
    const next = setClaim(state, index, heard)
    return ask(world, next, index, "refresh") ?? next
  }
  const given = withdraw(state, index, { ...heard, tombstone: false })
  return setClaim(given, index, Client.idle(heard.generation))
}

const ask = (
  world: World,
  state: State,
  index: number,
  kind: "acquire" | "refresh" | "renew" | "shrink"
): State | undefined => {
  const claim = state.claims[index] as Client.Claim
  const { now } = state.server
  const id = presentId(state, index)
  const free = (limit: number) => flying(state, index, kind) < limit
  switch (kind) {
    case "acquire":
      if (!free(world.acquires) || claim.sent >= world.sends) return undefined
      return send(setClaim(state, index, Client.asked(claim, now)), {
        kind,
        claim: index,
        id,
        at: now,
        reply: undefined
      })
    case "refresh":
      if (!free(world.refreshes)) return undefined
      return send(setClaim(state, index, Client.refreshed(claim, now, world.flaws)), {
        kind,
        claim: index,
        id,
        at: now,
        reply: undefined
      })
    case "renew":
    case "shrink":
      if (!free(1)) return undefined
      return send(state, { kind, claim: index, id, at: now, token: claim.token, reply: undefined })
  }
}

export const tick = (world: World, state: State): State => {
  const server = Server.advance(state.server, 1)
  const net = world.endless
    ? state.net
    : state.net.filter((message) =>
      message.kind === "notification" || message.reply !== undefined || server.now - message.at <= world.ttl
    )
  return { ...state, server, net }
}

/** Everything that may happen next. */
export const moves = (world: World, state: State): ReadonlyArray<Move> => {
  const out: Array<Move> = []
  const add = (name: string, next: State | undefined): void => {
    if (next !== undefined) out.push({ name, state: next })
  }
  const { claims, net, processes, server } = state
  const { now } = server
  claims.forEach((claim, index) => {
    const id = presentId(state, index)
    const { mode = "queue", permits = 1 } = world.claims[index] as Config["claims"][number]
    switch (claim.phase) {
      case "idle":
        add(`${id} asks`, ask(world, state, index, "acquire"))
        break
      case "asking":
        add(`${id} asks again`, ask(world, state, index, "acquire"))
        if (mode === "queue") add(`${id} refreshes`, ask(world, state, index, "refresh"))
        if (world.interrupts) {
          add(`${id} gives up`, withdraw(state, index, Client.withdrawing(claim, false, world.flaws)))
        }
        break
      case "queued":
        add(`${id} refreshes`, ask(world, state, index, "refresh"))
        if (world.interrupts) {
          add(`${id} gives up`, withdraw(state, index, Client.withdrawing(claim, false, world.flaws)))
        }
        break
      case "confirming":
        add(`${id} is confirmed`, lateness(world, state, index, Client.confirmed(claim, now)))
        add(`${id} has too few replicas`, tooFew(world, state, index, claim))
        if (world.interrupts) {
          add(`${id} gives up`, withdraw(state, index, Client.withdrawing(claim, false, world.flaws)))
        }
        break
      case "held":
        if (world.renewals) add(`${id} renews`, ask(world, state, index, "renew"))
        if (world.shrinks && permits > 1) add(`${id} shrinks`, ask(world, state, index, "shrink"))
        add(`${id} releases`, withdraw(state, index, Client.withdrawing(claim, false, world.flaws)))
        break
      case "withdrawing":
        if (flying(state, index, "release") === 0) add(`${id} withdraws again`, withdraw(state, index, claim))
        break
    }
  })
  for (const message of net) {
    if (message.kind === "notification" || message.reply !== undefined) {
      add(`${message.id} hears ${message.kind}`, deliver(world, state, message))
    } else {
      out.push(execute(world, state, message))
    }
    if (world.loss) add(`lost: ${message.kind} ${message.id}`, without(state, message))
  }
  processes.forEach((process, index) => {
    const set = (change: Partial<typeof process>) => ({
      ...state,
      processes: put(processes, index, { ...process, ...change })
    })
    if (world.cut && process.alive) {
      add(`process ${index} ${process.subscribed ? "cut off" : "subscribes"}`, set({ subscribed: !process.subscribed }))
    }
    if (world.crash && process.alive) {
      add(`process ${index} crashes`, {
        ...set({ alive: false, subscribed: false }),
        claims: claims.map((claim, at) => world.claims[at]?.process === index ? Client.dead(claim.generation) : claim)
      })
    }
  })
  if (world.foreign) {
    if (server.foreign === undefined) {
      const taken = Server.foreignSet(server, now + world.ttl)
      if (taken !== server) add("foreign takes", { ...state, server: taken })
    } else {
      add("foreign frees", { ...state, server: Server.foreignDel(server) })
    }
  }
  for (const { id, moment, token } of world.revokes ? server.holders : []) {
    for (const grace of [0, 1]) {
      // A second revocation can only shorten the first.
      if (moment !== undefined && moment <= now + grace) continue
      const step = Server.revoke(server, { id, token, grace }, subscribersOf(world, state), world.flaws)
      add(`${id} is asked to leave ${grace === 0 ? "now" : "soon"}`, { ...state, server: step.server })
    }
  }
  if (world.evicts && server.holders.length > 0) {
    if (server.used !== undefined) add("the sum is lost", { ...state, server: Server.loseUsed(server) })
    if (server.holders.some(({ isLost }) => isLost !== true)) {
      add("the values are lost", { ...state, server: Server.loseValues(server) })
    }
  }
  add("tick", tick(world, state))
  return out
}

/** Returns the safety promise that a state breaks, if any. */
export const broken = (world: World, state: State): string | undefined => {
  const { claims, server } = state
  const capacity = Math.min(...server.holders.map((one) => one.capacity))
  if (server.holders.reduce((sum, one) => sum + one.permits, 0) > capacity) return "S1: too many holders"
  if (server.used !== undefined && server.used !== Server.usedBy(server.holders)) return "S3: the sum is wrong"
  for (let index = 0; index < claims.length; index++) {
    const claim = claims[index] as Client.Claim
    const id = idOf(index, claim.generation)
    const holds = server.holders.some((one) => one.id === id)
    if (Client.believes(claim, server.now) && !holds) return `S2: ${id} believes and the server has no such holder`
    if (claim.phase === "over" && !world.endless && (holds || server.queue.some((waiter) => waiter.id === id))) {
      return `S4: ${id} is over and still there`
    }
  }
  return undefined
}

/**
 * Plays the moves that a trace names. A message that the trace does not name stays in the network. Every state must
 * keep the promises.
 */
export const play = (world: World, trace: string): State =>
  trace.split(";").map((name) => name.trim()).filter((name) => name !== "").reduce((state, name) => {
    const move = moves(world, state).find((one) => one.name === name)
    if (move === undefined) {
      throw new Error(`no move "${name}" among ${moves(world, state).map((one) => one.name).join("; ")}`)
    }
    const what = move.broken ?? broken(world, move.state)
    if (what !== undefined) throw new Error(what)
    return move.state
  }, initial(world))

/**
 * Drops what no process will read: answers for claims that do not wait for them, and tombstones that no request can
 * meet.
 */
export const settle = (state: State): State => {
  const { claims, net, server } = state
  const kept = net.filter((message) => {
    const claim = claims[message.claim] as Client.Claim
    if (message.kind !== "notification" && message.reply === undefined) return true
    if (message.id !== presentId(state, message.claim)) return false
    switch (message.kind) {
      case "acquire":
        return Client.waits(claim) || claim.phase === "held" || claim.phase === "confirming"
      case "refresh":
        return Client.waits(claim) || (claim.phase === "held" && message.reply?._tag === "Granted")
      case "renew":
      case "shrink":
        return claim.phase === "held"
      case "release":
        return claim.phase === "withdrawing"
      case "notification":
        return Client.waits(claim)
    }
  })
  const meets = (id: string) =>
    kept.some((message) => message.kind === "acquire" && message.reply === undefined && message.id === id)
  const tombstones = server.tombstones.filter((tombstone) => meets(tombstone.id))
  if (kept.length === net.length && tombstones.length === server.tombstones.length) return state
  return { ...state, net: kept, server: { ...server, tombstones } }
}

/** A way to exchange claims: the claims and processes in their new order, and the new number of each claim. */
interface Exchange {
  readonly claims: ReadonlyArray<number>
  readonly processes: ReadonlyArray<number>
  readonly numberOf: ReadonlyArray<number>
}

const permutations = (count: number): ReadonlyArray<ReadonlyArray<number>> =>
  count === 0 ?
    [[]] :
    permutations(count - 1).flatMap((shorter) =>
      Array.from({ length: count }, (_, at) => shorter.toSpliced(at, 0, count - 1))
    )

/**
 * How many states of a world, about, are the same but for an exchange of claims. A world that begins in the middle, where
 * claims differ, has few such states.
 */
export const alike = (config: Config): number => config.after === undefined ? exchanges(config).length : 1

/** All exchanges of claims that leave a world the same, because these claims are alike and so are their processes. */
const exchanges = (world: Config): ReadonlyArray<Exchange> =>
  permutations(world.claims.length).flatMap((claims) => {
    const processes: Array<number> = []
    const isSame = claims.every((old, now) => {
      const [before, after] = [world.claims[old]!, world.claims[now]!]
      processes[after.process] ??= before.process
      return processes[after.process] === before.process && before.permits === after.permits &&
        before.capacity === after.capacity && before.mode === after.mode
    })
    if (!isSame || new Set(processes).size < processes.length) return []
    return [{ claims, processes, numberOf: claims.map((_, index) => claims.indexOf(index)) }]
  })

/**
 * States that do not differ in anything relevant have one key: times relative to now, and tokens by their order. States
 * that differ only by an exchange of claims that are alike have the same one.
 */
export const key = (world: World, state: State): string => {
  let least: string | undefined
  for (const exchange of world.exchanges) {
    const one = keyAfter(world, state, exchange)
    if (least === undefined || one < least) least = one
  }
  return least!
}

const keyAfter = (world: World, state: State, exchange: Exchange): string => {
  const { claims, net, processes, server } = state
  const { now } = server
  const tokens = new Set<number>([server.last])
  for (const one of server.holders) tokens.add(one.token)
  for (const claim of claims) {
    if (claim.base !== undefined) tokens.add(claim.base.floor)
    if (claim.phase === "held" || claim.phase === "confirming") tokens.add(claim.token)
  }
  for (const message of net) {
    if (
      (message.kind === "notification" || message.kind === "renew" || message.kind === "shrink") &&
      message.token !== undefined
    ) {
      tokens.add(message.token)
    }
    if ((message.kind === "acquire" || message.kind === "refresh") && message.reply !== undefined) {
      if (message.reply._tag === "Granted") tokens.add(message.reply.token)
      if (message.reply._tag === "Queued") tokens.add(message.reply.floor)
    }
  }
  const order = [...tokens].sort((a, b) => a - b)
  const rank = (token: number) => order.indexOf(token)
  const nameOf = (id: string) => idOf(exchange.numberOf[claimOf(id)]!, Number(id.slice(1)))
  const past = (at: number) => Math.min(now - at, world.ttl)
  let out = ""
  for (const one of server.holders) {
    out += `${nameOf(one.id)}${rank(one.token)}${one.expiry - now}${one.isLost === true ? "?" : "."}`
    if (one.moment !== undefined) out += `r${Math.max(0, one.moment - now)}`
    if (world.shrinks) out += `${one.permits},`
  }
  if (server.used !== Server.usedBy(server.holders)) out += `u${server.used}`
  out += `${server.foreign === undefined ? "" : server.foreign - now}${rank(server.last)}/`
  for (const { arrival, deadline, id, listening, parked } of server.queue) {
    const earlier = server.queue.filter((other) => other.arrival < arrival).length
    out += `${nameOf(id)}${earlier}${deadline - now}${listening ? "l" : "."}`
    if (parked) out += state.excused.includes(id) ? "p" : "P"
  }
  out += "/"
  for (const tombstone of server.tombstones) out += nameOf(tombstone.id)
  for (const index of exchange.processes) {
    const process = processes[index]!
    out += process.alive ? process.subscribed ? "s" : "u" : "x"
  }
  for (const index of exchange.claims) {
    const claim = claims[index]!
    out += `|${claim.phase.slice(0, 2)}${claim.generation}`
    switch (claim.phase) {
      case "asking":
      case "queued":
        out += `${claim.sent}${claim.unanswered}${past(claim.first)}`
        if (claim.base !== undefined) out += `b${past(claim.base.at)}${rank(claim.base.floor)}`
        break
      case "confirming":
      case "held":
        out += `${claim.unanswered}${rank(claim.token)}${Math.max(0, claim.deadline - now)}`
        break
      case "withdrawing":
        out += `${claim.tombstone ? "m" : ""}${claim.again ? "a" : ""}`
        break
    }
  }
  const messages = net.map((message) => {
    const head = message.kind.slice(0, 3) + nameOf(message.id)
    if (message.kind === "notification") return `${head}${message.token === undefined ? "" : rank(message.token)}`
    const sent = `${head}${past(message.at)}`
    const { reply } = message
    if (message.kind === "renew" || message.kind === "shrink") {
      return `${sent}${rank(message.token)}${message.reply ?? "?"}`
    }
    if (message.kind === "release") return `${sent}${message.tombstone ? "m" : ""}${reply === undefined ? "?" : "!"}`
    if (reply === undefined) return `${sent}?`
    const { _tag } = message.reply as Server.AcquireReply
    const number = message.reply?._tag === "Granted"
      ? rank(message.reply.token)
      : message.reply?._tag === "Queued"
      ? rank(message.reply.floor)
      : ""
    return `${sent}${_tag[0]}${_tag[1]}${number}`
  })
  return `${out}#${messages.sort().join(",")}`
}
