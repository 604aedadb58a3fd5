import { LockBackendError } from "effect-dlock/LockError"
import { callBack } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { Etcd3, type IOptions, type KVClient, type LeaseClient, type WatchClient } from "etcd3"
import { type CallFailure, fromClient, isClosed, isLasting, silent } from "./failure.ts"
import type { Port, Reply, WatchStream } from "./port.ts"

export interface ConnectionOptions {
  /** Where, as whom and with which certificates: everything else is set here. */
  readonly target: IOptions
  /** Milliseconds until the layer gives up. */
  readonly connectTimeout: number
  /** Milliseconds that one call may take, other hosts included. */
  readonly callLimit: number
}

/** The client's plain calls, which it keeps to itself: its builders cannot say all that a transaction can. */
interface Calls {
  readonly kv: KVClient
  readonly leaseClient: LeaseClient
  readonly watchClient: WatchClient
}

type Make<A> = (calls: Calls, deadline: number) => Promise<A>

/**
 * The client would repeat calls behind our back and, after a few failures, refuse them all for seconds, releases
 * included. It does what it is told, once.
 */
const once = {
  execute: async <A>(call: (context: { readonly signal: AbortSignal }) => A): Promise<Awaited<A>> =>
    await untraced(() => call({ signal: notAborted }))
}
const notAborted = new AbortController().signal

/**
 * The transport notes with each call from where it was made, for the text of an error that goes no further than here.
 * That is a twentieth of what a call costs.
 */
const untraced = <A>(run: () => A): A => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  try {
    return run()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

const authLimit = 2_000

const safe = (target: IOptions, host: string): IOptions => ({
  hosts: host,
  ...(target.credentials !== undefined && { credentials: target.credentials }),
  // Its own calls have no limit otherwise, and every other call waits for them.
  ...(target.auth !== undefined && {
    auth: {
      username: target.auth.username,
      password: target.auth.password,
      callOptions: () => ({ deadline: Date.now() + authLimit })
    }
  }),
  faultHandling: { host: () => once as never, global: once as never },
  // A connection that has gone silent is noticed within ten seconds; servers punish a shorter time.
  grpcOptions: {
    ...target.grpcOptions,
    "grpc.keepalive_time_ms": 8_000,
    "grpc.keepalive_timeout_ms": 2_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500
  }
})

/** The hosts, each by a client of its own, so that we decide which one is asked. Closed with the scope. */
export const open: (
  options: ConnectionOptions
) => Effect.Effect<Port, LockBackendError, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const { target } = options
  const hosts = typeof target.hosts === "string" ? [target.hosts] : target.hosts
  const clients = yield* Effect.forEach(hosts, (host) =>
    Effect.acquireRelease(
      Effect.try({
        try: () => new Etcd3(safe(target, host)),
        catch: (error) =>
          new LockBackendError({ operation: "connect", retryable: false, cause: fromClient(error).cause })
      }),
      (client) => Effect.sync(() => client.close())
    ))
  let current = 0

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
      make(clients[current % clients.length] as unknown as Calls, deadline).then(
        (value) => end(Exit.succeed({ sentAt, value, doubled: false })),
        (error: unknown) => fail(fromClient(error))
      )
      return Effect.sync(over)
    })

  const mostTries = Math.max(2, clients.length)

  /**
   * The same, on the next host when this one fails or hangs; of one host, on a new connection. What was unknown before
   * stays unknown.
   */
  const call = <A>(make: Make<A>, limit = Infinity, isKept = false): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.suspend(() => {
      const within = Math.max(leastLimit, Math.min(limit, options.callLimit))
      const until = clock.monotonicTimeNanosUnsafe() + Duration.toNanosUnsafe(Duration.millis(within))
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
        if (failure === isClosed || failure.notDone || tries > mostTries) {
          if (!failure.notDone && asked === current) current++
          return yield* Effect.fail({ ...failure, notDone: !unknown })
        }
        if (asked === current) current++
        asked = current
        const left = Number(until - clock.monotonicTimeNanosUnsafe()) / 1_000_000
        const result = yield* Effect.result(attempt(Math.max(20, left / (mostTries - tries + 1)), make, isKept))
        if (result._tag === "Success") return { ...result.success, doubled: unknown }
        failure = result.failure
      }
    })

  const keepAlive = (id: string, limit?: number) =>
    call(async ({ leaseClient }, deadline) => {
      const stream = await leaseClient.leaseKeepAlive({ deadline })
      try {
        return await new Promise<number>((resolve, reject) => {
          stream.on("data", (response) => resolve(Number(response.TTL)))
          stream.on("error", reject)
          stream.on("end", () => reject(new Error("the stream ended without an answer")))
          stream.write({ ID: id })
        })
      } finally {
        stream.end()
      }
    }, limit)

  const port: Port = {
    txn: (request, limit) => call(({ kv }, deadline) => kv.txn(request, { deadline }), limit),
    grant: (id, seconds) =>
      call(
        ({ leaseClient }, deadline) => leaseClient.leaseGrant({ ID: id, TTL: seconds }, { deadline }),
        Infinity,
        true
      ).pipe(
        Effect.map((reply) => ({ ...reply, value: Number(reply.value.TTL) })),
        Effect.catchIf((failure) => /lease already exists/.test(failure.cause.message), () => keepAlive(id))
      ),
    abandon: () => Array.from(pending).forEach((fail) => fail(isClosed)),
    revoke: (id) =>
      Effect.map(
        call(({ leaseClient }, deadline) => leaseClient.leaseRevoke({ ID: id }, { deadline })),
        (reply) => ({ ...reply, value: undefined })
      ),
    keepAlive,
    inspect: (id, limit) =>
      Effect.map(
        call(({ leaseClient }, deadline) => leaseClient.leaseTimeToLive({ ID: id, keys: true }, { deadline }), limit),
        (reply) => ({
          ...reply,
          value: { ttl: Number(reply.value.TTL), keys: reply.value.keys.map((key) => key.toString()) }
        })
      ),
    watch: ({ onEnd, onResponse }) =>
      Effect.tryPromise({
        try: async (given): Promise<WatchStream> => {
          const { watchClient } = clients[current % clients.length] as unknown as Calls
          const stream = await watchClient.watch()
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
