/** The calls that the store makes to etcd. The simulation and the tests implement this port too. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Effect from "effect/Effect"
import type { ITxnRequest, ITxnResponse, IWatchRequest, IWatchResponse } from "etcd3"
import type { CallFailure } from "./failure.ts"

/** An answer to a call. */
export interface Reply<A> {
  /** The `Clock.monotonicTimeNanos` just before the request was passed to the client. */
  readonly sentAt: bigint
  readonly value: A
  /** The request was sent before without an answer, and that first sending may still be executed. */
  readonly doubled: boolean
}

type Call<A> = Effect.Effect<Reply<A>, CallFailure>

/** The state of a lease at the server. */
export interface LeaseState {
  /** The seconds that are left, rounded down. Negative if the lease does not exist. */
  readonly ttl: number
  /** The keys that are on the lease. */
  readonly keys: ReadonlyArray<string>
}

/** One stream of watches. When the stream ends, for any reason, it calls `onEnd` once. */
export interface WatchStream {
  readonly send: (request: IWatchRequest) => void
  readonly close: () => void
}

/**
 * The calls that the store makes to etcd.
 *
 * Each call goes to the host that answered last. If that host fails or hangs, the call goes to the next host, within the call's
 * limit: `limit` milliseconds or `longest`, whichever is less. If there is only one host, a call on which a held lock depends
 * is sent once more on a new connection. Any other call has all its time for one sending. Every call may be executed twice
 * without harm.
 */
export interface Port {
  /** The log and metrics of the connections and of the store. */
  readonly telemetry: StoreTelemetry
  /** How long any call may take, in milliseconds, whatever its own limit. */
  readonly longest: number
  /** The `Clock.monotonicTimeNanos` of the server's latest answer. `undefined` if it has never answered. */
  readonly heardAt: () => bigint | undefined
  /** Sends a transaction. `onUnsent` is called if the caller was interrupted before anything was sent. */
  readonly txn: (request: ITxnRequest, limit?: number, onUnsent?: () => void) => Call<ITxnResponse>
  /**
   * Grants a lease under an id that the caller chose, and returns the seconds that the server granted. A repeated call keeps
   * the granted lease alive instead. `abandon` does not fail this call.
   */
  readonly grant: (id: string, seconds: number) => Call<number>
  /** Revokes a lease, and with it every key on the lease. */
  readonly revoke: (id: string) => Call<void>
  /** Whether no host can be reached. Each call then waits for a host within its limit, and is sent alone. */
  readonly isAway: () => boolean
  /** Fails all pending calls, when the store closes. */
  readonly abandon: () => void
  /** Keeps a lease alive once, on a stream that ends with the answer. Returns zero if there is no such lease. */
  readonly keepAlive: (id: string, limit?: number) => Call<number>
  /**
   * Keeps a lease alive once, on a shared stream that stays open. The request is sent once. It is for a lease on which no held
   * lock depends: many waiting processes send hundreds of these a second to one server.
   */
  readonly keepAliveOnStream: (id: string, limit: number) => Call<number>
  /** Reads the remaining seconds of a lease and the keys on it. */
  readonly inspect: (id: string, limit?: number) => Call<LeaseState>
  /** Reads the remaining seconds of a lease, rounded down. Negative if the lease does not exist. */
  readonly timeToLive: (id: string) => Call<number>
  /** Opens a stream for watches. */
  readonly watch: (listeners: {
    readonly onResponse: (response: IWatchResponse) => void
    readonly onEnd: () => void
  }) => Effect.Effect<WatchStream, CallFailure>
}
