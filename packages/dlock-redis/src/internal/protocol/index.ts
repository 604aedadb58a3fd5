/**
 * The Redis protocol: one script a step, on one key's slot, idempotent by the claim's id. Nothing here knows a client.
 *
 * A claim's id is 22 characters of base64url, new for each try to get the lock and never used again after a `release`. An
 * inbox is a channel name without `|`. Times are whole milliseconds of the server, which alone decides what has expired.
 */
export { acquire, type AcquireArgs, type AcquireReply } from "./acquire.ts"
export { confirm, type ConfirmArgs } from "./confirm.ts"
export { decodeNotification, type Notification } from "./notification.ts"
export { peek, type PeekArgs } from "./peek.ts"
export { type Failed, refresh, type RefreshArgs, type Refreshed, type RefreshReply } from "./refresh.ts"
export { release, type ReleaseArgs, type ReleaseReply, tombstoneTtl } from "./release.ts"
export { renew, type RenewArgs } from "./renew.ts"
export type { Busy, Call, Cancelled, Gone, Granted, Holder, Mismatch, Progress, Queued, Script } from "./script.ts"
