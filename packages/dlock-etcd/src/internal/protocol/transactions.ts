/** The transactions by which claims enter their queues, are looked at, and are withdrawn. */

import { callLimit, type Claim } from "effect-dlock/LockStore"
import type { ICompare, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import { decode, encode } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import type { Operation } from "./operation.ts"
import { nearest, type OtherClaim, otherOf } from "./snapshot.ts"

/** Where a claim stands in its queue, or would stand. */
export interface PlaceInQueue {
  readonly keys: LockKeys
  readonly claim: Claim
  /** The etcd key of the claim. */
  readonly keyBytes: Buffer
}

/** A process, and the key that shows that it lives: without that key its claims may not wait. */
export interface LifeSign {
  readonly process: string
  readonly key: Buffer
}

/**
 * The token epoch of a prefix. Its base is added to the create revision of each claim that is put while it lasts: the sum is
 * the fencing token. It is raised where revisions alone would be lower than tokens that a fence has seen.
 */
export interface Epoch {
  readonly key: Buffer
  /** What stands at the key; absent where nothing does, and nothing is added. */
  readonly text: string | undefined
  readonly base: bigint
}

const absent = (key: Buffer): ICompare => ({ key, target: "Create", result: "Equal", create_revision: 0 })

/** True where the queue is empty. */
const empty = ({ folder, folderEnd }: LockKeys): ICompare => ({ ...absent(folder), range_end: folderEnd }) as ICompare

/** True where no claim has come to the queue since that revision. */
const noneAfter = ({ folder, folderEnd }: LockKeys, revision: bigint): ICompare =>
  ({
    key: folder,
    range_end: folderEnd,
    target: "Create",
    result: "Less",
    create_revision: String(revision + 1n)
  }) as ICompare

const first = ({ folder, folderEnd }: LockKeys): IRequestOp => ({
  request_range: { key: folder, range_end: folderEnd, sort_target: "Create", sort_order: "Ascend", limit: 1 }
})

const last = ({ folder, folderEnd }: LockKeys, limit: number, before?: bigint): IRequestOp => ({
  request_range: {
    key: folder,
    range_end: folderEnd,
    sort_target: "Create",
    sort_order: "Descend",
    limit,
    ...(before !== undefined && { max_create_revision: String(before - 1n) })
  }
})

const everything = ({ folder, folderEnd }: LockKeys): IRequestOp => ({
  request_range: { key: folder, range_end: folderEnd, sort_target: "Create", sort_order: "Ascend" }
})

const own = (key: Buffer): IRequestOp => ({ request_range: { key } })

const count = (key: Buffer): IRequestOp => ({ request_range: { key, count_only: true } })

/** For a mutex the claims right before it are enough. Permits are counted over all of the queue. */
const neighbours = (keys: LockKeys, claim: Claim): IRequestOp =>
  claim.capacity === 1 ? last(keys, nearest + 1) : everything(keys)

const put = ({ claim, keyBytes }: PlaceInQueue, lease: string, { base }: Epoch, sign?: LifeSign): IRequestOp => ({
  request_put: { key: keyBytes, value: encode(claim, sign?.process, base), lease }
})

const createdAt = (key: Buffer, revision: bigint): ICompare => ({
  key,
  target: "Create",
  result: "Equal",
  create_revision: String(revision)
})

const present = (key: Buffer): ICompare => ({ key, target: "Create", result: "Greater", create_revision: 0 })

// The operations of a claim, by urgency.

const withdrawing = (claim: Claim, request: ITxnRequest): Operation => ({
  urgency: "withdraw",
  request,
  claim: claim.id,
  key: claim.key,
  limit: callLimit(claim)
})
const looking = (claim: Claim, request: ITxnRequest): Operation => ({ ...withdrawing(claim, request), urgency: "look" })
const entering = (claim: Claim, request: ITxnRequest): Operation => ({
  ...withdrawing(claim, request),
  urgency: "enter"
})

const noTombstone = ({ claim, keys }: PlaceInQueue): ICompare => absent(keys.tombstone(claim.id))

/**
 * True in that epoch. The value is compared, not its revision: a cluster that was restored from a snapshot and raised again
 * may have another base at the same revision.
 */
const epochIs = ({ key, text }: Epoch): ICompare =>
  text === undefined ? absent(key) : { key, target: "Value", result: "Equal", value: Buffer.from(text) }

const within = (request: ITxnRequest): IRequestOp => ({ request_txn: request }) as IRequestOp

/**
 * All requests for a place are wrapped in this. It puts nothing where the epoch is not the one that this process knows, nor
 * where the claim has a tombstone. Then the answer tells the epoch, and whether the claim stands there from an earlier request.
 *
 * The epoch is compared in the transaction that puts the claim, and only grows. So of two claims the one that was put first
 * has no higher base than the other, and tokens grow in the order of the queue whenever the epoch is raised. A claim that
 * waits keeps its base.
 */
const enteringIn = (epoch: Epoch, at: PlaceInQueue, request: ITxnRequest): Operation =>
  entering(at.claim, {
    compare: [epochIs(epoch), noTombstone(at)],
    success: [within(request)],
    failure: [own(epoch.key), own(at.keyBytes)]
  })

const taking = (at: PlaceInQueue, lease: string, epoch: Epoch, sign: LifeSign | undefined): ITxnRequest => ({
  compare: [empty(at.keys)],
  success: [put(at, lease, epoch, sign)],
  failure: [within(takingBehind(at, lease, epoch, sign))]
})

const takingBehind = (at: PlaceInQueue, lease: string, epoch: Epoch, sign: LifeSign | undefined): ITxnRequest => {
  const around = [own(at.keyBytes), neighbours(at.keys, at.claim)]
  return {
    compare: [absent(at.keyBytes), ...(sign === undefined ? [] : [present(sign.key)])],
    success: [put(at, lease, epoch, sign), ...around],
    failure: sign === undefined ? around : [...around, count(sign.key)]
  }
}

/**
 * Takes a place, unless the claim has a tombstone, and reads the claims before it. Where the lock is free there are none to
 * read. A repeat changes nothing and finds the place that is there. A claim that would have to wait, and needs a sign of
 * life, is given no place without it.
 */
export const enter = (at: PlaceInQueue, lease: string, epoch: Epoch, sign?: LifeSign): Operation =>
  enteringIn(epoch, at, taking(at, lease, epoch, sign))

/**
 * Takes a place only if the queue is empty, and reads nothing: for the first claim of a process that has no sign of life yet, and
 * may need none.
 */
export const enterIfFree = (at: PlaceInQueue, lease: string, epoch: Epoch): Operation =>
  enteringIn(epoch, at, {
    compare: [empty(at.keys)],
    success: [put(at, lease, epoch)],
    failure: [own(at.keyBytes)]
  })

/**
 * The same as `enter` where others most likely wait: it does not ask whether the queue is empty. To find that out a server reads
 * every claim of the queue, as it does to find the claims before this one.
 */
export const enterToWait = (at: PlaceInQueue, lease: string, epoch: Epoch, sign: LifeSign | undefined): Operation =>
  enteringIn(epoch, at, takingBehind(at, lease, epoch, sign))

/**
 * The same, behind another claim of this process that stands in the queue: then the others need not be read. Where that one
 * has gone this is as `enter`.
 */
export const enterBehind = (
  at: PlaceInQueue,
  lease: string,
  epoch: Epoch,
  sign: LifeSign | undefined,
  another: PlaceInQueue,
  created: bigint
): Operation =>
  enteringIn(epoch, at, {
    compare: [
      createdAt(another.keyBytes, created),
      absent(at.keyBytes),
      ...(sign === undefined ? [] : [present(sign.key)])
    ],
    success: [put(at, lease, epoch, sign), count(another.keyBytes)],
    failure: [within(taking(at, lease, epoch, sign))]
  })

/** Takes the lock only if its queue is empty. */
export const enterIfEmpty = (at: PlaceInQueue, lease: string, epoch: Epoch): Operation => ({
  ...enteringIn(epoch, at, {
    compare: [empty(at.keys)],
    success: [put(at, lease, epoch)],
    failure: [own(at.keyBytes), neighbours(at.keys, at.claim)]
  }),
  needsEmpty: true
})

/** Takes a place only if no claim has come since the revision at which there was room. */
export const enterIfNobodyCame = (at: PlaceInQueue, lease: string, epoch: Epoch, since: bigint): Operation =>
  enteringIn(epoch, at, {
    compare: [noneAfter(at.keys, since)],
    success: [put(at, lease, epoch)],
    failure: [own(at.keyBytes), neighbours(at.keys, at.claim)]
  })

/** The epoch at the server, out of the answer to a request that was made for another epoch. */
export const epochIn = (response: ITxnResponse): { readonly text: string | undefined } | undefined =>
  response.succeeded ? undefined : { text: textIn(response) }

/** What stands at the first key that was read. */
export const textIn = ({ responses }: ITxnResponse): string | undefined =>
  responses[0]!.response_range.kvs[0]?.value.toString()

/** Reads the epoch. */
export const findEpoch = (key: Buffer): ITxnRequest => ({ success: [own(key)] })

/** Replaces an epoch by a higher one, if it is still there. */
export const raise = (from: Epoch, base: bigint): ITxnRequest => ({
  compare: [epochIs(from)],
  success: [{ request_put: { key: from.key, value: Buffer.from(String(base)) } }],
  failure: [own(from.key)]
})

/** Reads how a claim stands, or would stand; of a mutex at most `most` claims before it. */
export const look = ({ claim, keys, keyBytes }: PlaceInQueue, created: bigint, most = nearest): Operation =>
  looking(claim, {
    success: [
      own(keyBytes),
      claim.capacity === 1 && created > 0n ? last(keys, most, created) : neighbours(keys, claim)
    ]
  })

/** Asks whether a claim stands, and another one before it. A server answers that without a look at the rest of the queue. */
export const verify = ({ claim, keyBytes }: PlaceInQueue, created: bigint, before: OtherClaim): Operation =>
  looking(claim, { compare: [createdAt(keyBytes, created), createdAt(before.keyBytes, before.created)] })

/** Reads the claims from a revision on, in the order in which they came. */
export const lookOn = ({ claim, keys }: PlaceInQueue, from: bigint): Operation =>
  looking(claim, {
    success: [{
      request_range: {
        key: keys.folder,
        range_end: keys.folderEnd,
        sort_target: "Create",
        sort_order: "Ascend",
        min_create_revision: String(from),
        limit: mostListed
      }
    }]
  })

const mostListed = 512

/** Reads the answer to `lookOn`. */
export const listed = ({ header, responses }: ITxnResponse) => {
  const { kvs } = responses[0]!.response_range
  return { revision: BigInt(header.revision), found: kvs.map(otherOf), isWhole: kvs.length < mostListed }
}

/**
 * Ends a claim: deletes its key, if that has the known create revision, and puts a tombstone where a request may still
 * arrive. For a claim that waited it also reads the head of the queue, for an error that names the holder.
 */
export const withdraw = (
  { claim, keys, keyBytes }: PlaceInQueue,
  created: bigint | undefined,
  tombstoneLease: string | undefined,
  waited: boolean
): Operation => {
  const holder = waited ? [first(keys)] : []
  return withdrawing(claim, {
    compare: created === undefined
      ? []
      : [createdAt(keyBytes, created)],
    success: [
      { request_delete_range: { key: keyBytes } },
      ...holder,
      ...(tombstoneLease === undefined
        ? []
        : [{ request_put: { key: keys.tombstone(claim.id), value: Buffer.alloc(0), lease: tombstoneLease } }])
    ],
    failure: holder
  })
}

/**
 * Deletes a claim that was handed over to its successor, another claim of this process, while the successor still stands.
 * Where the successor has gone, this claim stays, and keeps the others out until the successor's section has ended.
 */
export const withdrawHandedOver = (
  { claim, keyBytes }: PlaceInQueue,
  created: bigint,
  successor: PlaceInQueue,
  itsCreated: bigint
): Operation => ({
  ...withdrawing(claim, {
    compare: [createdAt(keyBytes, created), createdAt(successor.keyBytes, itsCreated)],
    success: [{ request_delete_range: { key: keyBytes } }],
    failure: [own(keyBytes), own(successor.keyBytes)]
  }),
  isPatient: true
})

/** Reads the answer to `withdrawHandedOver`: which of the two claims still stands. */
export const readHandedOver = ({ responses, succeeded }: ITxnResponse, created: bigint, itsCreated: bigint) => {
  const stands = (index: number, at: bigint): boolean =>
    responses[index]?.response_range?.kvs.some(({ create_revision }) => BigInt(create_revision) === at) ?? false
  return { isDeleted: succeeded, isThere: stands(0, created), isSuccessorThere: succeeded || stands(1, itsCreated) }
}

/** Puts the key that shows that a process lives. */
export const showLife = (key: Buffer, lease: string): ITxnRequest => ({
  success: [{ request_put: { key, value: Buffer.alloc(0), lease } }]
})

/** Asks whether anything stands at a key. */
export const find = (key: Buffer): ITxnRequest => ({ success: [count(key)] })

/** Reads the answer to `find`. */
export const isThere = ({ responses }: ITxnResponse): boolean => Number(responses[0]!.response_range.count) > 0

/**
 * Deletes waiting claims of a dead process. None of them may be the head of the queue, so another claim must still stand
 * before them: a head may have been granted before its process fell silent, and others would be let in beside it.
 */
export const passOver = (
  { claim }: PlaceInQueue,
  dead: ReadonlyArray<OtherClaim>,
  before: OtherClaim,
  sign: Buffer
): Operation => ({
  ...withdrawing(claim, {
    compare: [
      ...dead.map(({ created, keyBytes }) => createdAt(keyBytes, created)),
      createdAt(before.keyBytes, before.created),
      absent(sign)
    ],
    success: dead.map(({ keyBytes }) => ({ request_delete_range: { key: keyBytes } }))
  }),
  claim: String(dead[0]!.keyBytes),
  isAlone: true
})

/** Puts a tombstone for a claim of which only the id is known, and reads the queue to find its place. */
export const withdrawById = (keys: LockKeys, id: string, tombstoneLease: string): ITxnRequest => ({
  success: [
    { request_put: { key: keys.tombstone(id), value: Buffer.alloc(0), lease: tombstoneLease } },
    everything(keys)
  ]
})

/** Reads the answer to `withdrawById`. */
export const readWithdrawalById = (
  response: ITxnResponse,
  id: string
): { readonly keyBytes: Buffer; readonly created: bigint } | undefined => {
  const kvs = response.responses.flatMap((one) => one.response_range ? one.response_range.kvs : [])
  const kv = kvs.find(({ value }) => decode(value).id === id)
  return kv && { keyBytes: kv.key, created: BigInt(kv.create_revision) }
}

/** Deletes some keys, whatever stands there. */
export const remove = (keys: ReadonlyArray<string>): ITxnRequest => ({
  success: keys.map((key) => ({ request_delete_range: { key: Buffer.from(key) } }))
})

/** Reads the answer to `withdraw`: whether anything was deleted, and who is the holder where that was asked. */
export const readWithdrawal = ({ responses }: ITxnResponse) => {
  const range = responses.find((one) => one.response_range)?.response_range
  const deleted = responses.find((one) => one.response_delete_range)?.response_delete_range
  const holder = range?.kvs[0]
  return {
    deleted: deleted !== undefined && Number(deleted.deleted) > 0,
    holder: holder && decode(holder.value).holder,
    length: Number(range?.count ?? 0)
  }
}
