/** A port over connections that this package opens with ioredis. */

import type { LockBackendError } from "effect-dlock/LockError"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis } from "ioredis"
import type { Target } from "./address.ts"
import { fromClient, isReply, notConnected, notSent, sanitized, silent } from "./failure.ts"
import { listenOnEach, newInbox } from "./inbox.ts"
import { sendInBatches } from "./ioredis/batching.ts"
import { type Common, connect, connectSubscriber, isCluster, library, type Limits } from "./ioredis/clients.ts"
import * as Command from "./ioredis/command.ts"
import { lacking, toListen } from "./permissions.ts"
import type { Ask, Port } from "./port.ts"
import { decoded } from "./reply.ts"
import { type Client, Window } from "./window/window.ts"
import { slotOf, Windows } from "./window/windows.ts"

export interface ConnectionOptions extends Limits {
  /** How many replicas must confirm a grant. Above 0, the confirmations use a connection of their own. */
  readonly waitReplicas: number
}

/**
 * Opens the connections and waits until they are ready: one to each server for scripts, and one for notifications. They
 * close with the scope. Closing destroys the sockets and does not ask the server, which may not answer.
 */
export const open: (
  target: Target,
  options: ConnectionOptions
) => Effect.Effect<Port, LockBackendError | Config.ConfigError, Scope.Scope> = Effect.fnUntraced(
  function*(target, options) {
    const ioredis = yield* library
    const commandOf = Command.commands(ioredis)
    const clock = yield* Clock.clockWith(Effect.succeed)
    const telemetry = yield* StoreTelemetry.make("Redis")
    const { fresh } = target
    const asking = fresh && (yield* FiberSet.makeRuntimePromise<never>())
    const common: Common = {
      telemetry,
      secure: target.options.tls !== undefined,
      fresh: fresh && (() =>
        asking!(Effect.timeoutOrElse(fresh, {
          duration: options.connectTimeout,
          orElse: () => Effect.fail(new Error("The credentials did not arrive within connectTimeout"))
        })))
    }
    const inbox = newInbox()
    const messageListeners: Array<(message: string) => void> = []
    const reconnectListeners: Array<() => void> = []
    const serverLeftListeners: Array<() => void> = []
    const tellServerLeft = () => serverLeftListeners.forEach((listener) => listener())
    const tellReconnect = () => reconnectListeners.forEach((listener) => listener())

    // All connect at the same time, because each may have to ask several sentinels, and all share one time limit.
    const [{ client: commands, whyNot }, confirming, listening] = yield* Effect.all([
      // The window limits the time of scripts, and replaces a connection that has gone silent.
      connect(target, options, common, { limitsItself: true }),
      options.waitReplicas === 0
        ? Effect.undefined
        // `WAIT` replies when enough replicas have answered, or when the limit in the request has passed.
        : connect(target, { ...options, operationTimeout: options.operationTimeout + 1_000 }, common),
      target._tag === "Cluster" ? Effect.undefined : connect(target, options, common)
    ], { concurrency: "unbounded" })
    const subscriber = isCluster(commands)
      ? yield* connectSubscriber(target, commands, options, common)
      : listening!.client as Redis
    subscriber.on("message", (_channel: string, message: string) => messageListeners.forEach((hear) => hear(message)))

    // Without the permission to subscribe, the layer fails.
    yield* Effect.tryPromise({ try: () => subscriber.subscribe(inbox), catch: sanitized }).pipe(
      Effect.catchIf((error) => !isReply(error), () => Effect.sync(() => subscriber.disconnect(true))),
      Effect.mapError((error) => notConnected(lacking(toListen, error), false))
    )
    listenOnEach(subscriber, inbox, tellReconnect, telemetry)
    const send: Client["send"] = isCluster(commands)
      // This client may come from another copy of ioredis, which has its own `Command` class.
      ? (name, program, call) => commands[name](program, call.keys.length, ...call.keys, ...call.args)
      : sendInBatches(commands, () => (window as Window).isBusy, commandOf)
    // A node that does not answer may have been replaced, and a silent node sends no redirections. So the client has to
    // ask for the nodes again. It disconnects the nodes that have left the cluster, and a late answer from one of those
    // does not count.
    const refreshTopology = (client: Redis | Cluster) => {
      if (isCluster(client)) client.refreshSlotsCache()
    }
    const newWindow = () =>
      new Window({
        isReady: () => commands.status === "ready",
        whyNotReady: whyNot,
        send
      }, {
        telemetry,
        clock,
        longest: options.operationTimeout,
        ...(isCluster(commands)
          ? { onDoubt: () => refreshTopology(commands) }
          : { onSilence: () => commands.disconnect(true) })
      })
    const window = isCluster(commands) ? new Windows(commands, ioredis, newWindow) : newWindow()
    yield* Effect.addFinalizer(() => Effect.sync(() => window.close()))
    commands.on("ready", () => window.open()).on("close", () => window.lose())
    if (isCluster(commands)) {
      // A promoted replica was a node before, and the client connects to it only after the promotion.
      const watch = (node: Redis) => void node.on("ready", tellReconnect)
      commands.nodes().forEach(watch)
      commands.on("+node", watch).on("-node", tellServerLeft)
    } else commands.on("ready", tellReconnect).on("close", tellServerLeft)

    return {
      telemetry,
      run: window.run,
      heardAt: (key) => window instanceof Windows ? window.heardAt(key) : window.heardAt,
      ...(isCluster(commands) && { slotOf: (key: string) => slotOf(ioredis, key) }),
      inbox,
      onMessage: (listener) => void messageListeners.push(listener),
      onReconnect: (listener) => void reconnectListeners.push(listener),
      onServerLeft: (listener) => void serverLeftListeners.push(listener),
      probe: Effect.promise(() => {
        // A node that was removed from the cluster still answers its subscribers, but they receive no more messages.
        if (isCluster(commands)) commands.refreshSlotsCache()
        return subscriber.status === "ready"
          ? subscriber.ping().then(() => {}, (error: unknown) => {
            // A refusal is also an answer, so the subscription is alive.
            if (!isReply(sanitized(error))) subscriber.disconnect(true)
          })
          : Promise.resolve()
      }),
      servers: () =>
        (isCluster(commands) ? commands.nodes("master") : [commands]).map(describe(options.operationTimeout)),
      replicated: (script, args, replicas, limit) =>
        Effect.gen(function*() {
          if (confirming?.client.status !== "ready") return yield* Effect.fail(confirming?.whyNot() ?? notSent)
          const { args: argv, keys } = script.encode(args)
          const [wrote, waited] = yield* Effect.tryPromise({
            try: () =>
              confirming.client.pipeline([
                ["eval", script.lua, keys.length, ...keys, ...argv],
                ["wait", replicas, Math.ceil(limit)]
              ]).exec().then((results) =>
                results!.map(([error, value]) => {
                  if (error !== null) throw error
                  return value
                })
              ),
            catch: fromClient
          }).pipe(
            Effect.onExit((exit) => Effect.sync(() => Exit.isFailure(exit) && refreshTopology(confirming.client)))
          )
          return yield* decoded(script, wrote, (value) => ({ value, replicas: Number(waited) }))
        })
    }
  }
)

/** A server, and how to ask it something outside the scripts. */
export const describe = (limit: number) => (server: Redis): { readonly name: string; readonly ask: Ask } => ({
  name: server.options.sentinels
    ? server.options.name!
    : server.options.path ?? `${server.options.host}:${server.options.port}`,
  ask: (command, ...args) =>
    // The client would send some commands before its ready check.
    Effect.suspend(() =>
      server.status === "ready"
        ? Effect.tryPromise({ try: () => server.call(command, ...args), catch: fromClient })
        : Effect.fail(notSent)
    ).pipe(Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.fail(silent) }))
})
