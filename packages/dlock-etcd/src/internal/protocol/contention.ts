/** The read that tells whether others wait behind a claim. */

import type { ITxnResponse } from "etcd3"
import { all, exclusive, list, looking, type PlaceInQueue, type Range } from "./clauses.ts"
import type { LockKeys } from "./keys.ts"
import type { Operation } from "./operation.ts"

/** The claims of a lock that may have to wait for a holder: for a reader only those that exclude readers. */
export const mayWait = (keys: LockKeys, isReader: boolean): Range => isReader ? exclusive(keys) : all(keys)

/**
 * Reads one claim that waits behind a claim which is held. It is not for semaphores, where a claim behind another need not
 * wait. A claim that keeps a reader waiting came after it, and whoever comes after a mutex or a writer waits.
 */
export const findBehind = (at: PlaceInQueue, created: bigint, isReader: boolean): Operation =>
  looking(at.claim, { success: [list(mayWait(at.keys, isReader), created + 1n, 1)] })

export const hasFound = ({ responses }: ITxnResponse): boolean => responses[0]!.response_range.kvs.length > 0
