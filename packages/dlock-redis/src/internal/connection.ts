import { LockBackendError } from "effect-dlock/LockError"
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { Redis, type RedisOptions } from "ioredis"
import { fromClient, isRefusedCredentials, notSent, sanitized, unusable } from "./failure.ts"
import type { CallFailure, Port, Reply, Tally } from "./port.ts"
import type { Script } from "./scripts.ts"

export interface ConnectionOptions {
  /** Where and as whom: everything else is set here. */
  readonly target: RedisOptions
  /** Milliseconds until the layer gives up. */
  readonly connectTimeout: number
  /** Milliseconds that the client waits for one reply. */
  readonly callLimit: number
}

/**
 * The client's defaults suit a cache. A lock needs to know what became of each request: nothing is queued while there
 * is no connection, nothing is sent again behind our back, nothing is waited for without a limit, and a connection that
 * has gone silent is made anew soon.
 */
const safe = ({ callLimit }: ConnectionOptions) => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  commandTimeout: callLimit,
  socketTimeout: 2 * callLimit,
  connectTimeout: 2_000,
  disconnectTimeout: 100,
  retryStrategy: (times: number) => Math.min(20 * 2 ** Math.min(times, 10), 500),
  reconnectOnError: null,
  enableReadyCheck: true,
  maxLoadingRetryTime: 500,
  enableAutoPipelining: false,
  keepAlive: 5_000,
  noDelay: true,
  readOnly: false,
  stringNumbers: false,
  monitor: false,
  connectionName: "effect-dlock",
  // Ours to prepend: the client would rewrite keys and leave alone what scripts and channels carry.
  keyPrefix: "",
  replyMapping: "legacy" as const
})

/**
 * Two connections of our own, ready to use: one for scripts, and one that listens. Both are closed with the scope, by
 * taking the sockets down rather than by asking a server that may not answer.
 */
export const open: (
  options: ConnectionOptions
) => Effect.Effect<Port, LockBackendError, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const log = (effect: Effect.Effect<void>) => void fork(Effect.annotateLogs(effect, { component: "dlock" }))
  const inbox = `dlock:inbox:${Base64Url.encode(SecureRandom.randomBytesUnsafe(16))}`
  const messageListeners: Array<(message: string) => void> = []
  const reconnectListeners: Array<() => void> = []
  const missed = () => reconnectListeners.forEach((listener) => listener())

  const commands = yield* connect(options, "commands", log)
  const subscriber = yield* connect(options, "subscriber", log)
  subscriber.on("message", (_channel: string, message: string) => messageListeners.forEach((hear) => hear(message)))

  const subscribe = () =>
    subscriber.subscribe(inbox).then(missed, (error: unknown) => {
      const cause = sanitized(error)
      // Without the permission waiters ask now and then, as they do while a message is missing.
      if (/\bNOPERM\b/.test(cause.message)) {
        return log(Effect.logWarning("Redis does not let us listen: waiters will poll", cause))
      }
      subscriber.disconnect(true)
    })
  yield* Effect.promise(subscribe)
  subscriber.on("ready", () => void subscribe())
  commands.on("ready", missed)

  const run = <Args, A>(script: Script<Args, A>, args: Args, tally?: Tally): Effect.Effect<Reply<A>, CallFailure> =>
    Effect.callback((resume) => {
      if (commands.status !== "ready") return resume(Effect.fail(notSent))
      const { args: argv, keys } = script.encode(args)
      let sentAt = clock.monotonicTimeNanosUnsafe()
      if (tally !== undefined) tally.unanswered++
      const answered = () => {
        if (tally !== undefined) tally.unanswered--
      }
      const onReply = (raw: unknown): void => {
        answered()
        let value: A
        try {
          value = script.decode(raw)
        } catch (error) {
          return resume(Effect.fail(unusable(error)))
        }
        resume(Effect.succeed({ sentAt, value }))
      }
      const onError = (error: unknown): void => {
        const failure = fromClient(error)
        if (failure.notDone) answered()
        resume(Effect.fail(failure))
      }
      commands.evalsha(script.sha, keys.length, ...keys, ...argv).then(onReply, (error: unknown) => {
        // The server does not know the script, so it has not run: this time with its text.
        if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) return onError(error)
        sentAt = clock.monotonicTimeNanosUnsafe()
        commands.eval(script.lua, keys.length, ...keys, ...argv).then(onReply, onError)
      })
    })

  return {
    run,
    inbox,
    onMessage: (listener) => void messageListeners.push(listener),
    onReconnect: (listener) => void reconnectListeners.push(listener),
    probe: Effect.promise(() =>
      subscriber.status === "ready"
        ? subscriber.ping().then(() => {}, () => subscriber.disconnect(true))
        : Promise.resolve()
    )
  }
})

/** A client that is ready, or the reason why there is none. What a running one meets goes to the log. */
const connect = (options: ConnectionOptions, role: string, log: (effect: Effect.Effect<void>) => void) =>
  Effect.gen(function*() {
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis({ ...options.target, ...safe(options) })),
      (client) => Effect.sync(() => client.disconnect())
    )
    let lastError = new Error("no answer")
    // An "error" that nobody listens to is printed by the client, address and all.
    client.on("error", (error: unknown) => {
      lastError = sanitized(error)
    })
    const failed = (retryable: boolean) =>
      Effect.fail(new LockBackendError({ operation: "connect", retryable, cause: lastError }))
    yield* Effect.callback<void, LockBackendError>((resume) => {
      client.once("ready", () => resume(Effect.void))
      client.on("error", () => {
        if (isRefusedCredentials(lastError)) resume(failed(false))
      })
      // It tries again by itself; what it met is in `lastError`.
      client.connect().catch(() => {})
    }).pipe(
      Effect.timeoutOrElse({ duration: options.connectTimeout, orElse: () => failed(true) })
    )
    let down = false
    client.on("close", () => {
      if (!down) log(Effect.logWarning(`The connection to Redis was lost (${role})`))
      down = true
    })
    client.on("ready", () => {
      down = false
      log(Effect.logInfo(`The connection to Redis is back (${role})`))
    })
    return client
  })
