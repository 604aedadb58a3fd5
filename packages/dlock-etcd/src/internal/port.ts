import type * as Effect from "effect/Effect"
import type { ITxnRequest, ITxnResponse, IWatchRequest, IWatchResponse } from "etcd3"
import type { CallFailure } from "./failure.ts"

/** An answer, and `Clock.monotonicTimeNanos` of the moment before its request was handed over. */
export interface Reply<A> {
  readonly sentAt: bigint
  readonly value: A
}

type Call<A> = Effect.Effect<Reply<A>, CallFailure>

/** A lease as the server keeps it: seconds, and the keys that are on it. */
export interface LeaseState {
  /** Zero or less: there is no such lease any more. */
  readonly ttl: number
  readonly keys: ReadonlyArray<string>
}

/** One stream of watches. It ends by `onEnd`, once, for whatever reason. */
export interface WatchStream {
  readonly send: (request: IWatchRequest) => void
  readonly close: () => void
}

/**
 * What the store needs of an etcd. Each call goes to the host that answered last; one that fails or hangs is left for
 * the next within the call's limit. All that is asked through here may be done twice without harm.
 */
export interface Port {
  readonly txn: (request: ITxnRequest) => Call<ITxnResponse>
  /** Grants a lease of our choosing; the seconds are the server's. A repeat finds it granted. */
  readonly grant: (id: string, seconds: number) => Call<number>
  readonly revoke: (id: string) => Call<void>
  /** Keeps a lease alive once, on a stream of its own that is over with the answer. Zero where there is none. */
  readonly keepAlive: (id: string) => Call<number>
  readonly inspect: (id: string) => Call<LeaseState>
  readonly watch: (listeners: {
    readonly onResponse: (response: IWatchResponse) => void
    readonly onEnd: () => void
  }) => Effect.Effect<WatchStream, CallFailure>
}
