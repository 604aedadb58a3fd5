/**
 * A small world of two locks and callers that want both: each asks for its two claims in one request. Every message may
 * be held, reordered or lost, a caller may be deaf to notifications, an entry may be evicted from a queue, and replicas may
 * lack a grant.
 *
 * A caller enters when both claims are granted. When one claim turns out to be gone, or its time is over, before that, it
 * withdraws both and asks anew under new ids.
 */
import * as Server from "./server.ts"

export interface GroupsConfig {
  readonly name: string
  readonly callers: ReadonlyArray<{
    readonly mode?: "queue" | "try"
    /** It does not listen when it asks, and never hears of a grant. */
    readonly isDeaf?: boolean
    /** It asks for its claims in this order. */
    readonly order?: readonly [number, number]
  }>
  /** How often a caller asks under one pair of ids. */
  readonly sends?: number
  /** How many pairs of ids a caller uses. */
  readonly attempts?: number
  /** An operator or an eviction removes an entry from a queue. */
  readonly evicts?: boolean
  /** A grant counts when the replicas have it, and at any moment they may not. */
  readonly replicas?: boolean
  readonly loss?: boolean
  readonly cuts?: boolean
  readonly ticks?: boolean
  readonly flaws?: Server.Flaws & {
    /** A claim that has gone is asked for again alone, under a new id. */
    readonly asksAgainAlone?: boolean
    /** After a refusal or a loss one of the claims is not withdrawn. */
    readonly keepsPart?: boolean
    /** The two claims are asked for one after the other. */
    readonly asksOneByOne?: boolean
  }
}

interface Member {
  readonly id: string
  readonly phase: "new" | "queued" | "confirming" | "granted" | "leaving" | "left"
  readonly deadline: number
}

interface Caller {
  /** `over`: it has ended and both claims have left. */
  readonly phase: "idle" | "waiting" | "inside" | "leaving" | "over"
  readonly attempt: number
  readonly sent: number
  readonly unanswered: number
  /** It asks anew once both claims have left. */
  readonly again: boolean
  /** By lock. */
  readonly members: readonly [Member, Member]
}

type Message =
  | {
    readonly kind: "ask"
    readonly caller: number
    readonly attempt: number
    readonly at: number
    readonly reply: Server.AcquireAllReply | undefined
    /** By lock, the claims that it is about. */
    readonly ids: readonly [string | undefined, string | undefined]
  }
  | {
    readonly kind: "refresh"
    readonly caller: number
    readonly lock: number
    readonly id: string
    readonly at: number
    readonly reply: Server.ClaimReply | undefined
  }
  | {
    readonly kind: "release"
    readonly caller: number
    readonly lock: number
    readonly id: string
    readonly tombstone: boolean
    readonly isDone: boolean
  }
  | { readonly kind: "notification"; readonly caller: number; readonly lock: number; readonly id: string }

export interface GroupsState {
  readonly servers: readonly [Server.Server, Server.Server]
  readonly callers: ReadonlyArray<Caller>
  readonly listening: ReadonlyArray<boolean>
  readonly net: ReadonlyArray<Message>
}

interface Move {
  readonly name: string
  readonly state: GroupsState
}

type World = Required<Omit<GroupsConfig, "name" | "flaws">> & { readonly flaws: NonNullable<GroupsConfig["flaws"]> }

const ttl = 2

const worldOf = ({ flaws = {}, ...config }: GroupsConfig): World => ({
  sends: 1,
  attempts: 2,
  evicts: false,
  replicas: false,
  loss: false,
  cuts: false,
  ticks: false,
  ...config,
  flaws
})

const newMember = (caller: number, lock: number, attempt: number): Member => ({
  id: `${"abcd"[caller]}${lock}${attempt}`,
  phase: "new",
  deadline: 0
})

const membersOf = (caller: number, attempt: number): Caller["members"] => [
  newMember(caller, 0, attempt),
  newMember(caller, 1, attempt)
]

const initial = ({ callers }: World): GroupsState => ({
  servers: [Server.empty, Server.empty],
  callers: callers.map((_, index) => ({
    phase: "idle",
    attempt: 0,
    sent: 0,
    unanswered: 0,
    again: false,
    members: membersOf(index, 0)
  })),
  listening: callers.map(({ isDeaf }) => isDeaf !== true),
  net: []
})

const set = <A>(list: ReadonlyArray<A>, index: number, value: A): ReadonlyArray<A> =>
  list.map((one, at) => at === index ? value : one)

const withCaller = (state: GroupsState, index: number, change: Partial<Caller>): GroupsState => ({
  ...state,
  callers: set(state.callers, index, { ...state.callers[index]!, ...change })
})

const withMember = (state: GroupsState, index: number, lock: number, change: Partial<Member>): GroupsState => {
  const { members } = state.callers[index]!
  const changed = members.map((one, at) => at === lock ? { ...one, ...change } : one) as unknown as Caller["members"]
  return withCaller(state, index, { members: changed })
}

const send = (state: GroupsState, message: Message): GroupsState => ({ ...state, net: [...state.net, message] })
const without = (state: GroupsState, message: Message): GroupsState => ({
  ...state,
  net: state.net.filter((one) => one !== message)
})

/** Withdraws all claims of a caller. */
const leave = (world: World, state: GroupsState, index: number, again: boolean): GroupsState => {
  const { attempt, members, unanswered } = state.callers[index]!
  let next = withCaller(state, index, { phase: "leaving", again: again && attempt + 1 < world.attempts })
  members.forEach((member, lock) => {
    if (member.phase === "leaving" || member.phase === "left") return
    if (world.flaws.keepsPart === true && lock === 0) {
      next = withMember(next, index, lock, { phase: "left" })
      return
    }
    next = withMember(next, index, lock, { phase: "leaving" })
    const { id } = member
    next = send(next, { kind: "release", caller: index, lock, id, tombstone: unanswered > 0, isDone: false })
  })
  return next
}

/** Enters once both claims are there in time, or gives up if one is over before that. */
const check = (world: World, state: GroupsState, index: number): GroupsState => {
  const { members, phase } = state.callers[index]!
  if (phase !== "waiting") return state
  const { now } = state.servers[0]
  const isOver = members.some((one) => (one.phase === "granted" || one.phase === "confirming") && one.deadline <= now)
  if (isOver) return leave(world, state, index, true)
  return members.every((one) => one.phase === "granted") ? withCaller(state, index, { phase: "inside" }) : state
}

const grant = (world: World, state: GroupsState, index: number, lock: number, at: number): GroupsState => {
  const { members, phase } = state.callers[index]!
  if (phase !== "waiting" || members[lock]!.phase === "granted") return state
  const granted = withMember(state, index, lock, {
    phase: world.replicas ? "confirming" : "granted",
    deadline: at + ttl
  })
  return check(world, granted, index)
}

const gone = (world: World, state: GroupsState, index: number, lock: number): GroupsState => {
  const { attempt, phase } = state.callers[index]!
  if (phase !== "waiting") return state
  if (world.flaws.asksAgainAlone !== true || attempt + 1 >= world.attempts) return leave(world, state, index, true)
  // Only this claim gets a new id, and comes back behind all others.
  const member = { ...newMember(index, lock, attempt + 1), phase: "queued" as const }
  const ids: [string | undefined, string | undefined] = [undefined, undefined]
  ids[lock] = member.id
  const next = withMember(withCaller(state, index, { attempt: attempt + 1 }), index, lock, member)
  return send(next, {
    kind: "ask",
    caller: index,
    attempt: attempt + 1,
    at: state.servers[0].now,
    reply: undefined,
    ids
  })
}

const subscribersOf = ({ listening }: GroupsState): Server.Subscribers => (inbox) => listening[Number(inbox)] ? 1 : 0

/** Takes what a script has done to one lock, and sends its notifications. */
const apply = (state: GroupsState, lock: number, step: Server.Step<unknown>): GroupsState => {
  const servers = set(state.servers, lock, step.server) as unknown as GroupsState["servers"]
  let next = { ...state, servers }
  for (const { id, inbox } of step.notifications) {
    const caller = Number(inbox)
    if (state.listening[caller] === true) next = send(next, { kind: "notification", caller, lock, id })
  }
  return next
}

const execute = (world: World, state: GroupsState, message: Message): GroupsState => {
  const subscribers = subscribersOf(state)
  const inbox = String(message.caller)
  const base = without(state, message)
  switch (message.kind) {
    case "ask": {
      const { mode = "queue", order = [0, 1] } = world.callers[message.caller]!
      const locks = order.filter((lock) => message.ids[lock] !== undefined)
      const claims = locks.map((lock) => ({
        id: message.ids[lock]!,
        ttl,
        guard: 0,
        kind: "mutex" as const,
        permits: 1,
        capacity: 1
      }))
      const servers = locks.map((lock) => state.servers[lock]!)
      const { reply, steps } = Server.acquireAll(servers, { inbox, mode, claims }, subscribers, world.flaws)
      let next = base
      steps.forEach((step, nth) => (next = apply(next, locks[nth]!, step)))
      return send(next, { ...message, reply })
    }
    case "refresh": {
      const args = { inbox, claims: [{ id: message.id, ttl, guard: 0 }] }
      const step = Server.refresh(state.servers[message.lock]!, args, subscribers, world.flaws)
      return send(apply(base, message.lock, step), { ...message, reply: step.reply[0] })
    }
    case "release": {
      const { id, lock, tombstone } = message
      const args = { id, tombstone, interop: false }
      const step = Server.release(state.servers[lock]!, args, Infinity, subscribers, world.flaws)
      return send(apply(base, lock, step), { ...message, isDone: true })
    }
    case "notification":
      throw new Error("a notification is not a request")
  }
}

const deliver = (world: World, state: GroupsState, message: Message): GroupsState => {
  const next = without(state, message)
  const index = message.caller
  const caller = state.callers[index]!
  const isOurs = (lock: number, id: string): boolean => caller.members[lock]!.id === id
  switch (message.kind) {
    case "ask": {
      if (message.attempt !== caller.attempt) return next
      const heard = withCaller(next, index, { unanswered: caller.unanswered - 1 })
      const { reply } = message
      if (caller.phase !== "waiting" || reply === undefined) return heard
      if (!("claims" in reply)) return leave(world, heard, index, true)
      if (reply._tag === "Refused") return leave(world, heard, index, false)
      const { order = [0, 1] } = world.callers[index]!
      const locks = order.filter((lock) => message.ids[lock] !== undefined)
      let after = heard
      reply.claims.forEach((one, nth) => {
        const lock = locks[nth]!
        if (one._tag === "Granted") after = grant(world, after, index, lock, message.at)
        else if (one._tag === "Gone") after = gone(world, after, index, lock)
        else if (after.callers[index]!.members[lock]!.phase === "new") {
          after = withMember(after, index, lock, { phase: "queued" })
        }
      })
      return after
    }
    case "refresh": {
      const { at, id, lock, reply } = message
      if (!isOurs(lock, id) || reply === undefined) return next
      if (reply._tag === "Granted") return grant(world, next, index, lock, at)
      return reply._tag === "Gone" ? gone(world, next, index, lock) : next
    }
    case "release": {
      if (!isOurs(message.lock, message.id)) return next
      const left = withMember(next, index, message.lock, { phase: "left" })
      const { again, attempt, members } = left.callers[index]!
      if (members.some(({ phase }) => phase !== "left")) return left
      return again
        ? withCaller(left, index, {
          phase: "idle",
          attempt: attempt + 1,
          sent: 0,
          unanswered: 0,
          again: false,
          members: membersOf(index, attempt + 1)
        })
        : withCaller(left, index, { phase: "over" })
    }
    case "notification": {
      const { id, lock } = message
      if (!isOurs(lock, id)) return next
      // It proves nothing about now, so the claim asks.
      return refresh(next, index, lock) ?? next
    }
  }
}

const refresh = (state: GroupsState, caller: number, lock: number): GroupsState | undefined => {
  const { members, phase } = state.callers[caller]!
  const { id, phase: its } = members[lock]!
  const isWaiting = phase === "waiting" && its === "queued"
  if (!isWaiting || state.net.some((one) => one.kind === "refresh" && one.id === id)) return undefined
  return send(state, { kind: "refresh", caller, lock, id, at: state.servers[0].now, reply: undefined })
}

const ask = (world: World, state: GroupsState, index: number): GroupsState | undefined => {
  const { attempt, members, sent, unanswered } = state.callers[index]!
  if (sent >= world.sends) return undefined
  const at = state.servers[0].now
  const next = withCaller(state, index, {
    phase: "waiting",
    sent: sent + 1,
    unanswered: unanswered + (world.flaws.asksOneByOne === true ? 2 : 1)
  })
  const { order = [0, 1] } = world.callers[index]!
  const request = (locks: ReadonlyArray<number>): Message => ({
    kind: "ask",
    caller: index,
    attempt,
    at,
    reply: undefined,
    ids: [locks.includes(0) ? members[0].id : undefined, locks.includes(1) ? members[1].id : undefined]
  })
  return world.flaws.asksOneByOne === true
    ? send(send(next, request([order[0]])), request([order[1]]))
    : send(next, request(order))
}

const isRequest = (message: Message): boolean =>
  message.kind === "release" ? !message.isDone : message.kind !== "notification" && message.reply === undefined

/** Everything that may happen next. */
const moves = (world: World, state: GroupsState): ReadonlyArray<Move> => {
  const out: Array<Move> = []
  const add = (name: string, next: GroupsState | undefined): void => {
    if (next !== undefined) out.push({ name, state: next })
  }
  state.callers.forEach(({ members, phase }, index) => {
    const name = "abcd"[index]!
    if (phase === "idle") add(`${name} asks`, ask(world, state, index))
    if (phase === "waiting") {
      add(`${name} asks again`, ask(world, state, index))
      add(`${name} gives up`, leave(world, state, index, false))
      members.forEach((member, lock) => {
        add(`${name} refreshes ${lock}`, refresh(state, index, lock))
        if (member.phase !== "confirming") return
        add(`${name} is confirmed ${lock}`, check(world, withMember(state, index, lock, { phase: "granted" }), index))
        add(`${name} has too few replicas ${lock}`, gone(world, state, index, lock))
      })
    }
    if (phase === "inside") add(`${name} leaves`, leave(world, state, index, false))
    if (world.cuts && !world.callers[index]!.isDeaf) {
      const listening = set(state.listening, index, !state.listening[index]!)
      add(`${name} ${state.listening[index]! ? "is cut off" : "listens"}`, { ...state, listening })
    }
  })
  for (const message of state.net) {
    const name = `${message.kind} of ${"abcd"[message.caller]}`
    if (isRequest(message)) add(`run ${name}`, execute(world, state, message))
    else add(`hear ${name}`, deliver(world, state, message))
    if (world.loss && message.kind !== "release") add(`lost: ${name}`, without(state, message))
  }
  if (world.evicts) {
    state.servers.forEach((server, lock) => {
      for (const { id } of server.queue) {
        const queue = server.queue.filter((one) => one.id !== id)
        const servers = set(state.servers, lock, { ...server, queue }) as unknown as GroupsState["servers"]
        add(`evict ${id}`, { ...state, servers })
      }
    })
  }
  if (world.ticks) add("tick", tick(world, state))
  return out
}

const tick = (world: World, state: GroupsState): GroupsState => {
  const servers = state.servers.map((server) => Server.advance(server, 1)) as unknown as GroupsState["servers"]
  // A request is not executed later than a ttl after it was sent, and its caller renews what it has while it is awake.
  const net = state.net.filter((one) =>
    one.kind === "release" || one.kind === "notification" || !isRequest(one) || servers[0].now - one.at <= ttl
  )
  let next: GroupsState = { ...state, servers, net }
  state.callers.forEach((_, index) => (next = check(world, next, index)))
  return next
}

/** By lock, the claims in the order of arrival: holders, then waiters. */
const orderOf = ({ holders, queue }: Server.Server): ReadonlyArray<string> => [
  ...holders.map(({ id }) => id),
  ...queue.toSorted((a, b) => a.arrival - b.arrival).map(({ id }) => id)
]

/** The safety promise that a state breaks, if any. */
const broken = (state: GroupsState): string | undefined => {
  const { now } = state.servers[0]
  for (const { holders } of state.servers) if (holders.length > 1) return "S1: two holders of a mutex"
  const inside = state.callers.filter(({ members, phase }) =>
    phase === "inside" && members.every(({ deadline }) => now < deadline)
  )
  if (inside.length > 1) return "S1: two callers inside"
  for (const { members, phase } of state.callers) {
    members.forEach(({ id }, lock) => {
      const stays = orderOf(state.servers[lock]!).includes(id)
      if (phase === "over" && stays) throw new Left(`S4: ${id} is left`)
    })
  }
  // Two callers that wait stand in the same order wherever both stand: otherwise each would wait for the other.
  const waiting = state.callers.filter(({ phase }) => phase === "waiting")
  for (const one of waiting) {
    for (const other of waiting) {
      if (one === other) continue
      const before = state.servers.map((server, lock): boolean | undefined => {
        const order = orderOf(server)
        const [mine, its] = [order.indexOf(one.members[lock]!.id), order.indexOf(other.members[lock]!.id)]
        return mine < 0 || its < 0 ? undefined : mine < its
      })
      if (before[0] !== undefined && before[1] !== undefined && before[0] !== before[1]) {
        return `S5: ${one.members[0].id} and ${other.members[0].id} wait for each other`
      }
    }
  }
  return undefined
}

class Left extends Error {}

const whatIsBroken = (state: GroupsState): string | undefined => {
  try {
    return broken(state)
  } catch (error) {
    if (error instanceof Left) return error.message
    throw error
  }
}

/** From this state on nothing goes wrong, and one fair schedule runs: every caller that waits gets in, and nothing is left. */
const progress = (world: World, state: GroupsState): string | undefined => {
  const calm: World = { ...world, sends: Infinity, attempts: Infinity, evicts: false, loss: false, cuts: false }
  const wanted = new Set<number>()
  state.callers.forEach(({ phase }, index) => {
    if (phase === "waiting" && (world.callers[index]!.mode ?? "queue") === "queue") wanted.add(index)
  })
  let next = state
  for (let round = 0; round < 12; round++) {
    for (let step = 0; step < 400; step++) {
      next.callers.forEach(({ phase }, index) => {
        if (phase === "inside") wanted.delete(index)
      })
      const message = next.net[0]
      if (message !== undefined) {
        next = isRequest(message) ? execute(calm, next, message) : deliver(calm, next, message)
        continue
      }
      const move = moves(calm, next).find(({ name }) =>
        / leaves$| is confirmed \d$/.test(name) || (name.endsWith(" asks") && wanted.has("abcd".indexOf(name[0]!)))
      )
      if (move === undefined) break
      next = move.state
    }
    if (wanted.size === 0) return undefined
    // The callers that wait ask for their state, and those that hold a part renew it.
    for (const [index, { members, phase }] of next.callers.entries()) {
      if (phase !== "waiting") continue
      members.forEach((_, lock) => (next = refresh(next, index, lock) ?? next))
      const renewed = ask(calm, next, index)
      if (renewed !== undefined) next = renewed
    }
    while (next.net.length > 0) {
      const message = next.net[0]!
      next = isRequest(message) ? execute(calm, next, message) : deliver(calm, next, message)
    }
    next = tick(calm, next)
  }
  return `L1: ${[...wanted].map((index) => "abcd"[index]).join()} never gets in`
}

/** States that differ in nothing relevant have one key: times count from now, and tokens do not matter here. */
const keyOf = ({ callers, listening, net, servers }: GroupsState): string => {
  const { now } = servers[0]
  const past = (at: number): number => Math.min(now - at, ttl)
  return JSON.stringify([
    servers.map(({ holders, queue, tombstones }) => [
      holders.map(({ expiry, id }) => [id, expiry - now]),
      queue.toSorted((a, b) => a.arrival - b.arrival).map(({ deadline, id, listening, parked }) => [
        id,
        deadline - now,
        listening,
        parked
      ]),
      tombstones.map(({ id }) => id).sort()
    ]),
    callers.map(({ again, attempt, members, phase, sent, unanswered }) => [
      phase,
      attempt,
      sent,
      unanswered,
      again,
      members.map((one) => [one.id, one.phase, Math.max(0, one.deadline - now)])
    ]),
    listening,
    net.map((message) => {
      switch (message.kind) {
        case "ask":
          return ["a", message.caller, message.attempt, past(message.at), message.ids, summary(message.reply)]
        case "refresh":
          return ["r", message.id, past(message.at), message.reply?._tag]
        case "release":
          return ["w", message.id, message.tombstone, message.isDone]
        case "notification":
          return ["n", message.id]
      }
    }).map((one) => JSON.stringify(one)).sort()
  ])
}

const summary = (reply: Server.AcquireAllReply | undefined): unknown =>
  reply === undefined ? undefined : "claims" in reply ? reply.claims.map((one) => one?._tag) : reply._tag

export interface GroupsResult {
  readonly states: number
  readonly whole: boolean
  readonly sampled: number
  readonly found: { readonly what: string; readonly trace: ReadonlyArray<string> } | undefined
}

interface Node {
  readonly state: GroupsState
  readonly name: string
  readonly parent: Node | undefined
}

/** Searches all states within the limits. Progress is checked from one in `sample` states. */
export const exploreGroups = (
  config: GroupsConfig,
  limits: { readonly states: number; readonly sample: number }
): GroupsResult => {
  const world = worldOf(config)
  const start = initial(world)
  const seen = new Set([keyOf(start)])
  let layer: Array<Node> = [{ state: start, name: "", parent: undefined }]
  let sampled = 0
  const traceOf = (node: Node | undefined): ReadonlyArray<string> =>
    node === undefined || node.parent === undefined ? [] : [...traceOf(node.parent), node.name]
  while (layer.length > 0) {
    const next: Array<Node> = []
    for (const node of layer) {
      for (const { name, state } of moves(world, node.state)) {
        const child = { state, name, parent: node }
        const key = keyOf(state)
        if (seen.has(key)) continue
        seen.add(key)
        let what = whatIsBroken(state)
        if (what === undefined && limits.sample > 0 && seen.size % limits.sample === 0) {
          sampled++
          what = progress(world, state)
        }
        if (what !== undefined) {
          return { states: seen.size, whole: false, sampled, found: { what, trace: traceOf(child) } }
        }
        next.push(child)
      }
      if (seen.size >= limits.states) return { states: seen.size, whole: false, sampled, found: undefined }
    }
    layer = next
  }
  return { states: seen.size, whole: true, sampled, found: undefined }
}
