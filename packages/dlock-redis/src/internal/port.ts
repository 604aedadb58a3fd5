import type * as Effect from "effect/Effect"
import type { Script } from "./scripts.ts"

/** A reply, and `Clock.monotonicTimeNanos` of the moment before its request was handed to the socket. */
export interface Reply<A> {
  readonly sentAt: bigint
  readonly value: A
}

/**
 * A call that brought no reply. The script may have run, and may yet run, unless `notDone`: it was never sent, or the
 * server refused it before it could start.
 */
export interface CallFailure {
  readonly _tag: "CallFailure"
  readonly notDone: boolean
  /** Whether the same call may succeed in a moment. */
  readonly retryable: boolean
  readonly cause: Error
}

/** Requests of one claim that were sent and of which it is not known whether they have run. */
export interface Tally {
  unanswered: number
}

/**
 * What the store needs of a Redis: scripts run on one connection, in order, and the messages of one inbox. A call may be
 * interrupted; its request is on its way all the same, and the tally is kept right whenever its reply comes.
 */
export interface Port {
  readonly run: <Args, A>(script: Script<Args, A>, args: Args, tally?: Tally) => Effect.Effect<Reply<A>, CallFailure>
  /** The channel on which this process hears of its grants. */
  readonly inbox: string
  /** Calls back for each message on the inbox. */
  readonly onMessage: (listener: (message: string) => void) => void
  /** Calls back when messages or replies may have been missed: a connection was made anew. */
  readonly onReconnect: (listener: () => void) => void
  /** Asks whether the inbox still hears, and makes its connection anew if not. */
  readonly probe: Effect.Effect<void>
}
