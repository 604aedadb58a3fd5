/** One transaction about one claim, as the protocol makes it and the client sends it. */

import type { ITxnRequest } from "etcd3"

/** What a transaction does for its claim. Withdrawals are sent first, since they let others in; then looks, then entries. */
export type Urgency = "withdraw" | "look" | "enter"

/** A transaction of one claim, and how it may be sent together with those of others. */
export interface Operation {
  readonly urgency: Urgency
  readonly request: ITxnRequest
  /** The id of the claim that it is about: a batch has at most one operation of a claim. */
  readonly claim: string
  /** The key of the lock that it is about: a batch puts at most one claim in the queue of a key. */
  readonly key: string
  /** It asks whether the queue is empty. It does not go together with a withdrawal from it, which it would not see. */
  readonly needsEmpty?: boolean
  /** Nobody waits for its effect, so it may wait a moment for others to go with. */
  readonly isPatient?: boolean
  /** It is as large as a batch, and is sent alone. Where a server finds it too large, batches stay as large as they are. */
  readonly isAlone?: boolean
  /** How many milliseconds it may take, from its sending. */
  readonly limit?: number
}
