/** The interface between the store and a Redis client. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Effect from "effect/Effect"
import type { Script } from "../protocol/index.ts"

/** A reply, and `Clock.monotonicTimeNanos` from the moment before its request was written to the socket. */
export interface Reply<A> {
  readonly sentAt: bigint
  readonly value: A
}

/**
 * A call without a usable reply. If `notDone` is true, the request was not sent, or the server refused it before the
 * script started. Otherwise the script may have run, or may still run.
 */
export interface CallFailure {
  readonly _tag: "CallFailure"
  readonly notDone: boolean
  /** Whether the same call may succeed soon. */
  readonly retryable: boolean
  readonly cause: Error
}

/** Receives what happens to the requests of one claim. */
export interface Tally {
  /** Whether the claim is being withdrawn or was withdrawn. If so, no request of it may be sent any more. */
  readonly isWithdrawn: boolean
  /** A request was written to the socket, at this monotonic time. */
  noteSent(at: bigint): void
  /** The reply to a request has come, in time or late. `hasRun` is false if the server refused the request. */
  noteAnswered(hasRun: boolean): void
  /** The reply to a request has come, or the port has stopped waiting for it. */
  noteEnded(): void
}

/** Runs a command on a server outside any script. */
export type Ask = (command: string, ...args: ReadonlyArray<string>) => Effect.Effect<unknown, CallFailure>

/**
 * What the store needs from Redis: scripts that run in order on one connection to the server that holds their keys, and
 * the messages of one inbox. Interrupting a call does not stop its request. The tally is updated whenever the reply
 * comes.
 */
export interface Port {
  /** Logs and metrics of the connections and of the store. */
  readonly telemetry: StoreTelemetry
  readonly run: <Args, A>(
    script: Script<Args, A>,
    args: Args,
    tally?: Tally,
    /** Milliseconds until the call fails without a reply, if that is less than the limit of every call. */
    limit?: number
  ) => Effect.Effect<Reply<A>, CallFailure>
  /**
   * `Clock.monotonicTimeNanos` of the last reply from the server that holds a key, or `undefined` before its first
   * reply.
   */
  readonly heardAt: (key: string) => bigint | undefined
  /** The hash slot of a key on a cluster, where all keys of one call must be in one slot. Absent without slots. */
  readonly slotOf?: (key: string) => number
  /** The channel on which this process receives its notifications. */
  readonly inbox: string
  /** Registers a listener for the messages on the inbox. */
  readonly onMessage: (listener: (message: string) => void) => void
  /**
   * Registers a listener that runs when a connection was replaced, because messages or replies may have been missed.
   */
  readonly onReconnect: (listener: () => void) => void
  /**
   * Registers a listener that runs when we leave a server. If another server takes its place, the old one may not know,
   * and may go on granting locks.
   */
  readonly onServerLeft: (listener: () => void) => void
  /** Checks that the inbox is still subscribed, and reconnects it if not. */
  readonly probe: Effect.Effect<void>
  /** The servers that hold locks now: one server, or every primary of a cluster. */
  readonly servers: () => ReadonlyArray<{ readonly name: string; readonly ask: Ask }>
  /**
   * Runs a script that writes, on a separate connection from `run`. Then waits until `replicas` have that write and
   * every earlier one, at most `limit` milliseconds. Other calls of `replicated` may wait for the same connection, but
   * no other calls.
   */
  readonly replicated: <Args, A>(
    script: Script<Args, A>,
    args: Args,
    replicas: number,
    limit: number
  ) => Effect.Effect<{ readonly value: A; readonly replicas: number }, CallFailure>
}
