/** Reads from the server's answers where a shared claim is in its queue. */

import type { Claim, Mismatched } from "effect-dlock/LockStore"
import type { IKeyValue, IResponseOp, ITxnResponse } from "etcd3"
import { decode, isNewer } from "./format.ts"
import { type Demand, demandOf, isWriter } from "./keys.ts"
import { mostListed } from "./sharedTransactions.ts"
import { type Foreign, type OtherClaim, otherOf, ownIn } from "./snapshot.ts"

/** A claim in the queue, as its name tells it. */
export interface StandingClaim extends Demand {
  readonly key: string
  readonly created: bigint
  /** How often its key was put. After the first time its name tells only how many permits it had. */
  readonly version: number
}

/** The claims that were created from one revision to another, at the time of an answer. */
export interface Listing {
  readonly revision: bigint
  readonly from: bigint
  readonly upTo: bigint
  /** In queue order. */
  readonly found: ReadonlyArray<StandingClaim>
  /** Nothing was created after `upTo` when the server answered. */
  readonly isWhole: boolean
}

/** The answer to a request for a place. */
export interface Entry {
  readonly revision: bigint
  /** The create revision of the claim. `undefined` if the claim is not in the queue. */
  readonly own: bigint | undefined
  /** The base of the claim's fencing token. */
  readonly base: bigint
  /** Nothing was in the claim's way, or nothing that came since the permits were known to suffice. */
  readonly isClear: boolean
  /** The first claim in the queue, if it was read. */
  readonly head: OtherClaim | undefined
  readonly listing: Listing | undefined
}

type Response = IResponseOp & { readonly response_txn?: ITxnResponse }

/** The answers of the branch that was executed, and whether that was the first choice. */
const leafOf = (responses: ReadonlyArray<Response>, depth = 0): readonly [ReadonlyArray<Response>, boolean] => {
  const [only] = responses
  return responses.length === 1 && only!.response_txn !== undefined
    ? leafOf(only!.response_txn.responses, depth + 1)
    : [responses, depth < 2]
}

/** What a request for a place asked for. */
export interface Question {
  /** The revision from which on it lists the claims, unless the known ones are in doubt: then it lists all. */
  readonly from: bigint
  /** The revision from which on no claim is there, if the claim is put without a list. */
  readonly clearFrom: bigint
  /** How many claims it lists at most, 0 for any number. */
  readonly limit: number
}

/** Reads the answer to a request for a place. */
export const readEntry = (
  response: ITxnResponse,
  claim: Claim,
  base: bigint,
  { clearFrom, from, limit }: Question
): Entry => {
  const revision = BigInt(response.header.revision)
  const nothing = { revision, isClear: false, head: undefined, listing: undefined }
  // The claim was withdrawn before.
  if (!response.succeeded) return { ...nothing, ...ownIn(response.responses[1]!, claim) }
  const [leaf, isFirstChoice] = leafOf(response.responses)
  const isPut = leaf.some(({ response_put }) => response_put)
  const ranges = leaf.filter(({ response_range }) => response_range)
  // The revision of a put is the create revision of the claim, since a request puts only a claim that is not there.
  const own = isPut ? { own: revision, base } : ownIn(ranges.shift()!, claim)
  if (isPut && ranges.length === 0) {
    const listing = { revision, from: clearFrom, upTo: revision, found: [], isWhole: true }
    return { ...nothing, ...own, isClear: true, listing }
  }
  // The claim was put behind another claim of this process.
  if (isPut && ranges.length === 1) return { ...nothing, ...own }
  const [head, list] = ranges
  const [first] = head!.response_range.kvs
  return {
    ...nothing,
    ...own,
    head: first && otherOf(first),
    listing: list && listingOf(list, revision, isFirstChoice ? from : 0n, limit, own.own)
  }
}

export const listingOf = (
  { response_range: { kvs } }: IResponseOp,
  revision: bigint,
  from: bigint,
  limit: number,
  own?: bigint,
  until?: bigint
): Listing => {
  const found = kvs.map(standingOf)
  const newest = found[found.length - 1]?.created ?? 0n
  const isCut = limit > 0 && kvs.length >= limit
  // A claim that entered in the same transaction as a look has the look's revision, and the look may not show it.
  const last = newest === revision || own === revision ? revision : revision - 1n
  const upTo = isCut ? newest : until !== undefined && until < last ? until : last
  return { revision, from, upTo, found, isWhole: !isCut && until === undefined }
}

const standingOf = ({ create_revision, key, version }: IKeyValue): StandingClaim => {
  const text = key.toString()
  return { key: text, created: BigInt(create_revision), version: Number(version), ...demandOf(text) }
}

/** The answer to a look. */
export interface Look {
  readonly revision: bigint
  readonly own: bigint | undefined
  readonly listing: Listing
  /** For a writer: the reader right before it. */
  readonly reader: StandingClaim | undefined
}

/** Reads the answer to a look that listed the claims up to `until`. */
export const readLook = ({ header, responses }: ITxnResponse, claim: Claim, until: bigint | undefined): Look => {
  const revision = BigInt(header.revision)
  const [own, list, readers] = responses
  const [reader] = readers?.response_range.kvs ?? []
  return {
    revision,
    own: ownIn(own!, claim).own,
    listing: listingOf(list!, revision, 0n, mostListed, undefined, until),
    reader: reader && standingOf(reader)
  }
}

/** Reads the answer to a `lookOn` for the claims after those that were known up to a revision. */
export const readOn = ({ header, responses, succeeded }: ITxnResponse, upTo: bigint): Listing =>
  listingOf(responses[0]!, BigInt(header.revision), succeeded ? upTo + 1n : 0n, mostListed)

/** Reads the answer to `listAll`. A writer's second key is left out. */
export const readAll = ({ header, responses }: ITxnResponse): Listing => {
  const listing = listingOf(responses[0]!, BigInt(header.revision), 0n, 0)
  const writers = new Set(listing.found.filter(isWriter).map(({ created }) => created))
  return { ...listing, found: listing.found.filter((claim) => isWriter(claim) || !writers.has(claim.created)) }
}

/**
 * Reads the answer to `readQueue`: the claims that wait, of any kind of lock. Those before them have the permits. A claim of
 * another client tells nothing.
 */
export const readWaiting = ({ responses }: ITxnResponse): ReadonlyArray<Pick<Claim, "kind" | "holder">> => {
  const claims = responses[0]!.response_range.kvs.map(({ create_revision, key, value }) => ({
    ...demandOf(key.toString()),
    created: create_revision,
    value: decode(value)
  }))
  const writers = new Set(claims.filter(isWriter).map(({ created }) => created))
  const found: Array<Pick<Claim, "kind" | "holder">> = []
  let [used, least] = [0, Infinity]
  for (const { capacity, created, kind, permits, value } of claims) {
    const isSecondKey = kind === "readWrite" && permits === 1 && writers.has(created)
    if (isSecondKey) continue
    // Of a claim that shrank, only the value tells what it has left.
    used += kind === "semaphore" ? value.permits : permits
    least = Math.min(least, capacity)
    if (used > least && value.holder !== undefined) found.push({ kind, holder: value.holder })
  }
  return found
}

/** How many permits a claim has left. */
export interface Permits {
  readonly key: string
  readonly created: bigint
  readonly version: number
  readonly permits: number
}

/** Reads the answer to `readValues`. */
export const readPermits = ({ responses }: ITxnResponse): ReadonlyArray<Permits> =>
  responses.flatMap(({ response_range: { kvs } }) =>
    kvs.map(({ create_revision, key, value, version }) => ({
      key: key.toString(),
      created: BigInt(create_revision),
      version: Number(version),
      permits: decode(value).permits
    }))
  )

/**
 * What keeps a claim off the key. Only the head of the queue counts: claims behind it may be about to be withdrawn because of
 * their kind.
 */
export const foreignIn = ({ head, own }: Entry, { kind }: Claim): Foreign | undefined => {
  if (head === undefined || head.created === own) return undefined
  const { value } = head
  if (isNewer(value)) return "newer"
  return value.kind === kind ? undefined : mismatched(value)
}

export const mismatched = ({ capacity, kind }: Demand): Mismatched => ({
  _tag: "CapacityMismatch",
  kind,
  inUse: capacity
})

/** Reads the answer to `findHead`. */
export const readHead = ({ responses }: ITxnResponse): OtherClaim | undefined => {
  const [head] = responses[0]!.response_range.kvs
  return head && otherOf(head)
}
