/** Creates ioredis clients with settings that suit a lock. */

import type { LockBackendError } from "effect-dlock/LockError"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Config from "effect/Config"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import type { ClusterSettings, Target } from "../address.ts"
import { explained, notConnected, sanitized } from "../failure.ts"
import type { CallFailure } from "../port.ts"
import { silenceOf } from "../window/window.ts"
import { backOff, beforeConnecting } from "./attempts.ts"
import { strictGreeting } from "./greeting.ts"
import { Reasons } from "./reasons.ts"
import { followSentinels, throughSentinels } from "./sentinels.ts"
import { ignoreSocketErrors } from "./streams.ts"

export interface Limits {
  /** Milliseconds until the layer stops trying to connect. */
  readonly connectTimeout: number
  /** Milliseconds that a client waits for one reply. */
  readonly operationTimeout: number
}

/** What all clients of a layer share. */
export interface Common {
  readonly telemetry: StoreTelemetry
  /** Whether the clients use TLS. */
  readonly secure: boolean
  /** Fetches the options that may change from one connection to the next. */
  readonly fresh?: (() => Promise<RedisOptions>) | undefined
}

/** A connected client, and the failure of a call while it is not connected. */
export interface Connected<Client> {
  readonly client: Client
  readonly whyNot: () => CallFailure
}

/** Loads ioredis for the first layer that needs it. A program with another Redis client need not install ioredis. */
export const library = Effect.tryPromise({
  try: () => import("ioredis"),
  catch: (cause) => notLoaded(cause)
})

/**
 * The error for an import that failed: either ioredis is not installed, or it failed to load, for example because a
 * bundler broke it.
 */
export const notLoaded = (cause: unknown): Config.ConfigError => {
  const { code, message = String(cause) } = (cause ?? {}) as { readonly code?: unknown; readonly message?: string }
  const absent = (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND" ||
    /^(Cannot find|Could not resolve)/.test(message)) &&
    /\bioredis['"]?( |$)/.test(message.split("\n")[0]!)
  return StoreOptions.problem(
    absent
      ? "The package ioredis is not installed: add version 5.11 or 6 to your dependencies"
      : `The package ioredis could not be loaded: ${message.split("\n", 1).join("").trim()}`
  )
}

/** How many milliseconds a server may take to close a connection. */
const disconnectTimeout = 100

/**
 * The client's defaults suit a cache. A lock needs to know what happened to each request. So the client does not queue
 * requests while it has no connection, does not repeat a request on its own, and limits every wait. It also soon
 * replaces a connection that went silent or leads to a replica.
 */
const lockSafe = (operationTimeout: number, limitsItself = false) => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  // The client would reset its timers on every command, which costs too much for a client that sends many.
  ...(!limitsItself && { commandTimeout: operationTimeout, socketTimeout: silenceOf(operationTimeout) }),
  connectTimeout: 2_000,
  disconnectTimeout,
  retryStrategy: backOff,
  reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
  enableReadyCheck: true,
  maxLoadingRetryTime: 500,
  enableAutoPipelining: false,
  keepAlive: 5_000,
  noDelay: true,
  readOnly: false,
  stringNumbers: false,
  monitor: false,
  connectionName: "effect-dlock",
  // We add the prefix. The client would prefix keys, but not the names inside scripts' arguments and channels.
  keyPrefix: "",
  replyMapping: "legacy" as const,
  // Only used with sentinels. Without the detector, a primary that was cut off and replaced would go on confirming
  // renewals for the processes that still reach it.
  role: "master" as const,
  failoverDetector: true,
  sentinelCommandTimeout: operationTimeout,
  sentinelRetryStrategy: backOff,
  sentinelReconnectStrategy: (times: number) => Math.min(100 * 2 ** times, 5_000)
})

/**
 * A cluster's client repeats requests on its own when a lost connection left their result unknown, unless each of these
 * delays is 0.
 */
const lockSafeCluster = (options: RedisOptions, operationTimeout: number): ClusterSettings => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  // The ready check would ask any node, connected or not, and start again if that fails, so it takes longer with more
  // nodes. `untilComplete` replaces it.
  enableReadyCheck: false,
  enableAutoPipelining: false,
  scaleReads: "master",
  shardedSubscribers: false,
  retryDelayOnFailover: 0,
  retryDelayOnClusterDown: 0,
  // A request has not run if it was refused while its slot moves, or was redirected. We limit how long it is repeated.
  retryDelayOnTryAgain: 20,
  maxRedirections: 5,
  clusterRetryStrategy: backOff,
  slotsRefreshTimeout: Math.min(operationTimeout, 1_000),
  keyPrefix: "",
  redisOptions: { ...options, ...lockSafe(operationTimeout) }
})

/** Connects a client to a whole target: to its one server, or to all primaries of a cluster. */
export const connect = Effect.fnUntraced(function*(
  target: Target,
  limits: Limits,
  common: Common,
  { limitsItself = false } = {}
): Effect.fn.Return<Connected<Redis | Cluster>, LockBackendError | Config.ConfigError, Scope.Scope> {
  const ioredis = yield* library
  if (target._tag === "Cluster") {
    const settings = lockSafeCluster(target.options, limits.operationTimeout)
    return yield* connectClient(
      (reasons) => followCluster(target.make(ioredis.Cluster, settings), reasons, common),
      limits,
      common
    )
  }
  const options = { ...target.options, ...lockSafe(limits.operationTimeout, limitsItself) }
  return yield* connectClient(
    (reasons) => {
      const client = followSentinels(
        strictGreeting(ignoreSocketErrors(new ioredis.Redis(options)), reasons.tellRefusal),
        common.fresh
      )
      if (common.fresh !== undefined) beforeConnecting(client, common.fresh, reasons.tell)
      return limitsItself ? limitGreeting(client, 2 * limits.operationTimeout) : client
    },
    limits,
    common
  )
})

/**
 * Reconnects if a server accepts the connection but does not answer the handshake. Nothing was sent on that connection,
 * so nothing is lost.
 */
const limitGreeting = (client: Redis, limit: number): Redis => {
  let timer: NodeJS.Timeout | undefined
  const stop = () => clearTimeout(timer)
  return client
    .on("connect", () => {
      stop()
      timer = setTimeout(() => client.disconnect(true), limit).unref()
    })
    .on("ready", stop)
    .on("close", stop)
}

/**
 * Connects a client that receives a cluster's messages. A message that one node publishes reaches the subscribers of
 * every node, so the client subscribes on any node. It tries another node at each attempt, and moves to another when
 * its node leaves the cluster.
 */
export const connectSubscriber = Effect.fnUntraced(function*(
  target: Target,
  commands: Cluster,
  limits: Limits,
  common: Common
) {
  const ioredis = yield* library
  let hasKnownNode = false
  // Each process starts at a random node and then goes on in order. Choosing a random node each time might hit the same
  // dead node again and again.
  let turn = Math.floor(Math.random() * 1_000)
  // The program may have set credentials and TLS options per node, so take them from the node.
  const nextNode = (): RedisOptions => {
    const nodes = commands.nodes()
    const node = nodes[turn++ % nodes.length]
    if (node !== undefined) {
      hasKnownNode = true
      const { family, host, password, port, tls, username } = node.options
      return { family, host, password, port, tls, username } as RedisOptions
    }
    if (hasKnownNode) return {}
    // Without an address, the client would connect to this machine.
    throw new Error("No node of the cluster is known")
  }
  const { client: subscriber } = yield* connectClient(
    (reasons) => {
      const client = new ioredis.Redis({ ...target.options, ...lockSafe(limits.operationTimeout) })
      const find = async (): Promise<RedisOptions> => ({ ...nextNode(), ...await common.fresh?.() })
      return beforeConnecting(strictGreeting(ignoreSocketErrors(client), reasons.tellRefusal), find, reasons.tell)
    },
    limits,
    common
  )
  commands.on("-node", ({ options: { host, port } }: Redis) => {
    if (subscriber.options.host === host && subscriber.options.port === port) subscriber.disconnect(true)
  })
  return subscriber
})

export const isCluster = (client: Redis | Cluster): client is Cluster => client.isCluster

/**
 * Connects to each primary as soon as it is known, so that no request waits for a connection. Also handles a rejection
 * of the ASKING that the client sends before a request whose slot moves. The client ignores that rejection, and an
 * unhandled rejection ends the process.
 */
const followCluster = (cluster: Cluster, { tell, tellRefusal }: Reasons, { fresh }: Common): Cluster => {
  let latest: RedisOptions = {}
  const find = fresh && (async () => (latest = await fresh()))
  if (find !== undefined) {
    // The client opens a connection like a node's each time it reads the slots.
    const refresh = cluster.refreshSlotsCache.bind(cluster)
    cluster.refreshSlotsCache = (callback) =>
      void find().catch(tell).then(() => {
        for (const { options } of cluster.nodes()) Object.assign(options, latest)
        refresh(callback)
      })
  }
  return cluster.on("+node", (node: Redis) => {
    const asking = node.asking.bind(node)
    Object.assign(strictGreeting(ignoreSocketErrors(node), tellRefusal), {
      asking: () => {
        const asked = asking()
        asked.catch(() => {})
        return asked
      }
    })
    if (find !== undefined) {
      Object.assign(node.options, latest)
      beforeConnecting(node, find, tell)
    }
    if (node.options.readOnly !== true && node.status === "wait") node.connect().catch(() => {})
  })
}

/**
 * Waits until the cluster serves all its slots and every primary is connected. After 1 second, primaries that do not
 * answer are no longer waited for, because the other primaries have locks too. Meanwhile it reports why the wait
 * continues.
 */
const untilComplete = (cluster: Cluster, tell: (error: Error) => void) =>
  Effect.gen(function*() {
    const since = performance.now()
    while (true) {
      const nodes = cluster.nodes("master")
      const connected = nodes.filter(({ status }) => status === "ready")
      const [one] = connected
      if (one !== undefined && (connected.length === nodes.length || performance.now() > since + patience)) {
        const info = yield* Effect.result(
          Effect.tryPromise({ try: () => one.cluster("INFO") as Promise<unknown>, catch: sanitized })
        )
        if (info._tag === "Success" && String(info.success).includes("cluster_state:ok")) return
        tell(info._tag === "Success" ? new Error("CLUSTERDOWN The cluster does not serve all its slots") : info.failure)
      }
      yield* Effect.sleep(20)
    }
  })

/** Milliseconds to wait for primaries that do not answer. */
const patience = 1_000

/**
 * Creates a client and waits until it is ready, or fails with the reason. Later, the client reconnects whenever its
 * connection is lost.
 */
const connectClient = <Client extends Redis | Cluster>(
  make: (reasons: Reasons) => Client,
  limits: Limits,
  { secure, telemetry }: Common
): Effect.Effect<Connected<Client>, LockBackendError, Scope.Scope> =>
  Effect.gen(function*() {
    let closed = false
    const finalFailure = Deferred.makeUnsafe<never, LockBackendError>()
    const reasons = new Reasons((reasons) => {
      if (reasons.final) Deferred.doneUnsafe(finalFailure, failed())
      if (reasons.last !== undefined) telemetry.connectionFailed(reasons, reasons.last.message, reasons.final)
    })
    const failed = () =>
      Effect.fail(
        notConnected(explained(reasons.last ?? new Error("the server did not answer"), secure), !reasons.final)
      )
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => make(reasons)),
      (client) =>
        Effect.sync(() => {
          closed = true
          client.disconnect()
        })
    )
    // The client tries again on its own. `reasons` records its errors.
    const connect = () => {
      if (!closed) client.connect().catch(() => {})
    }
    // The client prints an "error" event without a listener, including its address.
    const on = (event: string, listener: (error: unknown) => void) => void (client as Redis).on(event, listener)
    for (const event of ["error", "node error"]) on(event, reasons.tell)
    let isUp = false
    on("sentinelError", (error) => {
      // One of several sentinels may fail while the connection works.
      if (!isUp || client.status !== "ready") reasons.tell(error)
    })
    const connected = Effect.callback<void>((resume) => {
      // Behind sentinels, the client is ready only when it would hear of a failover.
      let listening = throughSentinels(client) === undefined
      const up = () => {
        if (listening && client.status === "ready") resume(Effect.void)
      }
      on("ready", up)
      on("sentinelListening", () => {
        listening = true
        up()
      })
      // Behind sentinels, the client gives up for good if a failover happens while it asks a sentinel for the primary.
      on("end", () => void setTimeout(connect, backOff(1)))
      connect()
    })
    yield* Effect.andThen(connected, isCluster(client) ? untilComplete(client, reasons.tell) : Effect.void).pipe(
      Effect.raceFirst(Deferred.await(finalFailure)),
      Effect.timeoutOrElse({ duration: limits.connectTimeout, orElse: () => Effect.suspend(failed) })
    )
    isUp = true
    reasons.clear()
    on("close", () => {
      if (!closed) telemetry.connectionLost(reasons)
    })
    on("ready", () => {
      reasons.clear()
      telemetry.connectionBack(reasons)
    })
    return { client, whyNot: reasons.whyNot }
  })
