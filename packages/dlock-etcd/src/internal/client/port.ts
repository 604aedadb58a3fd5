/** What the store asks of an etcd; the simulation and the tests have ports too. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Effect from "effect/Effect"
import type { ITxnRequest, ITxnResponse, IWatchRequest, IWatchResponse } from "etcd3"
import type { CallFailure } from "./failure.ts"

/** An answer, and `Clock.monotonicTimeNanos` of the moment before its request was handed over. */
export interface Reply<A> {
  readonly sentAt: bigint
  readonly value: A
  /** It was sent before, without an answer: that first request may yet be executed. */
  readonly doubled: boolean
}

type Call<A> = Effect.Effect<Reply<A>, CallFailure>

/** A lease as the server keeps it: seconds, and the keys that are on it. */
export interface LeaseState {
  /** Whole seconds, rounded down; negative where there is no such lease any more. */
  readonly ttl: number
  readonly keys: ReadonlyArray<string>
}

/** One stream of watches. It ends by `onEnd`, once, for whatever reason. */
export interface WatchStream {
  readonly send: (request: IWatchRequest) => void
  readonly close: () => void
}

/**
 * The calls that the store makes to an etcd. Each call goes to the host that answered last; one that fails or hangs is left for
 * the next within the call's limit: `limit` milliseconds, or the layer's own where that is less. Of one host, what a held lock
 * depends on is sent once more by a new connection; anything else has all its time for one sending. All that is asked through here may be done twice without harm.
 */
export interface Port {
  /** What its connections log, and the store. */
  readonly telemetry: StoreTelemetry
  /** Milliseconds that a call may take, whatever its own limit. */
  readonly longest: number
  /** `Clock.monotonicTimeNanos` of when the server last answered a call; absent where it never has. */
  readonly heardAt: () => bigint | undefined
  /** `onUnsent` is called when the caller was interrupted before anything was sent. */
  readonly txn: (request: ITxnRequest, limit?: number, onUnsent?: () => void) => Call<ITxnResponse>
  /** Grants a lease of our choosing; the seconds are the server's. A repeat finds it granted. Not abandoned. */
  readonly grant: (id: string, seconds: number) => Call<number>
  readonly revoke: (id: string) => Call<void>
  /** Can no host be reached? Then each call waits for one, within its limit, and is sent by itself. */
  readonly isAway: () => boolean
  /** Fails all calls that are under way, on closing. */
  readonly abandon: () => void
  /** Keeps a lease alive once, on a stream that ends with the answer. Zero where there is no such lease. */
  readonly keepAlive: (id: string, limit?: number) => Call<number>
  /**
   * The same on a stream that stays open for the next ones, sent once: for a lease on which no held lock depends. Many processes
   * that wait at one server send hundreds a second.
   */
  readonly keepAliveOnStream: (id: string, limit: number) => Call<number>
  readonly inspect: (id: string, limit?: number) => Call<LeaseState>
  readonly watch: (listeners: {
    readonly onResponse: (response: IWatchResponse) => void
    readonly onEnd: () => void
  }) => Effect.Effect<WatchStream, CallFailure>
}
