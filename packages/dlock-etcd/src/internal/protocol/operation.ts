import type { ITxnRequest } from "etcd3"

/** What is asked of the server about one claim, in the order in which it is sent: leaves free others. */
export type Urgency = "leave" | "look" | "enter"

/** A transaction of one claim. */
export interface Operation {
  readonly urgency: Urgency
  readonly request: ITxnRequest
  /** The claim that it is about: no two of one are in a batch. */
  readonly claim: string
  /** The queue that it is about: no two in a batch put a claim in one. */
  readonly folder: string
  /** It asks whether the queue is empty: not together with one that leaves it, which would be seen there still. */
  readonly needsEmpty?: boolean
  /** Nobody waits for what it frees: it may go with others that come in a moment. */
  readonly isPatient?: boolean
  /** It is as large as a batch: where a server refuses it for that, nothing is said of those. */
  readonly isAlone?: boolean
  /** Milliseconds from its sending. */
  readonly limit?: number
}
