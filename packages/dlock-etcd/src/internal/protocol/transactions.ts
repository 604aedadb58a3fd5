/** The transactions that put claims in queues, read the queues, and withdraw claims. */

import { callLimit, type Claim } from "effect-dlock/LockStore"
import type { ICompare, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import { decode, encode } from "./format.ts"
import type { LockKeys } from "./keys.ts"
import type { Operation } from "./operation.ts"
import { nearest, type OtherClaim, otherOf } from "./snapshot.ts"

/** A claim and the etcd keys of its place in the queue, whether the claim is there or not. */
export interface PlaceInQueue {
  readonly keys: LockKeys
  readonly claim: Claim
  /** The etcd key of the claim. */
  readonly keyBytes: Buffer
}

/** A process and the key that shows that it is alive. Without that key the claims of the process cannot wait. */
export interface LifeSign {
  readonly process: string
  readonly key: Buffer
}

/**
 * The token epoch of a prefix. The fencing token of a claim is its create revision plus the base of the epoch in which the
 * claim was put. The base is raised if revisions alone would give tokens below those that a protected resource has seen.
 */
export interface Epoch {
  readonly key: Buffer
  /** The value of the key. `undefined` if there is no such key: then the base is 0. */
  readonly text: string | undefined
  readonly base: bigint
}

const absent = (key: Buffer): ICompare => ({ key, target: "Create", result: "Equal", create_revision: 0 })

/** True if the queue is empty. */
const empty = ({ folder, folderEnd }: LockKeys): ICompare => ({ ...absent(folder), range_end: folderEnd }) as ICompare

/** True if no claim in the queue was created after that revision. */
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

/** Reads the other claims. For a mutex, the nearest ones are enough. Permits are counted over the whole queue. */
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

// The operations of each urgency.

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
 * True in that epoch. The comparison uses the value and not its revision: a cluster that was restored from a snapshot and
 * raised again may have another base at the same revision.
 */
const epochIs = ({ key, text }: Epoch): ICompare =>
  text === undefined ? absent(key) : { key, target: "Value", result: "Equal", value: Buffer.from(text) }

const within = (request: ITxnRequest): IRequestOp => ({ request_txn: request }) as IRequestOp

/**
 * Wraps every request for a place. The transaction puts nothing if the epoch is not the one that this process knows, or if the
 * claim has a tombstone. The answer then contains the epoch, and the claim if an earlier request put it.
 *
 * The epoch is compared in the transaction that puts the claim, and it only grows. Of two claims, the one that was put first
 * therefore has a base that is not higher, and tokens grow in queue order whenever the epoch is raised. A waiting claim keeps
 * its base.
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
 * Puts the claim in the queue, unless it has a tombstone, and reads the claims before it. If the lock is free, there are none
 * to read. A repeated request changes nothing and finds the claim. A claim that would have to wait gets no place if it needs a
 * sign of life and the sign is missing.
 */
export const enter = (at: PlaceInQueue, lease: string, epoch: Epoch, sign?: LifeSign): Operation =>
  enteringIn(epoch, at, taking(at, lease, epoch, sign))

/**
 * Puts the claim only if the queue is empty, and reads no other claims. It is for the first claim of a process without a sign
 * of life, which a free lock does not need.
 */
export const enterIfFree = (at: PlaceInQueue, lease: string, epoch: Epoch): Operation =>
  enteringIn(epoch, at, {
    compare: [empty(at.keys)],
    success: [put(at, lease, epoch)],
    failure: [own(at.keyBytes)]
  })

/**
 * Does the same as `enter`, if other claims probably wait: it does not compare whether the queue is empty. For that comparison
 * the server reads every claim of the queue, and it does so again to find the claims before this one.
 */
export const enterToWait = (at: PlaceInQueue, lease: string, epoch: Epoch, sign: LifeSign | undefined): Operation =>
  enteringIn(epoch, at, takingBehind(at, lease, epoch, sign))

/**
 * Puts the claim behind another claim of this process in the queue, so that the other claims do not have to be read. If that
 * claim is gone, this does the same as `enter`.
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

/** Acquires the lock only if the queue is empty. */
export const enterIfEmpty = (at: PlaceInQueue, lease: string, epoch: Epoch): Operation => ({
  ...enteringIn(epoch, at, {
    compare: [empty(at.keys)],
    success: [put(at, lease, epoch)],
    failure: [own(at.keyBytes), neighbours(at.keys, at.claim)]
  }),
  needsEmpty: true
})

/** Puts the claim only if no other claim came since the revision at which the permits were free. */
export const enterIfNobodyCame = (at: PlaceInQueue, lease: string, epoch: Epoch, since: bigint): Operation =>
  enteringIn(epoch, at, {
    compare: [noneAfter(at.keys, since)],
    success: [put(at, lease, epoch)],
    failure: [own(at.keyBytes), neighbours(at.keys, at.claim)]
  })

/** Reads the server's epoch from the answer to a request that was made for another epoch. */
export const epochIn = (response: ITxnResponse): { readonly text: string | undefined } | undefined =>
  response.succeeded ? undefined : { text: textIn(response) }

/** The value of the first key that was read. */
export const textIn = ({ responses }: ITxnResponse): string | undefined =>
  responses[0]!.response_range.kvs[0]?.value.toString()

/** Reads the epoch. */
export const findEpoch = (key: Buffer): ITxnRequest => ({ success: [own(key)] })

/** Replaces an epoch by a higher one, if the server still has the old one. */
export const raise = (from: Epoch, base: bigint): ITxnRequest => ({
  compare: [epochIs(from)],
  success: [{ request_put: { key: from.key, value: Buffer.from(String(base)) } }],
  failure: [own(from.key)]
})

/** Reads a claim and the claims before it: for a mutex at most `most` of them. */
export const look = ({ claim, keys, keyBytes }: PlaceInQueue, created: bigint, most = nearest): Operation =>
  looking(claim, {
    success: [
      own(keyBytes),
      claim.capacity === 1 && created > 0n ? last(keys, most, created) : neighbours(keys, claim)
    ]
  })

/** Checks that two claims are in the queue. The server answers this without reading the rest of the queue. */
export const verify = ({ claim, keyBytes }: PlaceInQueue, created: bigint, before: OtherClaim): Operation =>
  looking(claim, { compare: [createdAt(keyBytes, created), createdAt(before.keyBytes, before.created)] })

/** Reads the claims that were created at a revision or later, in queue order. */
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
 * Withdraws a claim: deletes its key if the create revision is the known one, and puts a tombstone if a request may still
 * arrive. For a claim that waited, it also reads the head of the queue, so that an error can name the holder.
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
 * Deletes a claim that handed its lock over to a successor of the same process, if the successor is still in the queue. If the
 * successor is gone, the claim stays and keeps other processes out until the successor's section has ended.
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

/** Reads the answer to `withdrawHandedOver`: which of the two claims are still in the queue. */
export const readHandedOver = ({ responses, succeeded }: ITxnResponse, created: bigint, itsCreated: bigint) => {
  const isInQueue = (index: number, at: bigint): boolean =>
    responses[index]?.response_range?.kvs.some(({ create_revision }) => BigInt(create_revision) === at) ?? false
  return {
    isDeleted: succeeded,
    isThere: isInQueue(0, created),
    isSuccessorThere: succeeded || isInQueue(1, itsCreated)
  }
}

/** Puts the key that shows that a process is alive. */
export const showLife = (key: Buffer, lease: string): ITxnRequest => ({
  success: [{ request_put: { key, value: Buffer.alloc(0), lease } }]
})

/** Checks which of some keys exist. */
export const find = (keys: ReadonlyArray<Buffer>): ITxnRequest => ({ success: keys.map(count) })

/** Reads the answer to `find`: whether each key exists. */
export const whichAreThere = ({ responses }: ITxnResponse): ReadonlyArray<boolean> =>
  responses.map(({ response_range }) => Number(response_range.count) > 0)

/**
 * Deletes waiting claims of a dead process, if another claim is still before them. None of them may be the head of the queue: a
 * head may have been granted before its process fell silent, and a second holder would be let in.
 */
export const passOver = (
  { claim }: PlaceInQueue,
  dead: ReadonlyArray<OtherClaim>,
  before: OtherClaim,
  signs: ReadonlyArray<Buffer>
): Operation => ({
  ...withdrawing(claim, {
    compare: [
      ...dead.map(({ created, keyBytes }) => createdAt(keyBytes, created)),
      createdAt(before.keyBytes, before.created),
      ...signs.map(absent)
    ],
    success: dead.map(({ keyBytes }) => ({ request_delete_range: { key: keyBytes } }))
  }),
  claim: String(dead[0]!.keyBytes),
  isAlone: true
})

/** Puts a tombstone for a claim of which only the id is known, and reads the queue to find the claim. */
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

/** Deletes keys, whatever their values and revisions are. */
export const remove = (keys: ReadonlyArray<string>): ITxnRequest => ({
  success: keys.map((key) => ({ request_delete_range: { key: Buffer.from(key) } }))
})

/** Reads the answer to `withdraw`: whether anything was deleted, and the holder if the request read it. */
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
