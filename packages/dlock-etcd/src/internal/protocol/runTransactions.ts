/** The transactions that read and write the records of runs. */

import type { RunOutcome, RunRecord } from "effect-dlock/LockStore"
import type { IKeyValue, ITxnRequest, ITxnResponse } from "etcd3"
import { createdAt, own, type PlaceInQueue } from "./clauses.ts"
import { layout } from "./format.ts"
import type { LockKeys } from "./keys.ts"

/** The value of a record: the last run of a job. */
export interface RunValue extends RunRecord {
  /** The claim of the run. */
  readonly id: string
  /** Whether a run counts, of all that the record tells of. */
  readonly isCounted: boolean
}

/** A record as it is at the server, and the lease that it is on, if any. */
export interface StoredRun {
  readonly value: RunValue
  readonly lease: string | undefined
}

/** Reads the records of a key: that of slots, and that of an interval. */
export const findRuns = ({ record }: LockKeys): ITxnRequest => ({
  success: [own(record("Slot")), own(record("Interval"))]
})

/** Reads one record, if the claim is in the queue. */
export const findRunOf = ({ keyBytes }: PlaceInQueue, created: bigint, record: Buffer): ITxnRequest => ({
  compare: [createdAt(keyBytes, created)],
  success: [own(record)]
})

/** Writes a record, if the claim is in the queue. */
export const writeRun = (
  { keyBytes }: PlaceInQueue,
  created: bigint,
  record: Buffer,
  value: RunValue,
  lease: string | undefined
): ITxnRequest => ({
  compare: [createdAt(keyBytes, created)],
  success: [{ request_put: { key: record, value: encode(value), ...(lease !== undefined && { lease }) } }]
})

const encode = ({ slot, ...value }: RunValue): Buffer =>
  Buffer.from(JSON.stringify({ layout, ...value, ...(slot !== undefined && { slot: String(slot) }) }))

/** Reads the records in an answer, in the order in which they were asked for. A record of a newer version is `newer`. */
export const readRuns = ({ responses }: ITxnResponse): ReadonlyArray<StoredRun | "newer" | undefined> =>
  responses.map(({ response_range }) => read(response_range.kvs[0]))

const read = (found: IKeyValue | undefined): StoredRun | "newer" | undefined => {
  if (found === undefined) return undefined
  let parsed: Partial<Record<keyof RunValue | "layout", unknown>> | undefined
  try {
    parsed = JSON.parse(found.value.toString())
  } catch {
    // Another program wrote the key.
  }
  if (parsed?.layout !== layout || !isWhole(parsed)) return "newer"
  return {
    lease: String(found.lease) === "0" ? undefined : String(found.lease),
    value: {
      id: String(parsed.id),
      isCounted: parsed.isCounted === true,
      slot: typeof parsed.slot === "string" ? BigInt(parsed.slot) : undefined,
      startedAt: Number(parsed.startedAt),
      endedAt: parsed.endedAt === undefined ? undefined : Number(parsed.endedAt),
      outcome: parsed.outcome as RunOutcome | undefined,
      holder: String(parsed.holder)
    }
  }
}

/** Whether the fields are such as this library writes. */
const isWhole = ({ endedAt, slot, startedAt }: Partial<Record<keyof RunValue, unknown>>): boolean =>
  (slot === undefined || (typeof slot === "string" && /^\d{1,19}$/.test(slot))) && isTime(startedAt) &&
  (endedAt === undefined || isTime(endedAt))

/** Whether it is a time that a `Date` can have. */
const isTime = (value: unknown): boolean => typeof value === "number" && Math.abs(value) <= 8.64e15
