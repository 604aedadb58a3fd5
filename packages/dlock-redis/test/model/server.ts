/**
 * The server of the protocol as a value. It does what the scripts of `src/internal/protocol` do, under the same names,
 * but without keys and types. Time is in ticks. Expired data disappears as soon as the clock says so, because no script
 * sees it.
 *
 * `Flaws` remove a rule on purpose, to show that the explorer finds the fault which the rule prevents.
 */

export interface Waiter {
  readonly id: string
  readonly inbox: string
  readonly deadline: number
  readonly guard: number
  readonly permits: number
  readonly capacity: number
  readonly listening: boolean
  /** Its number in the order of arrival, which it keeps. */
  readonly arrival: number
  /** Whether it was passed over since it last asked. */
  readonly parked: boolean
}

export interface Holder {
  readonly id: string
  readonly token: number
  readonly permits: number
  readonly capacity: number
  readonly expiry: number
}

export interface Server {
  readonly now: number
  /** The last token, or 0 if it is lost. */
  readonly last: number
  /**
   * The server's clock in microseconds. No token below it is granted. It stays at 0 in a search that must not
   * distinguish moments: tokens then only count up, and a lost token is not forgotten.
   */
  readonly micros: number
  /** When the key of a foreign client expires. */
  readonly foreign: number | undefined
  readonly holders: ReadonlyArray<Holder>
  /** In order of arrival, with the parked waiters. */
  readonly queue: ReadonlyArray<Waiter>
  readonly tombstones: ReadonlyArray<{ readonly id: string; readonly until: number }>
}

export interface Notification {
  readonly inbox: string
  readonly id: string
  /** `undefined` for a wake-up. */
  readonly token: number | undefined
}

export interface Step<Reply> {
  readonly server: Server
  readonly reply: Reply
  readonly notifications: ReadonlyArray<Notification>
  readonly grants: ReadonlyArray<string>
}

/** How many clients listen on an inbox, or `undefined` if the server does not tell. */
export type Subscribers = (inbox: string) => number | undefined

export interface Flaws {
  /** F2: a repeated acquire of the holder is answered without extending the lock. */
  readonly keepsExpiry?: boolean
  /** F5: a repeated acquire adds another waiter. */
  readonly appendsTwice?: boolean
  /** F6: a waiter that does not listen loses its place. */
  readonly skipsForGood?: boolean
  /** F7: a refresh creates a waiter that does not exist. */
  readonly refreshCreates?: boolean
  /** R3: a parked waiter that asks again returns behind all others. */
  readonly returnsToEnd?: boolean
  /** R3: a parked waiter that asks again stays parked. */
  readonly staysParked?: boolean
  /** R3: a release does not find parked waiters. */
  readonly missesParked?: boolean
}

export interface Situation {
  readonly length: number
  readonly holder: string | undefined
  readonly remaining: number
}

export type ClaimReply =
  | { readonly _tag: "Granted"; readonly token: number }
  | Situation & { readonly _tag: "Queued"; readonly floor: number; readonly place: number }
  | { readonly _tag: "Gone" }

export type AcquireReply =
  | ClaimReply
  | Situation & { readonly _tag: "Busy" }
  | { readonly _tag: "Mismatch" }
  | { readonly _tag: "Cancelled" }

export type RenewReply = "ok" | "expired" | "replaced"

export type ReleaseReply = { readonly _tag: "Released" } | Situation & { readonly _tag: "Cancelled" | "NotHeld" }

export const empty: Server = { now: 0, micros: 0, last: 0, foreign: undefined, holders: [], queue: [], tombstones: [] }

/** A lock while one script runs on it. */
interface Draft {
  readonly now: number
  readonly micros: number
  last: number
  readonly foreign: number | undefined
  holders: Array<Holder>
  queue: Array<Waiter>
  tombstones: ReadonlyArray<{ readonly id: string; readonly until: number }>
  readonly notifications: Array<Notification>
  readonly grants: Array<string>
}

const state = (server: Server): Draft => ({
  now: server.now,
  micros: server.micros,
  last: server.last,
  foreign: server.foreign,
  holders: [...server.holders],
  queue: [...server.queue],
  tombstones: server.tombstones,
  notifications: [],
  grants: []
})

const done = <Reply>(draft: Draft, reply: Reply): Step<Reply> => ({
  server: {
    now: draft.now,
    micros: draft.micros,
    last: draft.last,
    foreign: draft.foreign,
    holders: draft.holders,
    queue: draft.queue,
    tombstones: draft.tombstones
  },
  reply,
  notifications: draft.notifications,
  grants: draft.grants
})

const drop = (draft: Draft, id: string): void => {
  const index = draft.queue.findIndex((waiter) => waiter.id === id)
  if (index >= 0) draft.queue.splice(index, 1)
}

const held = (draft: Draft, id: string): Holder | undefined => draft.holders.find((one) => one.id === id)

const findWaiter = (draft: Draft, id: string): Waiter | undefined => draft.queue.find((waiter) => waiter.id === id)

const inQueue = (draft: Draft): ReadonlyArray<Waiter> => draft.queue.filter(({ parked }) => !parked)

/** Returns a waiter that asked again to its place, also from where it was parked. */
const saveWaiter = (draft: Draft, before: Waiter, now: Omit<Waiter, "arrival" | "parked">, flaws: Flaws): void => {
  const waiter = { ...now, arrival: before.arrival, parked: before.parked && flaws.staysParked === true }
  const index = draft.queue.indexOf(before)
  draft.queue.splice(index, 1)
  draft.queue.splice(before.parked && flaws.returnsToEnd === true ? draft.queue.length : index, 0, waiter)
}

const append = (draft: Draft, waiter: Omit<Waiter, "arrival" | "parked">): void => {
  const arrival = Math.max(0, ...draft.queue.map((other) => other.arrival)) + 1
  draft.queue.push({ ...waiter, arrival, parked: false })
}

const currentHolder = (draft: Draft): Situation => {
  const { length } = inQueue(draft)
  if (draft.foreign !== undefined) {
    return { length, holder: "foreign", remaining: draft.foreign - draft.now }
  }
  const [first] = [...draft.holders].sort((a, b) => a.expiry - b.expiry)
  return {
    length,
    holder: first?.id,
    remaining: first === undefined ? 0 : first.expiry - draft.now
  }
}

/** Never shortens. */
const extend = (draft: Draft, id: string, time: number): number | undefined => {
  const one = held(draft, id)
  if (one === undefined) return undefined
  const expiry = Math.max(one.expiry, draft.now + time)
  draft.holders = draft.holders.map((other) => other === one ? { ...one, expiry } : other)
  return one.token
}

/**
 * The lock expires at the waiter's deadline plus its guard gap. A grant does not extend what the waiter was promised.
 */
const grant = (draft: Draft, waiter: Waiter, asking: ReadonlyArray<string>): void => {
  const { capacity, deadline, guard, id, inbox, permits } = waiter
  draft.last = Math.max(draft.last + 1, draft.micros)
  drop(draft, id)
  draft.holders.push({ id, token: draft.last, permits, capacity, expiry: deadline + guard })
  draft.grants.push(id)
  if (!asking.includes(id)) draft.notifications.push({ inbox, id, token: draft.last })
}

const fits = (draft: Draft, waiter: Waiter): boolean =>
  draft.foreign === undefined &&
  draft.holders.reduce((sum, one) => sum + one.permits, 0) + waiter.permits <= waiter.capacity

const nextUp = (
  draft: Draft,
  subscribers: Subscribers,
  asking: ReadonlyArray<string>,
  flaws: Flaws
): Waiter | undefined => {
  for (const waiter of inQueue(draft)) {
    if (!fits(draft, waiter)) return undefined
    if (asking.includes(waiter.id) || !waiter.listening || subscribers(waiter.inbox) !== 0) return waiter
    if (flaws.skipsForGood === true) drop(draft, waiter.id)
    else draft.queue[draft.queue.indexOf(waiter)] = { ...waiter, parked: true }
  }
  return undefined
}

const promote = (draft: Draft, subscribers: Subscribers, asking: ReadonlyArray<string>, flaws: Flaws): void => {
  for (
    let waiter = nextUp(draft, subscribers, asking, flaws);
    waiter !== undefined;
    waiter = nextUp(draft, subscribers, asking, flaws)
  ) grant(draft, waiter, asking)
}

const answer = (draft: Draft, id: string): ClaimReply => {
  const mine = held(draft, id)
  if (mine !== undefined) return { _tag: "Granted", token: mine.token }
  const place = inQueue(draft).findIndex((waiter) => waiter.id === id)
  return { _tag: "Queued", floor: draft.last || Math.max(0, draft.micros - 1), place, ...currentHolder(draft) }
}

const capacityInUse = (draft: Draft): number | undefined =>
  draft.holders[0]?.capacity ?? draft.queue[0]?.capacity ?? (draft.foreign === undefined ? undefined : 1)

export interface AcquireArgs {
  readonly id: string
  readonly inbox: string
  readonly ttl: number
  readonly guard: number
  readonly permits: number
  readonly capacity: number
  readonly mode: "queue" | "try"
}

export const acquire = (
  server: Server,
  { capacity, guard, id, inbox, mode, permits, ttl }: AcquireArgs,
  subscribers: Subscribers,
  flaws: Flaws = {}
): Step<AcquireReply> => {
  const draft = state(server)
  if (draft.tombstones.some((tombstone) => tombstone.id === id)) return done(draft, { _tag: "Cancelled" })
  const inUse = capacityInUse(draft)
  if (inUse !== undefined && inUse !== capacity) return done(draft, { _tag: "Mismatch" })

  const token = extend(draft, id, flaws.keepsExpiry === true ? 0 : ttl + guard)
  if (token !== undefined) return done(draft, { _tag: "Granted", token })

  const listening = (subscribers(inbox) ?? 0) > 0
  const waiter = { id, inbox, deadline: draft.now + ttl, guard, permits, capacity, listening }
  const mine = findWaiter(draft, id)
  if (mine !== undefined && flaws.appendsTwice !== true) saveWaiter(draft, mine, waiter, flaws)
  else append(draft, waiter)
  promote(draft, subscribers, [id], flaws)
  const reply = answer(draft, id)
  if (reply._tag !== "Queued" || mode === "queue") return done(draft, reply)
  drop(draft, id)
  return done(draft, { _tag: "Busy", ...currentHolder(draft) })
}

export interface RefreshArgs {
  readonly inbox: string
  readonly claims: ReadonlyArray<{ readonly id: string; readonly ttl: number; readonly guard: number }>
}

export const refresh = (
  server: Server,
  { claims, inbox }: RefreshArgs,
  subscribers: Subscribers,
  flaws: Flaws = {}
): Step<ReadonlyArray<ClaimReply>> => {
  const draft = state(server)
  const listening = (subscribers(inbox) ?? 0) > 0
  const replies = new Map<string, ClaimReply>()
  const asking: Array<string> = []
  for (const { guard, id, ttl } of claims) {
    const token = extend(draft, id, ttl + guard)
    const mine = findWaiter(draft, id)
    if (token !== undefined) {
      replies.set(id, { _tag: "Granted", token })
    } else if (mine !== undefined) {
      saveWaiter(draft, mine, { ...mine, inbox, deadline: draft.now + ttl, guard, listening }, flaws)
      asking.push(id)
    } else if (flaws.refreshCreates === true) {
      append(draft, { id, inbox, deadline: draft.now + ttl, guard, permits: 1, capacity: 1, listening })
      asking.push(id)
    } else {
      replies.set(id, { _tag: "Gone" })
    }
  }
  promote(draft, subscribers, asking, flaws)
  return done(draft, claims.map(({ id }) => replies.get(id) ?? answer(draft, id)))
}

/** Whether the holder with this token holds the lock alone, in the string key. */
export const hasHolder = ({ foreign, holders, now }: Server, token: number): boolean =>
  foreign === undefined && holders.some((one) => one.capacity === 1 && one.token === token && one.expiry > now)

export interface RenewArgs {
  readonly id: string
  readonly token: number
  readonly ttl: number
  readonly guard: number
  readonly capacity: number
}

export const renew = (server: Server, { capacity, guard, id, token, ttl }: RenewArgs): Step<RenewReply> => {
  const draft = state(server)
  if (held(draft, id)?.token === token) {
    extend(draft, id, ttl + guard)
    return done(draft, "ok")
  }
  // The string key names one holder, so another holder is found there. Shared holders do not exclude each other.
  const other = capacity === 1 && (draft.foreign !== undefined || draft.holders.some((one) => one.capacity === 1))
  return done(draft, other || held(draft, id) !== undefined ? "replaced" : "expired")
}

export interface ReleaseArgs {
  readonly id: string
  readonly tombstone: boolean
  readonly interop: boolean
}

export const release = (
  server: Server,
  { id, interop, tombstone }: ReleaseArgs,
  tombstoneTtl: number,
  subscribers: Subscribers,
  flaws: Flaws = {}
): Step<ReleaseReply> => {
  const draft = state(server)
  const mine = findWaiter(draft, id)
  if (tombstone) {
    draft.tombstones = [...draft.tombstones.filter((one) => one.id !== id), { id, until: draft.now + tombstoneTtl }]
  }
  if (mine?.parked !== true || flaws.missesParked !== true) drop(draft, id)
  const released = held(draft, id) !== undefined
  draft.holders = draft.holders.filter((one) => one.id !== id)
  const next = nextUp(draft, subscribers, [], flaws)
  if (interop && next?.capacity === 1) {
    draft.notifications.push({ inbox: next.inbox, id: next.id, token: undefined })
  } else {
    promote(draft, subscribers, [], flaws)
  }
  if (released) return done(draft, { _tag: "Released" })
  return done(draft, { _tag: mine !== undefined || tombstone ? "Cancelled" : "NotHeld", ...currentHolder(draft) })
}

/** Time passes: expired holders, dead waiters and tombstones disappear. */
export const advance = (server: Server, ticks: number): Server => {
  const now = server.now + ticks
  return {
    now,
    micros: server.micros,
    last: server.last,
    foreign: server.foreign !== undefined && server.foreign > now ? server.foreign : undefined,
    holders: server.holders.filter((one) => one.expiry > now),
    queue: server.queue.filter((waiter) => waiter.deadline > now),
    tombstones: server.tombstones.filter((tombstone) => tombstone.until > now)
  }
}

/** `SET NX PX` by another client on the lock's key, without `PX` if `expiry` is infinite. */
export const foreignSet = (server: Server, expiry: number): Server =>
  server.foreign !== undefined || server.holders.some((one) => one.capacity === 1)
    ? server
    : { ...server, foreign: expiry }

/** `DEL` by the client that set the key. */
export const foreignDel = (server: Server): Server => ({ ...server, foreign: undefined })

/** All data disappears. Tokens continue by the server's clock. */
export const flush = (server: Server): Server => ({
  ...empty,
  now: server.now,
  micros: server.micros,
  last: server.micros > 0 ? 0 : server.last
})
