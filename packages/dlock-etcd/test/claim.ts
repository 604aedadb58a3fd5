import { Duration, Effect } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import type { ITxnRequest } from "etcd3"

/** The telemetry of a port that a test implements. */
export const plainTelemetry = Effect.runSync(StoreTelemetry.make("etcd"))

/** A claim on a mutex, for a test that calls a store directly. */
export const claimOf = (ttl: number, guardGap: number): Claim => ({
  id: "a".repeat(22),
  key: "k",
  prefix: "",
  permits: 1,
  capacity: 1,
  ttl: Duration.millis(ttl),
  guardGap: Duration.millis(guardGap),
  holder: "me"
})

/** The etcd key that this request would put for a claim. */
export const placeIn = ({ success }: ITxnRequest): string => {
  const [first] = (success ?? []) as ReadonlyArray<
    NonNullable<ITxnRequest["success"]>[number] & { readonly request_txn?: ITxnRequest }
  >
  return first?.request_txn === undefined ? String(first?.request_put?.key) : placeIn(first.request_txn)
}
