/** A transaction about a claim, or about several: the protocol makes it, and the client sends it. */

import type { ITxnRequest } from "etcd3"

/** What a transaction does. Withdrawals are sent first, because they let other claims in. Then come looks, then entries. */
export type Urgency = "withdraw" | "look" | "enter"

/** A transaction, and the rules for sending it in a batch. */
export interface Operation {
  readonly urgency: Urgency
  readonly request: ITxnRequest
  /** The id of the claim. A batch has at most one operation of a claim. */
  readonly claim: string
  /** The key of the lock. A batch puts at most one claim in the queue of a key. */
  readonly key: string
  /** The other claims, if the operation is about several. */
  readonly others?: ReadonlyArray<{ readonly claim: string; readonly key: string }>
  /** How many operations of the server's limit for a transaction it uses. Default: few. */
  readonly size?: number
  /** The operation checks that the queue is empty. It cannot share a batch with a withdrawal, whose effect it would not see. */
  readonly needsEmpty?: boolean
  /** No claim waits for the effect, so the operation may wait a moment to share a batch. */
  readonly isPatient?: boolean
  /** The operation is as large as a batch and is sent alone. If the server finds it too large, the size of batches stays. */
  readonly isAlone?: boolean
  /** How long the operation may take from its sending, in milliseconds. */
  readonly limit?: number
}
