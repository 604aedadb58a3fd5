/**
 * The Redis protocol. Each step is one script on keys of one slot, and is idempotent by the claim's id. This folder
 * knows nothing about clients.
 *
 * A claim's id is 22 characters of base64url. Each attempt to acquire has a new id, which is never used again after a
 * `release`. An inbox is the name of a channel, without `|`. Times are whole milliseconds on the server's clock: only
 * the server decides what has expired.
 */
export { acquire, type AcquireArgs, type AcquireReply } from "./acquire.ts"
export { confirm, type ConfirmArgs } from "./confirm.ts"
export { decodeNotification, type Notification } from "./notification.ts"
export { peek, type PeekArgs } from "./peek.ts"
export { type Failed, refresh, type RefreshArgs, type Refreshed, type RefreshReply } from "./refresh.ts"
export { release, type ReleaseArgs, type ReleaseReply, tombstoneTtl } from "./release.ts"
export { renew, type RenewArgs } from "./renew.ts"
export type { Busy, Call, Cancelled, Gone, Granted, Holder, Mismatch, Progress, Queued, Script } from "./script.ts"
