/** The parts of which transactions are made. */

import { callLimit, type Claim } from "effect-dlock/LockStore"
import type { ICompare, IRequestOp, ITxnRequest } from "etcd3"
import { encode } from "./format.ts"
import type { ClaimKeys, LockKeys } from "./keys.ts"
import type { Operation } from "./operation.ts"

/** A claim and the etcd keys of its place in the queue, whether the claim is there or not. */
export interface PlaceInQueue extends ClaimKeys {
  readonly keys: LockKeys
  readonly claim: Claim
}

/** The lease that a claim is put on. */
export interface LeaseTerms {
  readonly id: string
  /** In milliseconds. */
  readonly ttl: number
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

/** The keys from `from` up to `to`, which is not among them. */
export interface Range {
  readonly from: Buffer
  readonly to: Buffer
}

/** All claims of a lock. */
export const all = ({ folder, folderEnd }: LockKeys): Range => ({ from: folder, to: folderEnd })

/** The claims of a lock that do not share it with readers. */
export const exclusive = ({ folder, readers }: LockKeys): Range => ({ from: folder, to: readers })

/** The readers, and the second keys of writers. */
export const sharing = ({ folderEnd, readers }: LockKeys): Range => ({ from: readers, to: folderEnd })

export const absent = (key: Buffer): ICompare => ({ key, target: "Create", result: "Equal", create_revision: 0 })

export const present = (key: Buffer): ICompare => ({ key, target: "Create", result: "Greater", create_revision: 0 })

export const createdAt = (key: Buffer, revision: bigint): ICompare => ({
  key,
  target: "Create",
  result: "Equal",
  create_revision: String(revision)
})

/** True if the key was created at that revision or before, or does not exist. */
export const createdBy = (key: Buffer, revision: bigint): ICompare => ({
  key,
  target: "Create",
  result: "Less",
  create_revision: String(revision + 1n)
})

/** True if no claim is in the range. */
export const empty = ({ from, to }: Range): ICompare => ({ ...absent(from), range_end: to }) as ICompare

/** True if no claim in the range was created after that revision. */
export const noneAfter = ({ from, to }: Range, revision: bigint): ICompare =>
  ({ ...createdBy(from, revision), range_end: to }) as ICompare

export const own = (key: Buffer): IRequestOp => ({ request_range: { key } })

export const count = (key: Buffer): IRequestOp => ({ request_range: { key, count_only: true } })

export const first = ({ from, to }: Range): IRequestOp => ({
  request_range: { key: from, range_end: to, sort_target: "Create", sort_order: "Ascend", limit: 1 }
})

export const last = ({ from, to }: Range, limit: number, before?: bigint): IRequestOp => ({
  request_range: {
    key: from,
    range_end: to,
    sort_target: "Create",
    sort_order: "Descend",
    limit,
    ...(before !== undefined && { max_create_revision: String(before - 1n) })
  }
})

export const everything = ({ from, to }: Range, limit = 0): IRequestOp => ({
  request_range: { key: from, range_end: to, sort_target: "Create", sort_order: "Ascend", ...(limit > 0 && { limit }) }
})

export const within = (request: ITxnRequest): IRequestOp => ({ request_txn: request }) as IRequestOp

/** Reads the names of claims in queue order: those created from the revision `since` on, and at `until` or before. */
export const list = ({ from, to }: Range, since: bigint, limit: number, until?: bigint): IRequestOp => ({
  request_range: {
    key: from,
    range_end: to,
    sort_target: "Create",
    sort_order: "Ascend",
    keys_only: true,
    ...(since > 0n && { min_create_revision: String(since) }),
    ...(until !== undefined && { max_create_revision: String(until) }),
    ...(limit > 0 && { limit })
  }
})

/** Puts a claim: one key, or the two keys of a writer. */
export const puts = (
  { claim, exclusiveKey, keyBytes }: PlaceInQueue,
  lease: LeaseTerms,
  { base }: Epoch,
  sign?: LifeSign
): ReadonlyArray<IRequestOp> => {
  const circumstances = { process: sign?.process, base, granted: lease.ttl }
  const put = (key: Buffer, value: Claim): IRequestOp => ({
    request_put: { key, value: encode(value, circumstances), lease: lease.id }
  })
  if (exclusiveKey === undefined) return [put(keyBytes, claim)]
  return [put(exclusiveKey, claim), put(keyBytes, { ...claim, permits: 1 })]
}

/** Deletes a claim with all its keys. */
export const deletes = ({ exclusiveKey, keyBytes }: PlaceInQueue): ReadonlyArray<IRequestOp> =>
  [keyBytes, ...(exclusiveKey === undefined ? [] : [exclusiveKey])].map((key) => ({ request_delete_range: { key } }))

// The operations of each urgency.

export const withdrawing = (claim: Claim, request: ITxnRequest): Operation => ({
  urgency: "withdraw",
  request,
  claim: claim.id,
  key: claim.key,
  limit: callLimit(claim)
})

export const looking = (claim: Claim, request: ITxnRequest): Operation => ({
  ...withdrawing(claim, request),
  urgency: "look"
})

export const entering = (claim: Claim, request: ITxnRequest): Operation => ({
  ...withdrawing(claim, request),
  urgency: "enter"
})

export const noTombstone = ({ claim, keys }: PlaceInQueue): ICompare => absent(keys.tombstone(claim.id))

/**
 * True in that epoch. The comparison uses the value and not its revision: a cluster that was restored from a snapshot and
 * raised again may have another base at the same revision.
 */
export const epochIs = ({ key, text }: Epoch): ICompare =>
  text === undefined ? absent(key) : { key, target: "Value", result: "Equal", value: Buffer.from(text) }

/**
 * Wraps every request for a place. The transaction puts nothing if the epoch is not the one that this process knows, or if the
 * claim has a tombstone. The answer then contains the epoch, and the claim if an earlier request put it.
 *
 * The epoch is compared in the transaction that puts the claim, and it only grows. Of two claims, the one that was put first
 * therefore has a base that is not higher, and tokens grow in queue order whenever the epoch is raised. A waiting claim keeps
 * its base.
 */
export const enteringIn = (epoch: Epoch, at: PlaceInQueue, request: ITxnRequest): Operation =>
  entering(at.claim, {
    compare: [epochIs(epoch), noTombstone(at)],
    success: [within(request)],
    failure: [own(epoch.key), own(at.keyBytes)]
  })
