/** The transactions that put shared claims in queues and read the queues: claims of semaphores and of read-write locks. */

import type { ICompare, IRequestOp, ITxnRequest } from "etcd3"
import {
  absent,
  all,
  count,
  createdAt,
  empty,
  enteringIn,
  type Epoch,
  everything,
  exclusive,
  first,
  last,
  type LeaseTerms,
  list,
  looking,
  noneAfter,
  own,
  type PlaceInQueue,
  puts,
  type Range,
  sharing,
  withdrawing,
  within
} from "./clauses.ts"
import { encode } from "./format.ts"
import { isReader, isWriter, type LockKeys } from "./keys.ts"
import type { Operation } from "./operation.ts"

/**
 * The claims of which a shared claim must know: for a semaphore all of them, for a read-write lock those that exclude readers.
 * Of the readers nobody reads more than the nearest.
 */
const known = ({ claim, keys }: PlaceInQueue): Range => claim.kind === "readWrite" ? exclusive(keys) : all(keys)

/** The claims behind which a claim waits. */
export const obstacles = ({ claim, keys }: PlaceInQueue): Range => isReader(claim) ? exclusive(keys) : all(keys)

/** How many claims one answer lists at most. */
export const mostListed = 512

/** Puts a claim, or lists the claims before it. Part of `enter`. */
export const taking = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch): ITxnRequest => ({
  // A reader is not among its own obstacles, and a request that is executed twice may put the claim only once.
  compare: [empty(obstacles(at)), absent(at.keyBytes)],
  success: [...puts(at, lease, epoch)],
  failure: [within(takingBehind(at, lease, epoch))]
})

const takingBehind = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch): ITxnRequest => {
  const around = [first(all(at.keys)), list(known(at), 0n, mostListed)]
  return {
    compare: [absent(at.keyBytes)],
    success: [...puts(at, lease, epoch), ...around],
    failure: [own(at.keyBytes), ...around]
  }
}

/**
 * Puts the claim in the queue, unless it has a tombstone, and lists the claims. If nothing is in the way, there is nothing to
 * list.
 */
export const enter = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch): Operation =>
  enteringIn(epoch, at, taking(at, lease, epoch))

/** The claims that a process knows. */
export interface Known {
  /** Those created up to this revision are known. */
  readonly upTo: bigint
  /**
   * The last of them. While it is in the queue, the server was not restored, after which its revisions would mean something
   * else.
   */
  readonly last: { readonly key: string; readonly created: bigint }
}

const lastPresent = ({ last: { created, key } }: Known): ICompare => createdAt(Buffer.from(key), created)

/** Puts the claim in the queue, and lists only the claims that are not known. If the last known claim is gone, it lists all. */
export const enterKnowing = (at: PlaceInQueue, lease: LeaseTerms, epoch: Epoch, others: Known): Operation =>
  enteringIn(epoch, at, {
    compare: [absent(at.keyBytes), lastPresent(others)],
    success: [...puts(at, lease, epoch), first(all(at.keys)), list(known(at), others.upTo + 1n, mostListed)],
    failure: [within(takingBehind(at, lease, epoch))]
  })

/** Puts the claim behind another waiting claim of this process. Until that one has its turn, nothing need be listed. */
export const enterBehind = (
  at: PlaceInQueue,
  lease: LeaseTerms,
  epoch: Epoch,
  another: PlaceInQueue,
  created: bigint
): Operation =>
  enteringIn(epoch, at, {
    compare: [createdAt(another.keyBytes, created), absent(at.keyBytes)],
    success: [...puts(at, lease, epoch), count(another.keyBytes)],
    failure: [within(taking(at, lease, epoch))]
  })

/**
 * Puts the claim only if it has its permits: if no claim is in its way but known ones that leave enough permits. Otherwise it
 * lists all claims, if it is a semaphore's.
 */
export const enterIfInside = (
  at: PlaceInQueue,
  lease: LeaseTerms,
  epoch: Epoch,
  others: Known | undefined
): Operation => ({
  ...enteringIn(epoch, at, {
    compare: [
      absent(at.keyBytes),
      noneAfter(obstacles(at), others?.upTo ?? 0n),
      ...(others === undefined ? [] : [lastPresent(others)])
    ],
    success: [...puts(at, lease, epoch)],
    failure: [
      own(at.keyBytes),
      first(all(at.keys)),
      ...(at.claim.kind === "semaphore" ? [list(all(at.keys), 0n, 0)] : [])
    ]
  }),
  needsEmpty: true
})

/**
 * Reads a claim and lists the claims that may be before it, to the last of them or, without `until`, all. For a writer it also
 * reads the name of the reader right before it.
 */
export const look = (at: PlaceInQueue, created: bigint, until: bigint | undefined): Operation =>
  looking(at.claim, {
    success: [
      own(at.keyBytes),
      list(known(at), 0n, mostListed, until),
      ...(isWriter(at.claim) ? [nearestReader(at, created)] : [])
    ]
  })

const nearestReader = ({ keys }: PlaceInQueue, created: bigint): IRequestOp => {
  const { request_range } = last(sharing(keys), 1, created)
  return { request_range: { ...request_range, keys_only: true } } as IRequestOp
}

/** Lists the claims that are not known, or all if the last known claim is gone. */
export const lookOn = (at: PlaceInQueue, others: Known): Operation =>
  looking(at.claim, {
    compare: [lastPresent(others)],
    success: [list(known(at), others.upTo + 1n, mostListed)],
    failure: [list(known(at), 0n, mostListed)]
  })

/** Checks that a claim is in the queue. `withExclusiveKey`: with the key by which a writer excludes readers. */
export const check = (
  { claim, exclusiveKey, keyBytes }: PlaceInQueue,
  created: bigint,
  withExclusiveKey: boolean
): Operation =>
  looking(claim, {
    compare: [
      createdAt(keyBytes, created),
      ...(exclusiveKey === undefined || !withExclusiveKey ? [] : [createdAt(exclusiveKey, created)])
    ]
  })

/** Reads the head of the queue, to tell why a claim is not in it any more. */
export const findHead = ({ claim, keys }: PlaceInQueue): Operation => looking(claim, { success: [first(all(keys))] })

/** Lists all claims of a lock. */
export const listAll = ({ claim, keys }: PlaceInQueue): Operation =>
  looking(claim, { success: [list(all(keys), 0n, 0)] })

/** Reads the first claims of a lock, with their values. */
export const readQueue = (keys: LockKeys, limit: number): ITxnRequest => ({ success: [everything(all(keys), limit)] })

/** Reads the values of claims. */
export const readValues = ({ claim }: PlaceInQueue, names: ReadonlyArray<string>): Operation =>
  looking(claim, { success: names.map((name) => own(Buffer.from(name))) })

/**
 * Leaves a claim fewer permits. A writer deletes the key that excludes readers. A semaphore's claim is put again: its create
 * revision stays, and with it the place and the token. Watches on a queue report deletions only, so the bell tells the others.
 */
export const shrink = (
  at: PlaceInQueue,
  created: bigint,
  permits: number,
  lease: LeaseTerms,
  base: bigint
): Operation => {
  const { claim, exclusiveKey, keyBytes, keys } = at
  const value = encode({ ...claim, permits }, { process: undefined, base, granted: lease.ttl })
  return withdrawing(claim, {
    compare: [createdAt(keyBytes, created)],
    success: exclusiveKey !== undefined
      ? [{ request_delete_range: { key: exclusiveKey } }]
      : [
        { request_put: { key: keyBytes, value, lease: lease.id } },
        { request_put: { key: keys.bell, value: Buffer.alloc(0), lease: lease.id } }
      ]
  })
}
