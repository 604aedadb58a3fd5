/** The transactions that inspect locks, ask holders to leave, and take locks away. */

import type { IKeyValue, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import { createdAt, type Range } from "./clauses.ts"
import { layout } from "./format.ts"
import { type LockKeys, type Mark, marksOn, revocationBell } from "./keys.ts"

/**
 * Reads the names of some keys, in the order of their bytes. Unlike a read in queue order, this makes the server read no more
 * keys than it returns.
 */
export const readNames = ({ from, to }: Range, limit: number, revision?: bigint): IRequestOp => ({
  request_range: { key: from, range_end: to, keys_only: true, limit, ...at(revision) }
})

/** Reads keys with their values, in the order of their bytes. */
export const readSome = ({ from, to }: Range, limit: number): IRequestOp => ({
  request_range: { key: from, range_end: to, limit }
})

/** Reads one key, as it was at that revision. */
export const readKey = (key: Buffer, revision?: bigint): IRequestOp => ({ request_range: { key, ...at(revision) } })

const at = (revision: bigint | undefined) => revision === undefined ? {} : { revision: String(revision) }

/** What a read of several keys found, and how many keys the range has. */
export interface Found {
  readonly kvs: ReadonlyArray<IKeyValue>
  readonly count: number
}

export const readFound = ({ responses }: ITxnResponse): ReadonlyArray<Found> =>
  responses.map(({ response_range: { count, kvs } }) => ({ kvs, count: Number(count) }))

/** Who asked a holder to leave, and why. */
export interface Asking {
  readonly by: string
  readonly why?: string | undefined
}

/** A claim that is in a queue, as an admin found it. */
export interface FoundClaim {
  readonly key: Buffer
  readonly created: bigint
  readonly lease: string
}

/**
 * Marks a claim, if it is still in the queue, and rings the bell of the prefix. The mark is on the lease of the claim, so both end
 * with the process that holds it. `late`: marks on the claim that leave it more time.
 */
export const mark = (
  keys: LockKeys,
  prefix: string,
  claim: FoundClaim,
  grace: number,
  asking: Asking,
  bellLease: string,
  late: ReadonlyArray<Buffer>
): ITxnRequest => {
  const key = `${marksOn(keys, { claimKey: claim.key.toString(), created: claim.created })}${grace}`
  return {
    compare: [createdAt(claim.key, claim.created)],
    success: [
      { request_put: { key: Buffer.from(key), value: encode(asking), lease: claim.lease } },
      { request_put: { key: revocationBell(prefix), value: encode({ ...asking, mark: key }), lease: bellLease } },
      ...late.map((key) => ({ request_delete_range: { key } }))
    ]
  }
}

const encode = (value: Asking & { readonly mark?: string }): Buffer => Buffer.from(JSON.stringify({ layout, ...value }))

/** Reads the value of a mark or of the bell. */
export const decodeAsking = (value: Buffer): Asking & { readonly mark: string | undefined } => {
  let read: { readonly [Name in "by" | "mark" | "why"]?: unknown } | null = null
  try {
    read = JSON.parse(value.toString())
  } catch {
    // Another client wrote the value.
  }
  const text = (one: unknown): string | undefined => typeof one === "string" ? one : undefined
  return { by: text(read?.by) ?? "", why: text(read?.why), mark: text(read?.mark) }
}

/** Reads the values of marks. */
export const findMarks = (marks: ReadonlyArray<string>): ITxnRequest => ({
  success: marks.map((key) => readKey(Buffer.from(key)))
})

/** Deletes a claim with all its keys and marks, if it is still in the queue. */
export const deleteClaim = (
  keys: LockKeys,
  { created, exclusiveKey, key }: Pick<FoundClaim, "key" | "created"> & { readonly exclusiveKey: Buffer | undefined }
): ITxnRequest => {
  const { from, to } = marksOf(keys, { claimKey: key.toString(), created })
  const all = exclusiveKey === undefined ? [key] : [key, exclusiveKey]
  return {
    compare: all.map((key) => createdAt(key, created)),
    success: [
      ...all.map((key) => ({ request_delete_range: { key } })),
      { request_delete_range: { key: from, range_end: to } }
    ]
  }
}

/** The marks on a claim. */
export const marksOf = (keys: LockKeys, claim: Omit<Mark, "grace">): Range => {
  const marks = marksOn(keys, claim)
  return { from: Buffer.from(marks), to: Buffer.from(`${marks.slice(0, -1)}\x01`) }
}

/** The keys that begin with these bytes. The range of all keys if there are none. */
export const beginningWith = (bytes: Buffer): Range => {
  if (bytes.length === 0) return { from: Buffer.from([0]), to: Buffer.from([0]) }
  // A text as UTF-8 has no byte above 0xf4.
  const to = Buffer.from(bytes)
  to[to.length - 1]!++
  return { from: bytes, to }
}

export const after = (key: Buffer): Buffer => Buffer.concat([key, Buffer.from([0])])
