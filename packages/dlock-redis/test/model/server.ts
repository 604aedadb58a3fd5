/**
 * The server of the protocol as a value. It does what the scripts of `src/internal/protocol` do, under the same names,
 * but without keys and types. Time is in ticks. Expired data disappears as soon as the clock says so, because no script
 * sees it.
 *
 * `Flaws` remove a rule on purpose, to show that the explorer finds the fault which the rule prevents.
 */

export type Kind = "mutex" | "semaphore" | "readWrite"

export interface Waiter {
  readonly id: string
  readonly inbox: string
  readonly deadline: number
  readonly guard: number
  readonly kind: Kind
  readonly permits: number
  readonly capacity: number
  readonly listening: boolean
  /** Its number in the order of arrival, which it keeps. */
  readonly arrival: number
  /** Whether it was passed over since it last asked. */
  readonly parked: boolean
  /** Whether it was requested together with claims on other locks. Such a waiter is never passed over. */
  readonly isGrouped?: true
}

export interface Holder {
  readonly id: string
  readonly inbox: string
  readonly token: number
  readonly kind: Kind
  readonly permits: number
  readonly capacity: number
  readonly expiry: number
  /** Whether the server has lost what it has, and knows only when it expires. */
  readonly isLost?: true
  /** From when on it is never extended, because it was asked to leave. */
  readonly moment?: number
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
  /** The sum of the permits of the shared holders, as the server keeps it, or `undefined` if it is lost. */
  readonly used: number | undefined
  /** In order of arrival, with the parked waiters. */
  readonly queue: ReadonlyArray<Waiter>
  readonly tombstones: ReadonlyArray<{ readonly id: string; readonly until: number }>
}

export interface Notification {
  readonly inbox: string
  readonly id: string
  /** `undefined` for a wake-up. */
  readonly token: number | undefined
  /** Whether it says that others wait behind the claim. */
  readonly isContended: boolean
}

/** Tells the holders with this inbox that others wait behind them. */
export interface Ring {
  readonly inbox: string
  readonly ids: ReadonlyArray<string>
}

export interface Step<Reply> {
  readonly server: Server
  readonly reply: Reply
  readonly notifications: ReadonlyArray<Notification>
  readonly rings: ReadonlyArray<Ring>
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
  /** A release does not give permits back to the sum. */
  readonly keepsUsed?: boolean
  /** A grant counts only one permit, however many it is for. */
  readonly countsOne?: boolean
  /** The capacity of a claim rules, whatever the holders know. */
  readonly ignoresHolders?: boolean
  /** A claim that fits overtakes one that does not. */
  readonly overtakes?: boolean
  /** A shrink ends the claim and grants it again behind those who wait. */
  readonly shrinksAnew?: boolean
  /** Holders whose values are lost no longer count. */
  readonly forgetsLost?: boolean
  /** A claim of several is passed over like any other. */
  readonly passesGrouped?: boolean
  /** A repeated request for several locks enters the claims again that are missing. */
  readonly entersMissing?: boolean
  /** A try for several locks takes those that are free. */
  readonly takesPart?: boolean
  /** Holders are not told that a queue forms behind them. */
  readonly neverRings?: boolean
  /** Holders are told of claims that only try. */
  readonly ringsForTries?: boolean
  /** A renewal extends a claim whose holder had to leave. */
  readonly renewsRevoked?: boolean
  /** A repeated request extends such a claim. */
  readonly repeatsRevoked?: boolean
  /** A revocation lets the next claim in at once. */
  readonly revokesAtOnce?: boolean
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
  | { readonly _tag: "Revoked" }

export type AcquireReply =
  | ClaimReply
  | Situation & { readonly _tag: "Busy" }
  | { readonly _tag: "Mismatch"; readonly kind: Kind; readonly capacity: number }
  | { readonly _tag: "Cancelled" }

/** `asked` and `revoked`: it was asked to leave, and was extended or not. */
export type RenewReply = "ok" | "contended" | "expired" | "replaced" | "asked" | "revoked"

export type ReleaseReply = { readonly _tag: "Released" } | Situation & { readonly _tag: "Cancelled" | "NotHeld" }

export const empty: Server = {
  now: 0,
  micros: 0,
  last: 0,
  foreign: undefined,
  holders: [],
  used: 0,
  queue: [],
  tombstones: []
}

/** The sum of the permits of the shared holders of which the server knows them. */
export const usedBy = (holders: ReadonlyArray<Holder>): number =>
  holders.reduce((sum, { isLost, kind, permits }) => kind === "mutex" || isLost === true ? sum : sum + permits, 0)

/** A lock while one script runs on it. */
interface Draft {
  readonly now: number
  readonly micros: number
  last: number
  readonly foreign: number | undefined
  holders: Array<Holder>
  used: number
  queue: Array<Waiter>
  tombstones: ReadonlyArray<{ readonly id: string; readonly until: number }>
  readonly notifications: Array<Notification>
  readonly grants: Array<string>
  readonly rings: Array<Ring>
  /** Whether a claim came into an empty queue. */
  isForming: boolean
  /** How many notifications were complete at the latest `tellHolders`. */
  told: number
}

const state = (server: Server): Draft => ({
  now: server.now,
  micros: server.micros,
  last: server.last,
  foreign: server.foreign,
  holders: [...server.holders],
  used: server.used ?? usedBy(server.holders),
  queue: [...server.queue],
  tombstones: server.tombstones,
  notifications: [],
  grants: [],
  rings: [],
  isForming: false,
  told: 0
})

const done = <Reply>(draft: Draft, reply: Reply, flaws: Flaws = {}): Step<Reply> => {
  tellHolders(draft, flaws)
  return stepOf(draft, reply)
}

const stepOf = <Reply>(draft: Draft, reply: Reply): Step<Reply> => ({
  server: {
    now: draft.now,
    micros: draft.micros,
    last: draft.last,
    foreign: draft.foreign,
    holders: draft.holders,
    used: draft.holders.length === 0 ? 0 : draft.used,
    queue: draft.queue,
    tombstones: draft.tombstones
  },
  reply,
  notifications: draft.notifications,
  rings: draft.rings,
  grants: draft.grants
})

/** Whether a claim waits in the queue. Those that were passed over do not count. */
const hasQueue = (draft: Draft): boolean => inQueue(draft).length > 0

/** The same, after a step: then what it has granted is contended. */
export const isContended = ({ queue }: Server): boolean => queue.some(({ parked }) => !parked)

const tellHolders = (draft: Draft, flaws: Flaws): void => {
  const { isForming, told } = draft
  draft.isForming = false
  draft.told = draft.notifications.length
  if (!hasQueue(draft)) return
  for (let index = told; index < draft.notifications.length; index++) {
    const one = draft.notifications[index]!
    draft.notifications[index] = { ...one, isContended: one.token !== undefined }
  }
  if (isForming && flaws.neverRings !== true) ring(draft)
}

const ring = (draft: Draft): void => {
  const first = draft.holders.filter(({ isLost }) => isLost !== true).sort((a, b) => a.expiry - b.expiry).slice(
    0,
    mostTold
  )
  for (const [inbox, told] of Map.groupBy(first, (one) => one.inbox)) {
    draft.rings.push({ inbox, ids: told.map(({ id }) => id) })
  }
}

const mostTold = 64

const drop = (draft: Draft, id: string): void => {
  const index = draft.queue.findIndex((waiter) => waiter.id === id)
  if (index >= 0) draft.queue.splice(index, 1)
}

const held = (draft: Draft, id: string): Holder | undefined =>
  draft.holders.find((one) => one.id === id && one.isLost !== true)

const findWaiter = (draft: Draft, id: string): Waiter | undefined => draft.queue.find((waiter) => waiter.id === id)

const inQueue = (draft: Draft): ReadonlyArray<Waiter> => draft.queue.filter(({ parked }) => !parked)

/** Returns a waiter that asked again to its place, also from where it was parked. */
const saveWaiter = (draft: Draft, before: Waiter, now: Omit<Waiter, "arrival" | "parked">, flaws: Flaws): void => {
  const waiter = { ...now, arrival: before.arrival, parked: before.parked && flaws.staysParked === true }
  if (before.parked && !waiter.parked && !hasQueue(draft)) draft.isForming = true
  const index = draft.queue.indexOf(before)
  draft.queue.splice(index, 1)
  draft.queue.splice(before.parked && flaws.returnsToEnd === true ? draft.queue.length : index, 0, waiter)
}

const append = (draft: Draft, waiter: Omit<Waiter, "arrival" | "parked">): void => {
  const arrival = Math.max(0, ...draft.queue.map((other) => other.arrival)) + 1
  if (!hasQueue(draft)) draft.isForming = true
  draft.queue.push({ ...waiter, arrival, parked: false })
}

const currentHolder = (draft: Draft): Situation => {
  const { length } = inQueue(draft)
  if (draft.foreign !== undefined) {
    return { length, holder: "foreign", remaining: draft.foreign - draft.now }
  }
  // While the server does not know what its holders have, it names none of them.
  const isKnown = draft.holders.every(({ isLost }) => isLost !== true)
  const [first] = isKnown ? [...draft.holders].sort((a, b) => a.expiry - b.expiry) : []
  return {
    length,
    holder: first?.id,
    remaining: first === undefined ? 0 : first.expiry - draft.now
  }
}

/** Whether a claim is held and must not be extended any more. */
const isForbidden = (draft: Draft, id: string): boolean => (held(draft, id)?.moment ?? Infinity) <= draft.now

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
const grant = (draft: Draft, waiter: Waiter, asking: ReadonlyArray<string>, flaws: Flaws): void => {
  const { capacity, deadline, guard, id, inbox, kind, permits } = waiter
  draft.last = Math.max(draft.last + 1, draft.micros)
  drop(draft, id)
  draft.holders.push({ id, inbox, token: draft.last, kind, permits, capacity, expiry: deadline + guard })
  if (kind !== "mutex") draft.used += flaws.countsOne === true ? 1 : permits
  draft.grants.push(id)
  if (!asking.includes(id)) draft.notifications.push({ inbox, id, token: draft.last, isContended: false })
}

/** The smallest capacity of those held and of the waiter rules. */
const fits = (draft: Draft, { capacity, kind, permits }: Waiter, flaws: Flaws): boolean => {
  if (draft.foreign !== undefined) return false
  if (kind === "mutex") return draft.holders.length === 0
  if (flaws.forgetsLost !== true && draft.holders.some(({ isLost }) => isLost === true)) return false
  if (draft.holders.some((one) => one.kind !== kind)) return false
  const capacities = flaws.ignoresHolders === true ? [] : draft.holders.map((one) => one.capacity)
  return draft.used + permits <= Math.min(capacity, ...capacities)
}

const nextUp = (
  draft: Draft,
  subscribers: Subscribers,
  asking: ReadonlyArray<string>,
  flaws: Flaws
): Waiter | undefined => {
  // The holder of a mutex is alone, whoever waits.
  if (draft.foreign !== undefined || draft.holders.some(({ kind }) => kind === "mutex")) return undefined
  for (const waiter of inQueue(draft)) {
    if (asking.includes(waiter.id) || !waiter.listening || subscribers(waiter.inbox) !== 0) {
      if (fits(draft, waiter, flaws)) return waiter
      if (flaws.overtakes === true) continue
      return undefined
    }
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
  ) grant(draft, waiter, asking, flaws)
}

const answer = (draft: Draft, id: string): ClaimReply => {
  const mine = held(draft, id)
  if (mine !== undefined) return { _tag: "Granted", token: mine.token }
  const place = inQueue(draft).findIndex((waiter) => waiter.id === id)
  return { _tag: "Queued", floor: draft.last || Math.max(0, draft.micros - 1), place, ...currentHolder(draft) }
}

interface InUse {
  readonly kind: Kind
  readonly capacity: number
}

const inUse = ({ foreign, holders, queue }: Draft): InUse | undefined => {
  const known = holders.filter(({ isLost }) => isLost !== true)
  if (known.length < holders.length) return undefined
  const capacity = Math.min(...known.map((one) => one.capacity))
  if (known.length > 0) return { kind: known[0]!.kind, capacity }
  return queue[0] ?? (foreign === undefined ? undefined : { kind: "mutex", capacity: 1 })
}

export interface AcquireArgs {
  readonly id: string
  readonly inbox: string
  readonly ttl: number
  readonly guard: number
  readonly kind: Kind
  readonly permits: number
  readonly capacity: number
  /** Whether any other capacity of a holder is a mismatch. */
  readonly isStrict?: boolean
  readonly mode: "queue" | "try"
  /** How many may wait before it. */
  readonly maxQueue?: number | undefined
}

export const acquire = (
  server: Server,
  { capacity, guard, id, inbox, isStrict, kind, maxQueue, mode, permits, ttl }: AcquireArgs,
  subscribers: Subscribers,
  flaws: Flaws = {}
): Step<AcquireReply> => {
  const draft = state(server)
  if (draft.tombstones.some((tombstone) => tombstone.id === id)) return done(draft, { _tag: "Cancelled" })
  if (isForbidden(draft, id) && flaws.repeatsRevoked !== true) return done(draft, { _tag: "Revoked" })
  const token = extend(draft, id, flaws.keepsExpiry === true ? 0 : ttl + guard)
  if (token !== undefined) return done(draft, { _tag: "Granted", token })
  const mine = findWaiter(draft, id)
  const present = inUse(draft)
  const isOther = isStrict === true && draft.holders.some((one) => one.capacity !== capacity)
  if (mine === undefined && present !== undefined && (present.kind !== kind || isOther)) {
    return done(draft, { _tag: "Mismatch", kind: present.kind, capacity: present.capacity })
  }

  const listening = (subscribers(inbox) ?? 0) > 0
  const waiter = { id, inbox, deadline: draft.now + ttl, guard, kind, permits, capacity, listening }
  if (mine !== undefined && flaws.appendsTwice !== true) saveWaiter(draft, mine, waiter, flaws)
  else append(draft, waiter)
  promote(draft, subscribers, [id], flaws)
  const reply = answer(draft, id)
  const isShort = reply._tag === "Queued" && reply.place < (maxQueue ?? Infinity)
  if (reply._tag !== "Queued" || (mode === "queue" && (isShort || mine !== undefined))) return done(draft, reply, flaws)
  if (mode === "try" && flaws.ringsForTries === true) ring(draft)
  drop(draft, id)
  return done(draft, { _tag: "Busy", ...currentHolder(draft) })
}

export interface AcquireAllArgs {
  readonly inbox: string
  readonly mode: "queue" | "try"
  /** How many may wait before each of them. */
  readonly maxQueue?: number | undefined
  /** One for each lock. */
  readonly claims: ReadonlyArray<Omit<AcquireArgs, "inbox" | "mode" | "maxQueue">>
}

type RefusalOfAll = AcquireReply | { readonly _tag: "Busy"; readonly length: number }

export type AcquireAllReply =
  | { readonly _tag: "Placed"; readonly claims: ReadonlyArray<ClaimReply> }
  | { readonly _tag: "Refused"; readonly claims: ReadonlyArray<RefusalOfAll | undefined> }
  | { readonly _tag: "Cancelled" | "Broken" }

/** What a script on several locks does to each of them. */
export interface StepOfAll {
  readonly steps: ReadonlyArray<Step<undefined>>
  readonly reply: AcquireAllReply
}

export const acquireAll = (
  servers: ReadonlyArray<Server>,
  { claims, inbox, maxQueue = Infinity, mode }: AcquireAllArgs,
  subscribers: Subscribers,
  flaws: Flaws = {}
): StepOfAll => {
  const drafts = servers.map(state)
  const all = claims.map((claim, index) => ({ ...claim, draft: drafts[index]! }))
  const ended = (reply: AcquireAllReply): StepOfAll => ({
    steps: drafts.map((draft) => done(draft, undefined, flaws)),
    reply
  })
  if (all.some(({ draft, id }) => draft.tombstones.some((one) => one.id === id))) return ended({ _tag: "Cancelled" })
  for (const { draft, kind } of all) {
    // The keys of a claim on a mutex do not tell enough to let others in.
    const isReadable = kind !== "mutex" || draft.queue.every((waiter) => waiter.kind === "mutex")
    if (isReadable) promote(draft, subscribers, [], flaws)
    tellHolders(draft, flaws)
  }
  const isKnown = all.map(({ draft, id }) => held(draft, id) !== undefined || findWaiter(draft, id) !== undefined)
  const known = isKnown.filter(Boolean).length
  if (all.some(({ draft, id }) => isForbidden(draft, id))) return ended({ _tag: "Broken" })
  if (known > 0 && known < all.length && flaws.entersMissing !== true) return ended({ _tag: "Broken" })
  const waiterOf = ({ capacity, draft, guard, id, kind, permits, ttl }: typeof all[number]) => ({
    id,
    inbox,
    deadline: draft.now + ttl,
    guard,
    kind,
    permits,
    capacity,
    listening: flaws.passesGrouped === true && (subscribers(inbox) ?? 0) > 0,
    isGrouped: true as const
  })
  const refused = all.map((claim, index): RefusalOfAll | undefined => {
    if (isKnown[index]) return undefined
    const { capacity, draft, isStrict, kind } = claim
    const present = inUse(draft)
    const isOther = isStrict === true && draft.holders.some((one) => one.capacity !== capacity)
    if (present !== undefined && (present.kind !== kind || isOther)) {
      return { _tag: "Mismatch", kind: present.kind, capacity: present.capacity }
    }
    const waiter = { ...waiterOf(claim), arrival: 0, parked: false }
    const isRoom = inQueue(draft).length === 0 && draft.holders.every((one) => one.kind !== "mutex") &&
      fits(draft, waiter, flaws)
    const { length } = inQueue(draft)
    return isRoom || (mode === "queue" && length < maxQueue) ? undefined : { _tag: "Busy", length }
  })
  const isPart = flaws.takesPart === true && refused.some((one) => one === undefined)
  if (refused.some((one) => one !== undefined) && !isPart) return ended({ _tag: "Refused", claims: refused })
  const placed = all.map((claim, index): ClaimReply => {
    const { draft, guard, id, ttl } = claim
    if (refused[index] !== undefined) return { _tag: "Gone" }
    if (extend(draft, id, ttl + guard) === undefined) {
      const mine = findWaiter(draft, id)
      if (mine === undefined) append(draft, waiterOf(claim))
      else saveWaiter(draft, mine, waiterOf(claim), flaws)
      promote(draft, subscribers, [id], flaws)
    }
    return answer(draft, id)
  })
  return ended({ _tag: "Placed", claims: placed })
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
    if (isForbidden(draft, id) && flaws.repeatsRevoked !== true) {
      replies.set(id, { _tag: "Revoked" })
      continue
    }
    const token = extend(draft, id, ttl + guard)
    const mine = findWaiter(draft, id)
    if (token !== undefined) {
      replies.set(id, { _tag: "Granted", token })
    } else if (mine !== undefined) {
      const counts = listening && (mine.isGrouped !== true || flaws.passesGrouped === true)
      saveWaiter(draft, mine, { ...mine, inbox, deadline: draft.now + ttl, guard, listening: counts }, flaws)
      asking.push(id)
    } else if (flaws.refreshCreates === true) {
      append(draft, { id, inbox, deadline: draft.now + ttl, guard, kind: "mutex", permits: 1, capacity: 1, listening })
      asking.push(id)
    } else {
      replies.set(id, { _tag: "Gone" })
    }
  }
  promote(draft, subscribers, asking, flaws)
  return done(draft, claims.map(({ id }) => replies.get(id) ?? answer(draft, id)), flaws)
}

/** Whether the holder with this token holds the lock alone, in the string key. */
export const hasHolder = ({ foreign, holders, now }: Server, token: number): boolean =>
  foreign === undefined && holders.some((one) => one.kind === "mutex" && one.token === token && one.expiry > now)

export interface RenewArgs {
  readonly id: string
  readonly isWatched?: boolean
  readonly token: number
  readonly ttl: number
  readonly guard: number
  readonly kind: Kind
  readonly permits: number
  readonly capacity: number
}

const isExclusive = ({ capacity, kind, permits }: Pick<Holder, "kind" | "permits" | "capacity">): boolean =>
  kind !== "semaphore" && permits === capacity

/** What a claim learns that is not held, or not under its token. */
const missing = (draft: Draft, claim: RenewArgs): RenewReply => {
  if (held(draft, claim.id) !== undefined) return "replaced"
  // A mutex and shared holders have different keys.
  const isMutex = claim.kind === "mutex"
  const others = draft.holders.filter(({ kind }) => (kind === "mutex") === isMutex)
  if (isMutex) return draft.foreign !== undefined || others.length > 0 ? "replaced" : "expired"
  const isReplaced = isExclusive(claim) ? others.length > 0 : draft.used >= 2 ** 31 - 1
  return isReplaced ? "replaced" : "expired"
}

export const renew = (server: Server, claim: RenewArgs, flaws: Flaws = {}): Step<RenewReply> => {
  const draft = state(server)
  const mine = held(draft, claim.id)
  if (mine?.token !== claim.token) return done(draft, missing(draft, claim))
  if (isForbidden(draft, claim.id) && flaws.renewsRevoked !== true) return done(draft, "revoked")
  extend(draft, claim.id, claim.ttl + claim.guard)
  if (mine.moment !== undefined) return done(draft, "asked")
  return done(draft, claim.isWatched === true && draft.queue.length > 0 ? "contended" : "ok")
}

/** Leaves a shared holder only some of its permits. */
export const shrink = (
  server: Server,
  claim: RenewArgs,
  kept: number,
  subscribers: Subscribers,
  flaws: Flaws = {}
): Step<RenewReply> => {
  const draft = state(server)
  const mine = held(draft, claim.id)
  if (mine?.token !== claim.token) return done(draft, missing(draft, claim))
  if (isForbidden(draft, claim.id)) return done(draft, "revoked")
  const permits = Math.min(kept, mine.permits)
  draft.used -= mine.permits - permits
  const shrunk = { ...mine, permits }
  draft.holders = draft.holders.map((one) => one === mine ? shrunk : one)
  if (flaws.shrinksAnew === true) {
    draft.holders = draft.holders.filter((one) => one !== shrunk)
    draft.used -= permits
  }
  extend(draft, claim.id, claim.ttl + claim.guard)
  promote(draft, subscribers, [], flaws)
  if (flaws.shrinksAnew === true) {
    draft.holders.push(shrunk)
    draft.used += permits
  }
  return done(draft, mine.moment === undefined ? "ok" : "asked")
}

/** Asks a holder to leave within the grace, and forbids what would extend it after that. */
export const revoke = (
  server: Server,
  { grace, id, token }: { readonly id: string; readonly token: number; readonly grace: number },
  subscribers: Subscribers,
  flaws: Flaws = {}
): Step<boolean> => {
  const draft = state(server)
  const mine = held(draft, id)
  if (mine?.token !== token) return done(draft, false)
  const moment = Math.min(mine.moment ?? Infinity, draft.now + grace)
  draft.holders = draft.holders.flatMap((one) =>
    one !== mine ? [one] : flaws.revokesAtOnce === true ? [] : [{ ...one, moment }]
  )
  if (flaws.revokesAtOnce === true) {
    draft.used -= usedBy([mine])
    promote(draft, subscribers, [], flaws)
  }
  return done(draft, true)
}

/** Takes the lock from a holder, as a release with a tombstone does. */
export const breakHold = (
  server: Server,
  { id, interop, token }: { readonly id: string; readonly token: number; readonly interop: boolean },
  tombstoneTtl: number,
  subscribers: Subscribers
): Step<boolean> => {
  const draft = state(server)
  if (held(draft, id)?.token !== token) return done(draft, false)
  const step = release(server, { id, interop, tombstone: true }, tombstoneTtl, subscribers)
  return { ...step, reply: true }
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
  const mineHeld = draft.holders.find((one) => one.id === id)
  const released = mineHeld !== undefined
  if (mineHeld !== undefined && flaws.keepsUsed !== true) draft.used -= usedBy([mineHeld])
  draft.holders = draft.holders.filter((one) => one.id !== id)
  const next = nextUp(draft, subscribers, [], flaws)
  if (interop && next?.kind === "mutex") {
    draft.notifications.push({ inbox: next.inbox, id: next.id, token: undefined, isContended: false })
  } else {
    promote(draft, subscribers, [], flaws)
  }
  if (released) return done(draft, { _tag: "Released" })
  return done(draft, { _tag: mine !== undefined || tombstone ? "Cancelled" : "NotHeld", ...currentHolder(draft) })
}

/** Time passes: expired holders, dead waiters and tombstones disappear. */
export const advance = (server: Server, ticks: number): Server => {
  const now = server.now + ticks
  const expired = server.holders.filter((one) => one.expiry <= now)
  return {
    now,
    micros: server.micros,
    last: server.last,
    foreign: server.foreign !== undefined && server.foreign > now ? server.foreign : undefined,
    holders: server.holders.filter((one) => one.expiry > now),
    used: server.used === undefined || expired.length === 0
      ? server.used
      : expired.length === server.holders.length
      ? 0
      : server.used - usedBy(expired),
    queue: server.queue.filter((waiter) => waiter.deadline > now),
    tombstones: server.tombstones.filter((tombstone) => tombstone.until > now)
  }
}

/** `SET NX PX` by another client on the lock's key, without `PX` if `expiry` is infinite. */
export const foreignSet = (server: Server, expiry: number): Server =>
  server.foreign !== undefined || server.holders.some((one) => one.kind === "mutex")
    ? server
    : { ...server, foreign: expiry }

/** `DEL` by the client that set the key. */
export const foreignDel = (server: Server): Server => ({ ...server, foreign: undefined })

/** The sum over the shared holders disappears. */
export const loseUsed = (server: Server): Server => ({ ...server, used: undefined })

/** The first holder disappears, whoever it is. */
export const withoutFirst = (server: Server): Server => {
  const holders = server.holders.slice(1)
  return { ...server, holders, used: usedBy(holders) }
}

/** What each shared holder has disappears, and only the times of their expiry stay. */
export const loseValues = (server: Server): Server => ({
  ...server,
  holders: server.holders.map((one): Holder => one.kind === "mutex" ? one : { ...one, isLost: true }),
  used: undefined
})

/** All data disappears. Tokens continue by the server's clock. */
export const flush = (server: Server): Server => ({
  ...empty,
  now: server.now,
  micros: server.micros,
  last: server.micros > 0 ? 0 : server.last
})
