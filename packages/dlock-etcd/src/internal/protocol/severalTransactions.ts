/** The transactions that put claims in several queues at one instant, and their answers. */

import { callLimit } from "effect-dlock/LockStore"
import type { ICompare, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import {
  absent,
  all,
  count,
  empty,
  entering,
  type Epoch,
  epochIs,
  first,
  type LeaseTerms,
  type LifeSign,
  list,
  noTombstone,
  own,
  type PlaceInQueue,
  present,
  puts,
  within
} from "./clauses.ts"
import { isReader } from "./keys.ts"
import type { Operation } from "./operation.ts"
import * as Shared from "./sharedSnapshot.ts"
import * as SharedTransactions from "./sharedTransactions.ts"
import * as Snapshot from "./snapshot.ts"
import * as Transactions from "./transactions.ts"

/** A claim and the lease on which it is put. */
export interface Entering {
  readonly at: PlaceInQueue
  readonly lease: LeaseTerms
}

/**
 * Wraps a request for several places. It puts nothing if the epoch is not the one that this process knows, or if one of the
 * claims has a tombstone: the answer then contains the epoch, and what `read` reads of each claim.
 *
 * All claims have one create revision, and so one place in the order of arrival and one fencing token. Their leases and their
 * queues are different ones, so no part of the transaction concerns another.
 */
const enteringAll = (
  epoch: Epoch,
  claims: ReadonlyArray<Entering>,
  compare: ReadonlyArray<ICompare>,
  success: ReadonlyArray<IRequestOp>,
  failure: ReadonlyArray<IRequestOp>
): Operation => {
  const [first, ...others] = claims.map(({ at: { claim } }) => claim)
  const request: ITxnRequest = {
    compare: [epochIs(epoch), ...claims.map(({ at }) => noTombstone(at)), ...compare],
    success: [...success],
    failure: [own(epoch.key), ...failure]
  }
  return {
    ...entering(first!, request),
    limit: Math.min(...claims.map(({ at }) => callLimit(at.claim))),
    others: others.map(({ id, key }) => ({ claim: id, key })),
    size: sizeOf(request)
  }
}

/** How much of the server's limit a transaction uses: the longest of its lists, and what the largest one inside it uses. */
const sizeOf = ({ compare = [], failure = [], success = [] }: ITxnRequest): number => {
  const inside = [...success, ...failure].map((one) =>
    "request_txn" in one ? sizeOf(one.request_txn as ITxnRequest) : 0
  )
  return Math.max(compare.length, success.length, failure.length) + Math.max(0, ...inside)
}

/**
 * Puts all claims in their queues, each as it would enter alone. The claims may have to wait, so the process needs its sign of
 * life: without it nothing is put.
 */
export const enterAll = (
  claims: ReadonlyArray<Entering>,
  epoch: Epoch,
  sign: LifeSign | undefined
): Operation => {
  const taking = ({ at, lease }: Entering): IRequestOp =>
    within(
      at.claim.kind === "mutex"
        ? Transactions.taking(at, lease, epoch, sign)
        : SharedTransactions.taking(at, lease, epoch)
    )
  return enteringAll(
    epoch,
    claims,
    sign === undefined ? [] : [present(sign.key)],
    claims.map(taking),
    [...claims.map(({ at }) => own(at.keyBytes)), ...(sign === undefined ? [] : [count(sign.key)])]
  )
}

/** Puts all claims only if nothing is in the way of any of them. Otherwise it reads what is. */
export const enterAllIfFree = (claims: ReadonlyArray<Entering>, epoch: Epoch): Operation => ({
  ...enteringAll(
    epoch,
    claims,
    claims.flatMap(({ at }) => ifFree(at)),
    claims.flatMap(({ at, lease }) => puts(at, lease, epoch)),
    claims.map(({ at }) =>
      within({
        success: [
          own(at.keyBytes),
          first(SharedTransactions.obstacles(at)),
          ...(at.claim.kind === "semaphore" ? [list(all(at.keys), 0n, 0)] : [])
        ]
      })
    )
  ),
  needsEmpty: true
})

/** A reader is not among its own obstacles, and a request that is executed twice may put the claim only once. */
const ifFree = (at: PlaceInQueue): ReadonlyArray<ICompare> => [
  empty(SharedTransactions.obstacles(at)),
  ...(isReader(at.claim) ? [absent(at.keyBytes)] : [])
]

/** Whether `enterAllIfFree` stays within the number of comparisons that a server allows by default. */
export const mayEnterIfFree = (claims: ReadonlyArray<PlaceInQueue>): boolean =>
  1 + claims.length + claims.flatMap(ifFree).length <= mostComparisons

const mostComparisons = 126

/** What an answer tells of one claim. */
export type Seen =
  | { readonly kind: "mutex"; readonly snapshot: Snapshot.QueueSnapshot }
  | { readonly kind: "shared"; readonly entry: Shared.Entry }

/** Reads the answer to a request that put all claims, or `enterAll`'s answer that it put none. */
export const readEntries = (
  response: ITxnResponse,
  claims: ReadonlyArray<PlaceInQueue>,
  base: bigint
): ReadonlyArray<Seen> =>
  claims.map(({ claim }, index): Seen => {
    const alone = answerFor(response, index)
    return claim.kind === "mutex"
      ? { kind: "mutex", snapshot: Snapshot.readSnapshot(alone, claim, base) }
      : { kind: "shared", entry: Shared.readEntry(alone, claim, base, question) }
  })

const question = { from: 0n, clearFrom: 0n, limit: SharedTransactions.mostListed }

/** The answer as a request for this claim alone would have got it. */
const answerFor = ({ header, responses, succeeded }: ITxnResponse, index: number): ITxnResponse => {
  const [epoch, ...rest] = responses
  if (!succeeded) return { header, succeeded, responses: [epoch!, rest[index]!] }
  // Claims that were put because nothing was in the way have no parts of their own in the answer.
  const isPut = responses.every(({ response_put }) => response_put)
  const put = responses[0]!
  return { header, succeeded, responses: [isPut ? put : responses[index]!] }
}

/** Whether the process's sign of life was missing, from an answer of `enterAll` that nothing was put. */
export const isUnsigned = ({ responses }: ITxnResponse, claims: number): boolean => {
  const sign = responses[claims + 1]?.response_range
  return sign !== undefined && Number(sign.count) === 0
}

/** What is in the way of one claim, from an answer of `enterAllIfFree` that nothing was put. */
export interface Obstacle {
  readonly own: bigint | undefined
  readonly base: bigint
  /** The first claim that is in the way, or would be if there were not enough permits. */
  readonly head: Snapshot.OtherClaim | undefined
  /** All claims of a semaphore. */
  readonly listing: Shared.Listing | undefined
}

export const readObstacles = (
  { header, responses }: ITxnResponse,
  claims: ReadonlyArray<PlaceInQueue>
): ReadonlyArray<Obstacle> =>
  claims.map(({ claim }, index) => {
    const part = responses[index + 1] as IRequestOp & { readonly response_txn?: ITxnResponse }
    const { header: _, responses: read } = part.response_txn!
    const [head] = read[1]!.response_range.kvs
    return {
      ...Snapshot.ownIn(read[0]!, claim),
      head: head && Snapshot.otherOf(head),
      listing: read[2] && Shared.listingOf(read[2], BigInt(header.revision), 0n, 0)
    }
  })
