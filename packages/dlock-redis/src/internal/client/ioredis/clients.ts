/** Makes clients of ioredis with settings that suit a lock. */

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
  /** Milliseconds until the layer gives up. */
  readonly connectTimeout: number
  /** Milliseconds that a client waits for one reply. */
  readonly operationTimeout: number
}

/** What the clients of a layer have in common. */
export interface Common {
  readonly telemetry: StoreTelemetry
  /** Whether they speak TLS. */
  readonly secure: boolean
  /** Asks for those options that may change from one connection to the next. */
  readonly fresh?: (() => Promise<RedisOptions>) | undefined
}

/** A client that is ready, and what to say when it is not. */
export interface Connected<Client> {
  readonly client: Client
  readonly whyNot: () => CallFailure
}

/** Loaded with the first layer that needs it: a program that has another client need not install this one. */
export const library = Effect.tryPromise({
  try: () => import("ioredis"),
  catch: (cause) => notLoaded(cause)
})

/** That it is not there, or what it failed with: a bundler may have broken it. */
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

/** Milliseconds for which a server may take its time to close a connection. */
const disconnectTimeout = 100

/**
 * The client's defaults suit a cache. A lock needs to know what became of each request: nothing is queued while there
 * is no connection, nothing is sent again behind our back, nothing is waited for without a limit, and a connection that
 * has gone silent, or has come to a replica, is replaced soon.
 */
const lockSafe = (operationTimeout: number, limitsItself = false) => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  // The client resets its timers with each command: that costs too much where many are sent.
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
  // Ours to prepend: the client would rewrite keys and leave alone what scripts and channels carry.
  keyPrefix: "",
  replyMapping: "legacy" as const,
  // Only behind sentinels. Without the detector, a primary that was cut off and replaced would go on confirming
  // renewals to those who can still reach it.
  role: "master" as const,
  failoverDetector: true,
  sentinelCommandTimeout: operationTimeout,
  sentinelRetryStrategy: backOff,
  sentinelReconnectStrategy: (times: number) => Math.min(100 * 2 ** times, 5_000)
})

/** A cluster's client sends again by itself what a lost connection left in doubt, unless each of its delays is 0. */
const lockSafeCluster = (options: RedisOptions, operationTimeout: number): ClusterSettings => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  // The client asks any node, connected or not, and begins anew when that fails: the more nodes, the longer (see
  // `untilWhole`).
  enableReadyCheck: false,
  enableAutoPipelining: false,
  scaleReads: "master",
  shardedSubscribers: false,
  retryDelayOnFailover: 0,
  retryDelayOnClusterDown: 0,
  // What is refused while its slot moves, or is sent elsewhere, has not run; for how long it is tried is ours to say.
  retryDelayOnTryAgain: 20,
  maxRedirections: 5,
  clusterRetryStrategy: backOff,
  slotsRefreshTimeout: Math.min(operationTimeout, 1_000),
  keyPrefix: "",
  redisOptions: { ...options, ...lockSafe(operationTimeout) }
})

/** A client of a whole target: of its one server, or of all primaries of a cluster. */
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

/** Reconnects when a server takes a connection and does not greet it: nothing is sent there, so nothing is missed. */
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
 * A client that listens to a cluster. What is published on one node reaches the subscribers of every other, so it
 * listens on any of them: at each attempt another, and elsewhere as soon as its own leaves the cluster.
 */
export const connectSubscriber = Effect.fnUntraced(function*(
  target: Target,
  commands: Cluster,
  limits: Limits,
  common: Common
) {
  const ioredis = yield* library
  let goesSomewhere = false
  // Each process begins elsewhere, and then goes on in turn: at random it might meet the same dead node again and again.
  let turn = Math.floor(Math.random() * 1_000)
  // A client may have been told of some nodes alone as whom to go there, and how.
  const somewhere = (): RedisOptions => {
    const nodes = commands.nodes()
    const node = nodes[turn++ % nodes.length]
    if (node !== undefined) {
      goesSomewhere = true
      const { family, host, password, port, tls, username } = node.options
      return { family, host, password, port, tls, username } as RedisOptions
    }
    if (goesSomewhere) return {}
    // The client would go to this machine.
    throw new Error("No node of the cluster is known")
  }
  const { client: subscriber } = yield* connectClient(
    (reasons) => {
      const client = new ioredis.Redis({ ...target.options, ...lockSafe(limits.operationTimeout) })
      const find = async (): Promise<RedisOptions> => ({ ...somewhere(), ...await common.fresh?.() })
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
 * Connects to each primary as soon as it is known, so that no request waits in a queue for its connection. And looks at
 * what becomes of the client's own word before a request whose slot is being moved, which the client does not: a
 * rejection that nobody handles ends the process.
 */
const followCluster = (cluster: Cluster, { tell, tellRefusal }: Reasons, { fresh }: Common): Cluster => {
  let latest: RedisOptions = {}
  const find = fresh && (async () => (latest = await fresh()))
  if (find !== undefined) {
    // For each look at the slots the client makes a connection like a node's.
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
 * Waits until the cluster serves all its slots and each primary is connected; one that does not answer is waited for no
 * longer than a moment, since the others have their locks too. Tells why not, for as long as it does not.
 */
const untilWhole = (cluster: Cluster, tell: (error: Error) => void) =>
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

/** Milliseconds. */
const patience = 1_000

/** A client that is ready, or the reason why there is none. It goes on trying when it is lost later. */
const connectClient = <Client extends Redis | Cluster>(
  make: (reasons: Reasons) => Client,
  limits: Limits,
  { secure, telemetry }: Common
): Effect.Effect<Connected<Client>, LockBackendError, Scope.Scope> =>
  Effect.gen(function*() {
    let closed = false
    const over = Deferred.makeUnsafe<never, LockBackendError>()
    const reasons = new Reasons((reasons) => {
      if (reasons.final) Deferred.doneUnsafe(over, failed())
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
    // It tries again by itself; what it met is among the reasons.
    const connect = () => {
      if (!closed) client.connect().catch(() => {})
    }
    // An "error" that nobody listens to is printed by the client, address and all.
    const on = (event: string, listener: (error: unknown) => void) => void (client as Redis).on(event, listener)
    for (const event of ["error", "node error"]) on(event, reasons.tell)
    let isUp = false
    on("sentinelError", (error) => {
      // One of several may fail while the connection stands.
      if (!isUp || client.status !== "ready") reasons.tell(error)
    })
    const connected = Effect.callback<void>((resume) => {
      // Behind sentinels it is of no use before it would hear of a failover.
      let listening = throughSentinels(client) === undefined
      const up = () => {
        if (listening && client.status === "ready") resume(Effect.void)
      }
      on("ready", up)
      on("sentinelListening", () => {
        listening = true
        up()
      })
      // Behind sentinels it gives up, for good, where it hears of a failover while it asks one of them where to go.
      on("end", () => void setTimeout(connect, backOff(1)))
      connect()
    })
    yield* Effect.andThen(connected, isCluster(client) ? untilWhole(client, reasons.tell) : Effect.void).pipe(
      Effect.raceFirst(Deferred.await(over)),
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
