import { type Ahead, callLimit, type Claim } from "effect-dlock/LockStore"
import type { ICompare, IKeyValue, IRequestOp, IResponseOp, ITxnRequest, ITxnResponse } from "etcd3"
import type { Names } from "./keys.ts"
import type { Operation } from "./operation.ts"

/** Where a claim stands, or would. */
export interface Place {
  readonly names: Names
  readonly claim: Claim
  readonly place: Buffer
}

/** A process, and the key without which its claims are not to wait. */
export interface Sign {
  readonly process: string
  readonly key: Buffer
}

/**
 * What is added to the create revision of each claim that is put while it lasts: their sum is the fencing token. It is raised
 * where revisions alone would be lower than tokens that a fence has seen.
 */
export interface Epoch {
  readonly key: Buffer
  /** What stands there; absent where nothing does, and nothing is added. */
  readonly text: string | undefined
  readonly base: bigint
}

/** What stands in the value of a claim. Another library's claim, such as that of `etcdctl lock`, is a mutex's. */
export interface Standing {
  readonly permits: number
  readonly capacity: number
  readonly holder: string | undefined
  readonly id: string | undefined
  /** The process without whose sign it may be taken out of the queue while it waits. */
  readonly process: string | undefined
  /** The base of its fencing token: that of the epoch in which it was put, for ever. */
  readonly base: bigint
}

/** What stands for a claim of which no more is known, or needed. */
const mutex: Standing = {
  permits: 1,
  capacity: 1,
  holder: undefined,
  id: undefined,
  process: undefined,
  base: 0n
}

/** How a claim stands in its queue, at one revision of the store. */
export interface View {
  readonly revision: bigint
  /** The claim's own create revision; absent where it does not stand there. */
  readonly own: bigint | undefined
  /** The base of its fencing token. */
  readonly base: bigint
  /** The claims before it, first come first; of a mutex at most those that are `nearest`. */
  readonly before: ReadonlyArray<Other>
  /** There are no others before it. */
  readonly isWhole: boolean
  /** It stands behind another of this process, and nobody has looked who else is there. */
  readonly isBlind: boolean
  /** How many claims stand in the queue. */
  readonly length: number
  /** It was given no place, because its process shows no sign of life. */
  readonly isUnsigned: boolean
}

/** A claim in a queue, as others see it. Most of what a look finds is known already: of that nobody reads more. */
export class Other {
  readonly key: Buffer
  readonly created: bigint
  private readonly value: Buffer | undefined
  private decoded: Standing | undefined

  constructor(key: Buffer, created: bigint, value: Buffer | undefined) {
    this.key = key
    this.created = created
    this.value = value
  }

  get name(): string {
    return this.key.toString()
  }

  get standing(): Standing {
    this.decoded ??= this.value === undefined ? mutex : decode(this.value)
    return this.decoded
  }
}

const encode = ({ capacity, holder, id, permits }: Claim, sign: Sign | undefined, base: bigint): Buffer =>
  Buffer.from(JSON.stringify({
    permits,
    capacity,
    holder,
    id,
    process: sign?.process,
    base: base === 0n ? undefined : String(base)
  }))

const decode = (value: Buffer): Standing => {
  try {
    const { base, capacity, holder, id, permits, process } = JSON.parse(value.toString()) as Partial<Standing>
    if (typeof permits === "number" && typeof capacity === "number") {
      return {
        permits,
        capacity,
        holder: typeof holder === "string" ? holder : undefined,
        id,
        process,
        base: BigInt(base ?? 0)
      }
    }
  } catch {
    // Not one of ours.
  }
  return mutex
}

const absent = (key: Buffer): ICompare => ({ key, target: "Create", result: "Equal", create_revision: 0 })

/** True where nothing stands in the whole folder. */
const empty = ({ folder, folderEnd }: Names): ICompare => ({ ...absent(folder), range_end: folderEnd }) as ICompare

/** True where all that stands in the folder stood there at that revision. */
const noneAfter = ({ folder, folderEnd }: Names, revision: bigint): ICompare =>
  ({
    key: folder,
    range_end: folderEnd,
    target: "Create",
    result: "Less",
    create_revision: String(revision + 1n)
  }) as ICompare

const first = ({ folder, folderEnd }: Names): IRequestOp => ({
  request_range: { key: folder, range_end: folderEnd, sort_target: "Create", sort_order: "Ascend", limit: 1 }
})

const last = ({ folder, folderEnd }: Names, limit: number, before?: bigint): IRequestOp => ({
  request_range: {
    key: folder,
    range_end: folderEnd,
    sort_target: "Create",
    sort_order: "Descend",
    limit,
    ...(before !== undefined && { max_create_revision: String(before - 1n) })
  }
})

const everything = ({ folder, folderEnd }: Names): IRequestOp => ({
  request_range: { key: folder, range_end: folderEnd, sort_target: "Create", sort_order: "Ascend" }
})

const own = (key: Buffer): IRequestOp => ({ request_range: { key } })

const count = (key: Buffer): IRequestOp => ({ request_range: { key, count_only: true } })

/** A mutex needs those who are near; permits are counted over all that came before. */
const neighbours = (names: Names, claim: Claim): IRequestOp =>
  claim.capacity === 1 ? last(names, nearest + 1) : everything(names)

/** How many claims before its own a process may have, and hear of each deletion. */
const window = 16

/** How many a look at a mutex shows at most: one more tells that there are too many. */
const nearest = window + 1

const put = ({ claim, place }: Place, lease: string, { base }: Epoch, sign?: Sign): IRequestOp => ({
  request_put: { key: place, value: encode(claim, sign, base), lease }
})

const createdAt = (key: Buffer, revision: bigint): ICompare => ({
  key,
  target: "Create",
  result: "Equal",
  create_revision: String(revision)
})

const present = (key: Buffer): ICompare => ({ key, target: "Create", result: "Greater", create_revision: 0 })

/** An operation of a claim, by what it may wait for and with whom it may go. */
const leaving = (claim: Claim, request: ITxnRequest): Operation => ({
  urgency: "leave",
  request,
  claim: claim.id,
  folder: claim.key,
  limit: callLimit(claim)
})
const looking = (claim: Claim, request: ITxnRequest): Operation => ({ ...leaving(claim, request), urgency: "look" })
const entering = (claim: Claim, request: ITxnRequest): Operation => ({ ...leaving(claim, request), urgency: "enter" })

const notCancelled = ({ claim, names }: Place): ICompare => absent(names.mark(claim.id))

/**
 * By the value, not by the revision at which it was put there: a snapshot that is restored and raised once more may have
 * another base at the same revision.
 */
const epochIs = ({ key, text }: Epoch): ICompare =>
  text === undefined ? absent(key) : { key, target: "Value", result: "Equal", value: Buffer.from(text) }

const within = (request: ITxnRequest): IRequestOp => ({ request_txn: request }) as IRequestOp

/**
 * What asks for a place goes in here: it is not looked at in another epoch than this process knows, nor where the claim was
 * cancelled before. Then the answer tells the epoch, and whether the claim stands there from an earlier request.
 *
 * The epoch is compared in the transaction that puts the claim, and only grows. So of two claims the one that was put first
 * has no higher base than the other, and tokens grow in the order of the queue whenever it is raised; a claim that waits
 * keeps its own.
 */
const enteringIn = (epoch: Epoch, at: Place, request: ITxnRequest): Operation =>
  entering(at.claim, {
    compare: [epochIs(epoch), notCancelled(at)],
    success: [within(request)],
    failure: [own(epoch.key), own(at.place)]
  })

const taking = (at: Place, lease: string, epoch: Epoch, sign: Sign | undefined): ITxnRequest => {
  const around = [own(at.place), neighbours(at.names, at.claim)]
  return {
    compare: [empty(at.names)],
    success: [put(at, lease, epoch, sign)],
    failure: [within({
      compare: [absent(at.place), ...(sign === undefined ? [] : [present(sign.key)])],
      success: [put(at, lease, epoch, sign), ...around],
      failure: sign === undefined ? around : [...around, count(sign.key)]
    })]
  }
}

/**
 * Takes a place, unless the claim was cancelled before, and looks who else is there; where the lock is free, there is
 * nobody to look for. A repeat changes nothing and finds the place that is there. Where it would have to wait, and depends on
 * a sign of life, it is given no place without that.
 */
export const enter = (at: Place, lease: string, epoch: Epoch, sign?: Sign): Operation =>
  enteringIn(epoch, at, taking(at, lease, epoch, sign))

/**
 * The same, behind another of this process that stands in the queue: nobody needs to look who else does. Where that one has
 * gone it is as any other.
 */
export const enterBehind = (
  at: Place,
  lease: string,
  epoch: Epoch,
  sign: Sign | undefined,
  another: Place,
  created: bigint
): Operation =>
  enteringIn(epoch, at, {
    compare: [
      createdAt(another.place, created),
      absent(at.place),
      ...(sign === undefined ? [] : [present(sign.key)])
    ],
    success: [put(at, lease, epoch, sign), count(another.place)],
    failure: [within(taking(at, lease, epoch, sign))]
  })

/** Takes the lock only if nobody is there. */
export const enterIfEmpty = (at: Place, lease: string, epoch: Epoch): Operation => ({
  ...enteringIn(epoch, at, {
    compare: [empty(at.names)],
    success: [put(at, lease, epoch)],
    failure: [own(at.place), neighbours(at.names, at.claim)]
  }),
  needsEmpty: true
})

/** Takes a place only if nobody has come since the revision at which there was room. */
export const enterIfNobodyCame = (at: Place, lease: string, epoch: Epoch, since: bigint): Operation =>
  enteringIn(epoch, at, {
    compare: [noneAfter(at.names, since)],
    success: [put(at, lease, epoch)],
    failure: [own(at.place), neighbours(at.names, at.claim)]
  })

/** What an answer says of the epoch, where it was not done in the one that was asked for. */
export const epochIn = (response: ITxnResponse): { readonly text: string | undefined } | undefined =>
  response.succeeded ? undefined : { text: textIn(response) }

/** What stands at the key that was looked for first. */
export const textIn = ({ responses }: ITxnResponse): string | undefined =>
  responses[0]!.response_range.kvs[0]?.value.toString()

/** What is the epoch? */
export const findEpoch = (key: Buffer): ITxnRequest => ({ success: [own(key)] })

/** Puts a new epoch in the place of one. */
export const raise = (from: Epoch, base: bigint): ITxnRequest => ({
  compare: [epochIs(from)],
  success: [{ request_put: { key: from.key, value: Buffer.from(String(base)) } }],
  failure: [own(from.key)]
})

/** How does a claim stand that has a place, or where would it? Of a mutex at most so many are shown that stand before it. */
export const look = ({ claim, names, place }: Place, created: bigint, most = nearest): Operation =>
  looking(claim, {
    success: [
      own(place),
      claim.capacity === 1 && created > 0n ? last(names, most, created) : neighbours(names, claim)
    ]
  })

/** Who stands from there on, in the order in which they came? */
export const lookOn = ({ claim, names }: Place, from: bigint): Operation =>
  looking(claim, {
    success: [{
      request_range: {
        key: names.folder,
        range_end: names.folderEnd,
        sort_target: "Create",
        sort_order: "Ascend",
        min_create_revision: String(from),
        limit: mostListed
      }
    }]
  })

const mostListed = 512

/** What a `lookOn` found. */
export const listed = ({ header, responses }: ITxnResponse) => {
  const { kvs } = responses[0]!.response_range
  return { revision: BigInt(header.revision), found: kvs.map(otherOf), isWhole: kvs.length < mostListed }
}

/**
 * Ends a claim: deletes what is its own, guarded by the create revision where it is known, and leaves a mark where a
 * request may yet arrive. For a claim that waited it also looks who holds the lock, for an error that names them.
 */
export const leave = (
  { claim, names, place }: Place,
  created: bigint | undefined,
  markLease: string | undefined,
  waited: boolean
): Operation => {
  const holder = waited ? [first(names)] : []
  return leaving(claim, {
    compare: created === undefined
      ? []
      : [createdAt(place, created)],
    success: [
      { request_delete_range: { key: place } },
      ...holder,
      ...(markLease === undefined
        ? []
        : [{ request_put: { key: names.mark(claim.id), value: Buffer.alloc(0), lease: markLease } }])
    ],
    failure: holder
  })
}

/**
 * Deletes a claim behind which another of this process has been let in, as long as that one stands. Where it has gone, this
 * one keeps the others out while it is told.
 */
export const leaveTo = ({ claim, place }: Place, created: bigint, heir: Place, itsCreated: bigint): Operation => ({
  ...leaving(claim, {
    compare: [createdAt(place, created), createdAt(heir.place, itsCreated)],
    success: [{ request_delete_range: { key: place } }],
    failure: [own(place), own(heir.place)]
  }),
  isPatient: true
})

/** What a `leaveTo` found: whether each of the two still stands. */
export const leftTo = ({ responses, succeeded }: ITxnResponse, created: bigint, itsCreated: bigint) => {
  const stands = (index: number, at: bigint): boolean =>
    responses[index]?.response_range?.kvs.some(({ create_revision }) => BigInt(create_revision) === at) ?? false
  return { isDeleted: succeeded, isThere: stands(0, created), isHeirThere: succeeded || stands(1, itsCreated) }
}

/** Shows that a process lives. */
export const show = (key: Buffer, lease: string): ITxnRequest => ({
  success: [{ request_put: { key, value: Buffer.alloc(0), lease } }]
})

/** Is anything at a key? */
export const find = (key: Buffer): ITxnRequest => ({ success: [count(key)] })

export const isThere = ({ responses }: ITxnResponse): boolean => Number(responses[0]!.response_range.count) > 0

/**
 * Takes claims out of the queue whose process is dead. None must hold the lock, nor be next: one before all of them still
 * stands. Else it may have been let in by what it was told before its process fell silent, and others would be let in beside it.
 */
export const passOver = ({ claim }: Place, dead: ReadonlyArray<Other>, before: Other, sign: Buffer): Operation => ({
  ...leaving(claim, {
    compare: [
      ...dead.map(({ created, key }) => createdAt(key, created)),
      createdAt(before.key, before.created),
      absent(sign)
    ],
    success: dead.map(({ key }) => ({ request_delete_range: { key } }))
  }),
  claim: String(dead[0]!.key),
  isAlone: true
})

/** Marks a claim as cancelled of which only the id is known, and finds where it stands. */
export const cancel = (names: Names, id: string, markLease: string): ITxnRequest => ({
  success: [
    { request_put: { key: names.mark(id), value: Buffer.alloc(0), lease: markLease } },
    everything(names)
  ]
})

/** What a `cancel` found. */
export const found = (
  response: ITxnResponse,
  id: string
): { readonly place: Buffer; readonly created: bigint } | undefined => {
  const kvs = response.responses.flatMap((one) => one.response_range ? one.response_range.kvs : [])
  const kv = kvs.find(({ value }) => decode(value).id === id)
  return kv && { place: kv.key, created: BigInt(kv.create_revision) }
}

/** Removes whatever stands at some keys. */
export const remove = (keys: ReadonlyArray<string>): ITxnRequest => ({
  success: keys.map((key) => ({ request_delete_range: { key: Buffer.from(key) } }))
})

/** What a `leave` found: whether anything was there, and of a claim that waited who stands first now. */
export const left = ({ responses }: ITxnResponse) => {
  const range = responses.find((one) => one.response_range)?.response_range
  const deleted = responses.find((one) => one.response_delete_range)?.response_delete_range
  const holder = range?.kvs[0]
  return {
    deleted: deleted !== undefined && Number(deleted.deleted) > 0,
    holder: holder && decode(holder.value).holder,
    length: Number(range?.count ?? 0)
  }
}

const otherOf = ({ create_revision, key, value }: IKeyValue): Other => new Other(key, BigInt(create_revision), value)

/**
 * Reads the answer of those that enter, and of `look`, about a claim. `base`: that of the epoch in which it was put, if this
 * has put it; where it stood there before its value tells.
 */
export const view = (response: ITxnResponse, claim: Claim, base = 0n, most = nearest): View => {
  if (response.succeeded) return seen(response, claim, base, most)
  // It was not let in.
  const mine = ownIn(response.responses[1]!, claim)
  const revision = BigInt(response.header.revision)
  return { revision, ...mine, before: [], isWhole: false, isBlind: false, length: 1, isUnsigned: false }
}

const ownIn = ({ response_range }: IResponseOp, { id }: Claim): Pick<View, "own" | "base"> => {
  const kv = response_range.kvs[0]
  const standing = kv && decode(kv.value)
  return standing?.id === id ? { own: BigInt(kv!.create_revision), base: standing.base } : { own: undefined, base: 0n }
}

const seen = (response: ITxnResponse, claim: Claim, base: bigint, most: number): View => {
  const revision = BigInt(response.header.revision)
  const [only, another] = response.responses as ReadonlyArray<IResponseOp & { readonly response_txn?: ITxnResponse }>
  if (only?.response_txn !== undefined) {
    return seen({ ...only.response_txn, header: response.header }, claim, base, most)
  }
  const placed = {
    revision,
    own: revision,
    base,
    before: [],
    isWhole: true,
    isBlind: false,
    length: 1,
    isUnsigned: false
  }
  // It was put where nobody was, or behind another of ours: this revision created it.
  if (only?.response_put && response.responses.length === 1) return placed
  if (only?.response_put && another?.response_range && response.responses.length === 2) {
    return { ...placed, isWhole: false, isBlind: true }
  }
  const [mine, around, sign] = response.responses.filter((one) => one.response_range)
  const stands = ownIn(mine!, claim)
  const created = stands.own
  const all = around!.response_range.kvs.map(otherOf)
  if (claim.capacity === 1) all.reverse()
  const before = all.filter((one) => created === undefined || one.created < created)
  const isBefore = created !== undefined && all.every((one) => one.created < created)
  return {
    revision,
    ...stands,
    before,
    isWhole: claim.capacity > 1 || all.length < (isBefore ? most : most + 1),
    isBlind: false,
    length: Number(around!.response_range.count),
    isUnsigned: created === undefined && sign !== undefined && Number(sign.response_range.count) === 0
  }
}

/** What a claim is told of those before it. */
export const ahead = ({ before, isWhole, length }: View, claim: Claim): Ahead => ({
  holder: isWhole ? before[0]?.standing.holder : undefined,
  place: claim.capacity > 1 ? before.length : Math.max(0, isWhole ? before.length - 1 : length - 2),
  waiting: Math.max(1, length - 1)
})

/** Granted when all that came before, held or waiting, leave room: so a small claim never passes a large one. */
export const isGranted = (claim: Claim, view: View): boolean =>
  view.own !== undefined && view.isWhole && fits(claim, view)

/** Whether what stands before it leaves room for it. */
export const fits = (claim: Claim, { before }: View): boolean =>
  claim.capacity === 1
    ? before.length === 0
    : before.reduce((permits, { standing }) => permits + standing.permits, claim.permits) <= claim.capacity

/** Is the key in use with another capacity? The first of the queue says so: others may be about to be told that, and go. */
export const isMismatched = (claim: Claim, view: View): boolean =>
  view.before.length > 0 && view.before[0]!.standing.capacity !== claim.capacity
