/** The port to an etcd cluster. */

import { LockBackendError } from "effect-dlock/LockError"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type {
  ILeaseGrantResponse,
  ILeaseKeepAliveResponse,
  ILeaseTimeToLiveResponse,
  IOptions,
  IRequestOp,
  ITxnRequest,
  ITxnResponse
} from "etcd3"
import * as Failover from "./failover.ts"
import { type CallFailure, closedFailure, fromClient, isLasting, silentFailure } from "./failure.ts"
import { connect, type Host } from "./host.ts"
import type { Port, Reply, WatchStream } from "./port.ts"

/** What a connection needs to know. */
export interface ConnectionOptions {
  /** The hosts, credentials and certificates. This library sets all other options of the client itself. */
  readonly target: IOptions
  /** How long the layer waits for the first answer, in milliseconds. */
  readonly connectTimeout: number
  /** How long one call may take, retries on other hosts included, in milliseconds. */
  readonly operationTimeout: number
}

/** Sends a request to a host. The request must end by the deadline, a time of the wall clock in milliseconds. */
type Make<A> = (host: Host, deadline: number) => Promise<A>

/** Connects to the hosts and waits until one answers. The connections close with the scope. */
export const open: (
  options: ConnectionOptions
) => Effect.Effect<Port, LockBackendError, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const { target } = options
  const addresses = typeof target.hosts === "string" ? [target.hosts] : target.hosts
  const hosts = yield* Effect.forEach(addresses, (address) => connect(target, address))
  const fork = yield* FiberSet.makeRuntime<never>()
  const telemetry = yield* StoreTelemetry.make("etcd")

  const pending = new Set<(failure: CallFailure) => void>()

  /** Makes one call on one host. A rejection of its promise is always handled. */
  const attempt = <A>(host: Host, limit: number, make: Make<A>, isKept: boolean) =>
    Effect.callback<Reply<A>, CallFailure>((resume) => {
      const sentAt = clock.monotonicTimeNanosUnsafe()
      const cleanUp = () => {
        clearTimeout(timer)
        pending.delete(fail)
      }
      // The caller continues inside `resume`. If one of its observers throws, that must not become an unhandled rejection.
      const end = (answer: Exit.Exit<Reply<A>, CallFailure>) => {
        cleanUp()
        telemetry.callBack(() => resume(answer))
      }
      const fail = (failure: CallFailure) => end(Exit.fail(failure))
      // A safety net: the transport enforces the deadline too.
      const timer = setTimeout(fail, limit + 50, silentFailure)
      if (!isKept) pending.add(fail)
      // The transport takes deadlines on the wall clock. This deadline limits a call, never a lease.
      const deadline = clock.currentTimeMillisUnsafe() + limit
      make(host, deadline).then(
        (value) => end(Exit.succeed({ sentAt, value, doubled: false })),
        (error: unknown) => fail(fromClient(error))
      )
      return Effect.sync(cleanUp)
    })

  const failover = Failover.make({
    hosts,
    telemetry,
    clock,
    fork,
    operationTimeout: options.operationTimeout,
    probe: (host, limit) => attempt(host, limit, (host, deadline) => host.call("KV", "txn", {}, { deadline }), false)
  })

  const call = <A>(make: Make<A>, options: Failover.CallOptions = {}, isKept = false) =>
    failover.call((host, limit) => attempt(host, limit, make, isKept), options)

  const keepAliveOnStream = (id: string, limit: number) =>
    call((host, deadline) => host.keepAlive(id, deadline - clock.currentTimeMillisUnsafe()), { limit })

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
      { limit, isPressing: true }
    )

  const port: Port = {
    telemetry,
    longest: options.operationTimeout,
    txn: (request, limit, onUnsent) =>
      call(
        (host, deadline) => host.call<ITxnResponse>("KV", "txn", request, { deadline }),
        { limit, onUnsent }
      ),
    grant: (id, seconds) =>
      call(
        (host, deadline) =>
          host.call<ILeaseGrantResponse>("Lease", "leaseGrant", { ID: id, TTL: seconds }, { deadline }),
        {},
        true
      ).pipe(
        Effect.map((reply) => ({ ...reply, value: Number(reply.value.TTL) })),
        Effect.catchIf((failure) => /lease already exists/.test(failure.cause.message), () => keepAlive(id))
      ),
    heardAt: failover.heardAt,
    isAway: failover.isAway,
    abandon: () => {
      failover.abandon()
      Array.from(pending).forEach((fail) => fail(closedFailure))
    },
    revoke: (id) =>
      Effect.map(
        call((host, deadline) => host.call("Lease", "leaseRevoke", { ID: id }, { deadline }), { isPressing: true }),
        (reply) => ({ ...reply, value: undefined })
      ),
    keepAlive,
    keepAliveOnStream,
    inspect: (id, limit) =>
      Effect.map(
        call((host, deadline) =>
          host.call<ILeaseTimeToLiveResponse>("Lease", "leaseTimeToLive", { ID: id, keys: true }, { deadline }), {
          limit,
          isPressing: true
        }),
        (reply) => ({
          ...reply,
          value: {
            ttl: Number(reply.value.TTL),
            keys: reply.value.keys.map(String)
          }
        })
      ),
    timeToLive: (id) =>
      Effect.map(
        call((host, deadline) =>
          host.call<ILeaseTimeToLiveResponse>("Lease", "leaseTimeToLive", { ID: id, keys: false }, { deadline })
        ),
        (reply) => ({ ...reply, value: Number(reply.value.TTL) })
      ),
    watch: ({ onEnd, onResponse }) =>
      Effect.tryPromise({
        try: async (given): Promise<WatchStream> => {
          const stream = await failover.host().open("Watch", "watch")
          // The caller was interrupted, and an open stream would keep the process alive.
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
              // `end` comes first: the client takes a writable stream that ends for a failure of its host, and would
              // reconnect everything.
              stream.end()
              stream.cancel()
            }
          }
        },
        catch: fromClient
      }).pipe(Effect.timeoutOrElse({ duration: options.operationTimeout, orElse: () => Effect.fail(silentFailure) }))
  }

  yield* reachable(port, options)
  return port
})

const read = { request_range: { key: Buffer.from("dlock"), keys_only: true } }
const isAbsent = { key: Buffer.from("dlock"), target: "Create", result: "Equal", create_revision: 0 } as const
const within = (request: ITxnRequest) => ({ request_txn: request }) as IRequestOp

const inner = within({ compare: [isAbsent], success: [read], failure: [read, read, read] })
/**
 * Reads one key. A server with authentication answers an empty request from any client, but checks who reads a key. The
 * transaction has as many operations as acquiring a lock that is held by others, so that a server with a lower `--max-txn-ops`
 * refuses now and not later.
 */
export const probe: ITxnRequest = {
  compare: [isAbsent, isAbsent],
  success: [within({ compare: [isAbsent], success: [inner], failure: [inner] })],
  failure: [read]
}

/** Waits until the server answers. A denied permission to read that key counts as an answer: the credentials are right. */
const reachable = (port: Port, options: ConnectionOptions): Effect.Effect<void, LockBackendError> => {
  let last: CallFailure = silentFailure
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
