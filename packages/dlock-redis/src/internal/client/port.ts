/** The interface between the store and a client of Redis. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Effect from "effect/Effect"
import type { Script } from "../protocol/index.ts"

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

/** Is told what becomes of the requests of one claim, as it happens. */
export interface Tally {
  /** The claim is being withdrawn, or has been: nothing more of it may be sent. */
  readonly isWithdrawn: boolean
  /** One is given to the socket, at this monotonic time. */
  noteSent(at: bigint): void
  /** Its reply has come, in time or not. What was refused has not run. */
  noteAnswered(hasRun: boolean): void
  /** Its reply has come, or is not waited for any more. */
  noteEnded(): void
}

/** Runs a command on a server outside any script. */
export type Ask = (command: string, ...args: ReadonlyArray<string>) => Effect.Effect<unknown, CallFailure>

/**
 * What the store needs of a Redis: scripts run in order on one connection to the server that holds their keys, and the
 * messages of one inbox. A call may be interrupted; its request is on its way all the same, and the tally is kept right
 * whenever its reply comes.
 */
export interface Port {
  /** What its connections log, and the store. */
  readonly telemetry: StoreTelemetry
  readonly run: <Args, A>(
    script: Script<Args, A>,
    args: Args,
    tally?: Tally,
    /** Milliseconds until it fails without a reply, where that is less than what any call may take. */
    limit?: number
  ) => Effect.Effect<Reply<A>, CallFailure>
  /** `Clock.monotonicTimeNanos` of when the server that holds a key last replied; absent where it never has. */
  readonly heardAt: (key: string) => bigint | undefined
  /** Whether the keys of one call must all be in one hash slot, as on a cluster. */
  readonly slotted: boolean
  /** The channel on which this process receives its notifications. */
  readonly inbox: string
  /** Calls back for each message on the inbox. */
  readonly onMessage: (listener: (message: string) => void) => void
  /** Calls back when messages or replies may have been missed: a connection was replaced. */
  readonly onReconnect: (listener: () => void) => void
  /** Calls back when we leave a server. If another takes its place, it may not know, and go on granting. */
  readonly onServerLeft: (listener: () => void) => void
  /** Asks whether the inbox is still subscribed, and reconnects it if not. */
  readonly probe: Effect.Effect<void>
  /** The servers that hold locks now: one, or each primary of a cluster. */
  readonly servers: () => ReadonlyArray<{ readonly name: string; readonly ask: Ask }>
  /**
   * Runs a script that writes, on a connection beside that of `run`, and then waits until `replicas` have what it wrote
   * and all before it, at most `limit` milliseconds. Others may wait for the same connection; nothing else does.
   */
  readonly replicated: <Args, A>(
    script: Script<Args, A>,
    args: Args,
    replicas: number,
    limit: number
  ) => Effect.Effect<{ readonly value: A; readonly replicas: number }, CallFailure>
}
