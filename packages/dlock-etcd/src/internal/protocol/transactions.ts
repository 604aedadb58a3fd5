/** The transactions that put claims in queues, read the queues, and withdraw claims. */

import type { ITxnRequest, ITxnResponse } from "etcd3"
import {
  absent,
  all,
  count,
  createdAt,
  createdBy,
  deletes,
  empty,
  enteringIn,
  type Epoch,
  epochIs,
  everything,
  first,
  last,
  type LeaseTerms,
  type LifeSign,
  looking,
  own,
  type PlaceInQueue,
  present,
  puts,
  withdrawing,
  within
} from "./clauses.ts"
import { decode } from "./format.ts"
import { demandOf, isWriter, type LockKeys } from "./keys.ts"
import type { Operation } from "./operation.ts"
import { nearest, type OtherClaim, otherOf } from "./snapshot.ts"

export type { Epoch, LeaseTerms, LifeSign, PlaceInQueue } from "./clauses.ts"

/** Puts a claim, or reads the claims before it. Part of `enter`. */
export const taking = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch, sign: LifeSign | undefined): ITxnRequest => ({
  compare: [empty(all(at.keys))],
  success: [...puts(at, lease, epoch, sign)],
  failure: [within(takingBehind(at, lease, epoch, sign))]
})

const takingBehind = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch, sign: LifeSign | undefined): ITxnRequest => {
  const around = [own(at.keyBytes), last(all(at.keys), nearest + 1)]
  return {
    compare: [absent(at.keyBytes), ...(sign === undefined ? [] : [present(sign.key)])],
    success: [...puts(at, lease, epoch, sign), ...around],
    failure: sign === undefined ? around : [...around, count(sign.key)]
  }
}

/**
 * Puts the claim in the queue, unless it has a tombstone, and reads the claims before it. If the lock is free, there are none
 * to read. A repeated request changes nothing and finds the claim. A claim that would have to wait gets no place if it needs a
 * sign of life and the sign is missing.
 */
export const enter = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch, sign?: LifeSign): Operation =>
  enteringIn(epoch, at, taking(at, lease, epoch, sign))

/**
 * Puts the claim only if the queue is empty, and reads no other claims. It is for the first claim of a process without a sign
 * of life, which a free lock does not need.
 */
export const enterIfFree = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch): Operation =>
  enteringIn(epoch, at, {
    compare: [empty(all(at.keys))],
    success: [...puts(at, lease, epoch)],
    failure: [own(at.keyBytes)]
  })

/**
 * Does the same as `enter`, if other claims probably wait: it does not compare whether the queue is empty. For that comparison
 * the server reads every claim of the queue, and it does so again to find the claims before this one.
 */
export const enterToWait = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch, sign: LifeSign | undefined): Operation =>
  enteringIn(epoch, at, takingBehind(at, lease, epoch, sign))

/**
 * Puts the claim behind another claim of this process in the queue, so that the other claims do not have to be read. If that
 * claim is gone, this does the same as `enter`.
 */
export const enterBehind = (
  at: PlaceInQueue,
  lease: LeaseTerms,
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
    success: [...puts(at, lease, epoch, sign), count(another.keyBytes)],
    failure: [within(taking(at, lease, epoch, sign))]
  })

/** Acquires the lock only if the queue is empty. */
export const enterIfEmpty = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch): Operation => ({
  ...enteringIn(epoch, at, {
    compare: [empty(all(at.keys))],
    success: [...puts(at, lease, epoch)],
    failure: [own(at.keyBytes), last(all(at.keys), nearest + 1)]
  }),
  needsEmpty: true
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

/** Reads a claim and the claims before it, at most `most` of them. */
export const look = ({ claim, keys, keyBytes }: PlaceInQueue, created: bigint, most = nearest): Operation =>
  looking(claim, {
    success: [
      own(keyBytes),
      created > 0n ? last(all(keys), most, created) : last(all(keys), nearest + 1)
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
 * Withdraws a claim: deletes its keys if the create revision is the known one, and puts a tombstone if a request may still
 * arrive. For a claim that waited, it also reads the head of the queue, so that an error can name the holder. The second key of
 * a writer goes even if somebody has deleted the first.
 */
export const withdraw = (
  at: PlaceInQueue,
  created: bigint | undefined,
  tombstoneLease: string | undefined,
  waited: boolean
): Operation => {
  const { claim, exclusiveKey, keys, keyBytes } = at
  const holder = waited ? [first(all(keys))] : []
  const rest = [
    ...holder,
    ...(tombstoneLease === undefined
      ? []
      : [{ request_put: { key: keys.tombstone(claim.id), value: Buffer.alloc(0), lease: tombstoneLease } }])
  ]
  const [deleted, itsSecond] = deletes(at)
  if (created === undefined) return withdrawing(claim, { success: [...deletes(at), ...rest] })
  if (exclusiveKey === undefined) {
    return withdrawing(claim, {
      compare: [createdAt(keyBytes, created)],
      success: [deleted!, ...rest],
      failure: holder
    })
  }
  return withdrawing(claim, {
    success: [
      within({ compare: [createdAt(keyBytes, created)], success: [deleted!] }),
      within({ compare: [createdBy(exclusiveKey, created)], success: [itsSecond!] }),
      ...rest
    ]
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
    everything(all(keys))
  ]
})

/** Reads the answer to `withdrawById`: the keys of the claim, and the one that excludes readers is last. */
export const readWithdrawalById = (response: ITxnResponse, id: string): ReadonlyArray<Found> => {
  const kvs = response.responses.flatMap((one) => one.response_range ? one.response_range.kvs : [])
  return kvs.filter(({ value }) => decode(value).id === id)
    .map(({ create_revision, key }) => ({ key, created: BigInt(create_revision) }))
    .toSorted((a, b) => Number(isOfWriter(a)) - Number(isOfWriter(b)))
}

interface Found {
  readonly key: Buffer
  readonly created: bigint
}

const isOfWriter = ({ key }: Found): boolean => isWriter(demandOf(key.toString()))

/** Deletes keys, whatever their values and revisions are. */
export const remove = (keys: ReadonlyArray<string>): ITxnRequest => ({
  success: keys.map((key) => ({ request_delete_range: { key: Buffer.from(key) } }))
})

/** Reads the answer to `withdraw`: whether the claim was deleted, and the holder if the request read it. */
export const readWithdrawal = ({ responses }: ITxnResponse) => {
  const range = responses.find((one) => one.response_range)?.response_range
  const inner = responses[0]?.response_txn
  const deleted = (inner?.responses ?? responses).find((one) => one.response_delete_range)?.response_delete_range
  const holder = range?.kvs[0]
  return {
    deleted: deleted !== undefined && Number(deleted.deleted) > 0,
    holder: holder && decode(holder.value).holder,
    length: Number(range?.count ?? 0)
  }
}
