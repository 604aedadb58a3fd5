import { Duration, Effect } from "effect"
import { type Claim, readWriteCapacity } from "effect-dlock/LockStore"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import type { ITxnRequest } from "etcd3"

/** The telemetry of a port that a test implements. */
export const plainTelemetry = Effect.runSync(StoreTelemetry.make("etcd"))

/** A claim on a mutex, for a test that calls a store directly. */
export const claimOf = (ttl: number, guardGap: number): Claim => ({
  id: "a".repeat(22),
  key: "k",
  prefix: "",
  kind: "mutex",
  permits: 1,
  capacity: 1,
  ttl: Duration.millis(ttl),
  guardGap: Duration.millis(guardGap),
  holder: "me"
})

/** The etcd keys that a request would put for its claims, alone or in a batch. */
export const placesIn = ({ failure, success }: ITxnRequest): ReadonlyArray<string> =>
  [...success ?? [], ...failure ?? []].flatMap((one) => {
    const { request_put, request_txn } = one as typeof one & { readonly request_txn?: ITxnRequest }
    if (request_txn !== undefined) return placesIn(request_txn)
    return request_put === undefined ? [] : [String(request_put.key)]
  })

/** The etcd key that this request would put for a claim. */
export const placeIn = (request: ITxnRequest): string => placesIn(request)[0]!

let claims = 0

/** A claim on permits of the semaphore `k`. Every one has an id of its own. */
export const permitsOf = (
  permits: number,
  capacity: number,
  { key = "k", ttl = 30_000, ...options }: Partial<Omit<Claim, "ttl">> & { readonly ttl?: number } = {}
): Claim => ({
  ...claimOf(ttl, ttl / 9),
  id: `${process.pid}-${claims++}`.padEnd(22, "_"),
  key: `dlock:${key}`,
  prefix: "dlock:",
  kind: "semaphore",
  permits,
  capacity,
  ...options
})

/** A reader of the read-write lock `k`. */
export const readerOf = (options: { readonly key?: string; readonly ttl?: number } = {}): Claim =>
  permitsOf(1, readWriteCapacity, { ...options, kind: "readWrite" })

/** A writer of the read-write lock `k`. */
export const writerOf = (options: { readonly key?: string; readonly ttl?: number } = {}): Claim =>
  permitsOf(readWriteCapacity, readWriteCapacity, { ...options, kind: "readWrite" })
