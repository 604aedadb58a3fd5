/**
 * The Redis protocol. Each step is one script on keys of one slot, and is idempotent by the claim's id. This folder
 * knows nothing about clients.
 *
 * A claim's id is 22 characters of base64url. Each attempt to acquire has a new id, which is never used again after a
 * `release`. An inbox is the name of a channel, without `|` and `;`. Times are whole milliseconds on the server's clock: only
 * the server decides what has expired.
 */
export { breakHold, type BreakHoldArgs, type BreakHoldReply } from "./admin/breakHold.ts"
export { findHold, type FindHoldArgs, type FindHoldReply } from "./admin/findHold.ts"
export { inspect, type InspectArgs, type InspectReply } from "./admin/inspect.ts"
export { observe, type ObserveArgs } from "./admin/observe.ts"
export { revoke, type RevokeArgs } from "./admin/revoke.ts"
export type { ReleaseReply } from "./leaving.ts"
export { decodeNotification, type Notification } from "./notification.ts"
export { type Asked, type Mark, textOfMark } from "./revocation.ts"
export type {
  AlreadyHeld,
  Busy,
  Call,
  Cancelled,
  Gone,
  Granted,
  Holder,
  Mismatch,
  Progress,
  Queued,
  Revoked,
  Script,
  ScriptName,
  Token
} from "./script.ts"
export { acquire, type AcquireArgs, type AcquireReply } from "./scripts/acquire.ts"
export {
  acquireAll,
  type AcquireAllArgs,
  type AcquireAllReply,
  type Refusal,
  type Wanted
} from "./scripts/acquireAll.ts"
export { confirm, type ConfirmArgs } from "./scripts/confirm.ts"
export { count, type CountArgs } from "./scripts/count.ts"
export { peek, type PeekArgs } from "./scripts/peek.ts"
export { type Failed, refresh, type RefreshArgs, type Refreshed, type RefreshReply } from "./scripts/refresh.ts"
export { release, type ReleaseArgs, tombstoneTtl } from "./scripts/release.ts"
export { releaseAll, type ReleaseAllArgs } from "./scripts/releaseAll.ts"
export { renew, type RenewArgs, type RenewReply } from "./scripts/renew.ts"
export { run, type RunArgs, type RunFound, type RunPeriod, type RunReply } from "./scripts/run.ts"
export { shrink, type ShrinkArgs, type ShrinkReply } from "./scripts/shrink.ts"
export { waiting, type WaitingArgs } from "./scripts/waiting.ts"
