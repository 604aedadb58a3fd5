import { LockBackendError } from "effect-dlock/LockError"
import { callBack } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type {
  ILeaseGrantResponse,
  ILeaseKeepAliveResponse,
  ILeaseTimeToLiveResponse,
  IOptions,
  ITxnResponse
} from "etcd3"
import { type CallFailure, fromClient, isClosed, isLasting, isOfMember, isUnsent, silent } from "./failure.ts"
import { connect, type Host } from "./host.ts"
import type { Port, Reply, WatchStream } from "./port.ts"
import { Shared } from "./shared.ts"

export interface ConnectionOptions {
  /** Where, as whom and with which certificates: everything else is set here. */
  readonly target: IOptions
  /** Milliseconds until the layer gives up. */
  readonly connectTimeout: number
  /** Milliseconds that one call may take, other hosts included. */
  readonly callLimit: number
}

/** Asks a host for something that must be over by the deadline, which is of the wall clock. */
type Make<A> = (host: Host, deadline: number) => Promise<A>

/** The hosts, of which we decide who is asked. Closed with the scope. */
export const open: (
  options: ConnectionOptions
) => Effect.Effect<Port, LockBackendError, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const { target } = options
  const addresses = typeof target.hosts === "string" ? [target.hosts] : target.hosts
  const hosts = yield* Effect.forEach(addresses, (address) => connect(target, address))
  const host = (): Host => hosts[current % hosts.length]!
  const fork = yield* FiberSet.makeRuntime<never>()
  let current = 0

  /** Milliseconds until then. */
  const leftUntil = (time: bigint): number => Number(time - clock.monotonicTimeNanosUnsafe()) / 1_000_000

  const pending = new Set<(failure: CallFailure) => void>()

  /** One call on one host. The promise is never left without somebody who hears of its failure. */
  const attempt = <A>(limit: number, make: Make<A>, isKept: boolean) =>
    Effect.callback<Reply<A>, CallFailure>((resume) => {
      const sentAt = clock.monotonicTimeNanosUnsafe()
      const over = () => {
        clearTimeout(timer)
        pending.delete(fail)
      }
      // Whoever waits runs on within this, and what an observer of theirs throws would be a rejection that nobody hears.
      const end = (answer: Exit.Exit<Reply<A>, CallFailure>) => {
        over()
        callBack(() => resume(answer))
      }
      const fail = (failure: CallFailure) => end(Exit.fail(failure))
      // A net: the transport has the deadline too.
      const timer = setTimeout(fail, limit + 50, silent)
      if (!isKept) pending.add(fail)
      // The wall clock, because that is what the transport counts by; it bounds a call, never a belief.
      const deadline = clock.currentTimeMillisUnsafe() + limit
      make(host(), deadline).then(
        (value) => end(Exit.succeed({ sentAt, value, doubled: false })),
        (error: unknown) => fail(fromClient(error))
      )
      return Effect.sync(over)
    })

  const mostTries = Math.max(2, hosts.length)

  /** While no host can be reached one looks for all. Who asks meanwhile waits for that, within their time. */
  let away: { readonly until: Shared<void, CallFailure>; readonly why: CallFailure } | undefined
  const lookOut = (until: Shared<void, CallFailure>): Effect.Effect<void> => {
    const look = Effect.suspend(() => {
      current++
      return attempt(lookLimit, (host, deadline) => host.call("KV", "txn", {}, { deadline }), false)
    })
    const isThere = Effect.match(look, { onSuccess: () => true, onFailure: ({ cause }) => !isUnsent(cause) })
    return Effect.flatMap(Effect.delay(isThere, lookPause), (found) => {
      if (!found) return lookOut(until)
      away = undefined
      return Effect.sync(() => until.end(Exit.void))
    })
  }
  /** Nobody waits any more. */
  let isAbandoned = false
  const beginLookOut = (why: CallFailure): void => {
    if (away !== undefined) return
    away = { until: new Shared(), why: { ...why, notDone: true } }
    fork(lookOut(away.until))
  }

  /**
   * The same, on the next host when this one fails or hangs; of one host, on a new connection. What was unknown before
   * stays unknown.
   */
  const call = <A>(
    make: Make<A>,
    limit = Infinity,
    isKept = false,
    onUnsent: () => void = () => {}
  ): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.suspend(() => {
      const within = Math.max(leastLimit, Math.min(limit, options.callLimit))
      const until = clock.monotonicTimeNanosUnsafe() + Duration.toNanosUnsafe(Duration.millis(within))
      if (away !== undefined) {
        const { until: found, why } = away
        if (isAbandoned) return Effect.fail(why)
        const back = Effect.timeoutOrElse(found.await, { duration: within, orElse: () => Effect.fail(why) })
        return Effect.flatMap(
          Effect.onInterrupt(back, () => Effect.sync(onUnsent)),
          () => call(make, leftUntil(until), isKept, onUnsent)
        )
      }
      const asked = current
      return Effect.catch(
        attempt(Math.max(20, within / mostTries), make, isKept),
        (failure) => again(make, until, failure, asked, isKept)
      )
    })

  const again = <A>(
    make: Make<A>,
    until: bigint,
    first: CallFailure,
    firstAsked: number,
    isKept: boolean
  ): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.gen(function*() {
      let failure = first
      let asked = firstAsked
      let unknown = false
      for (let tries = 2;; tries++) {
        unknown ||= !failure.notDone
        const isRefused = failure.notDone && !isOfMember(failure.cause) && !isUnsent(failure.cause)
        if (failure === isClosed || isRefused || tries > mostTries) {
          // What one member refuses, or leaves unanswered, is not to be asked of it next.
          if (!isRefused && failure !== isClosed && asked === current) current++
          if (isUnsent(failure.cause)) beginLookOut(failure)
          return yield* Effect.fail({ ...failure, notDone: !unknown })
        }
        if (asked === current) current++
        asked = current
        const left = leftUntil(until)
        const result = yield* Effect.result(attempt(Math.max(20, left / (mostTries - tries + 1)), make, isKept))
        if (result._tag === "Success") return { ...result.success, doubled: unknown }
        failure = result.failure
      }
    })

  const keepAlive = (id: string, limit?: number) =>
    call(
      (host, deadline) =>
        host.exchange("Lease", "leaseKeepAlive", { deadline }, (stream) =>
          new Promise<number>((resolve, reject) => {
            stream.on("data", (response: ILeaseKeepAliveResponse) => resolve(Number(response.TTL)))
            stream.on("error", reject)
            stream.on("end", () => reject(new Error("the stream ended without an answer")))
            stream.write({ ID: id })
          })),
      limit
    )

  const port: Port = {
    txn: (request, limit, onUnsent) =>
      call(
        (host, deadline) => host.call<ITxnResponse>("KV", "txn", request, { deadline }),
        limit,
        false,
        onUnsent
      ),
    grant: (id, seconds) =>
      call(
        (host, deadline) =>
          host.call<ILeaseGrantResponse>("Lease", "leaseGrant", { ID: id, TTL: seconds }, { deadline }),
        Infinity,
        true
      ).pipe(
        Effect.map((reply) => ({ ...reply, value: Number(reply.value.TTL) })),
        Effect.catchIf((failure) => /lease already exists/.test(failure.cause.message), () => keepAlive(id))
      ),
    isAway: () => away !== undefined,
    abandon: () => {
      isAbandoned = true
      away?.until.end(Exit.fail(isClosed))
      Array.from(pending).forEach((fail) => fail(isClosed))
    },
    revoke: (id) =>
      Effect.map(
        call((host, deadline) => host.call("Lease", "leaseRevoke", { ID: id }, { deadline })),
        (reply) => ({ ...reply, value: undefined })
      ),
    keepAlive,
    inspect: (id, limit) =>
      Effect.map(
        call((host, deadline) =>
          host.call<ILeaseTimeToLiveResponse>("Lease", "leaseTimeToLive", { ID: id, keys: true }, { deadline }), limit),
        (reply) => ({
          ...reply,
          value: {
            ttl: Number(reply.value.TTL),
            keys: reply.value.keys.map(String)
          }
        })
      ),
    watch: ({ onEnd, onResponse }) =>
      Effect.tryPromise({
        try: async (given): Promise<WatchStream> => {
          const stream = await host().open("Watch", "watch")
          // Nobody waits for it any more, and it would keep the process alive.
          if (given.aborted) stream.cancel()
          let ended = false
          const end = () => {
            if (ended) return
            ended = true
            onEnd()
          }
          stream.on("error", end)
          stream.on("end", end)
          stream.on("data", onResponse)
          return {
            send: (request) => {
              if (!ended) stream.write(request)
            },
            close: () => {
              ended = true
              // Ended first: the client takes the end of a stream that could still be written to for a failure of its
              // host, and would make all connections anew.
              stream.end()
              stream.cancel()
            }
          }
        },
        catch: fromClient
      }).pipe(Effect.timeoutOrElse({ duration: options.callLimit, orElse: () => Effect.fail(silent) }))
  }

  yield* reachable(port, options)
  return port
})

/** Milliseconds between two looks, and for how long each may take. */
const lookPause = 100
const lookLimit = 500

/** Below this a call is hopeless, whatever the time to live. */
const leastLimit = 50

/** A look at one key: unlike a request for nothing, a server with authentication does not answer it to just anybody. */
const probe = { success: [{ request_range: { key: Buffer.from("dlock"), keys_only: true } }] }

/** Waits until the server answers. That we may not look at that key is an answer too: it knows us. */
const reachable = (port: Port, options: ConnectionOptions): Effect.Effect<void, LockBackendError> => {
  let last: CallFailure = silent
  const failed = () =>
    Effect.fail(new LockBackendError({ operation: "connect", retryable: !isLasting(last.cause), cause: last.cause }))
  const ask: Effect.Effect<void, LockBackendError> = Effect.suspend(() =>
    Effect.matchEffect(port.txn(probe), {
      onSuccess: () => Effect.void,
      onFailure: (failure) => {
        if (/permission denied/.test(failure.cause.message)) return Effect.void
        last = failure
        return isLasting(failure.cause) ? failed() : Effect.delay(ask, "100 millis")
      }
    })
  )
  return Effect.timeoutOrElse(ask, { duration: options.connectTimeout, orElse: failed })
}
