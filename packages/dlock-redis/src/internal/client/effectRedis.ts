/** A port over Effect's Redis service. */

import type { LockBackendError } from "effect-dlock/LockError"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Redis from "effect/persistence/Redis"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { fromClient, notConnected, silent } from "./failure.ts"
import { listenAgainAfter, newInbox, warnOfRefusal } from "./inbox.ts"
import type { Limits } from "./ioredis/clients.ts"
import type { Ask, Port } from "./port.ts"
import { decoded } from "./reply.ts"
import { Window } from "./window/window.ts"

/**
 * A port over the Redis service that a program already has. The service's client decides how its connections behave. It
 * may queue or repeat requests and execute them late. The tombstones of withdrawn claims make that safe.
 */
export const open: (
  limits: Limits
) => Effect.Effect<Port, LockBackendError, Redis.Redis | Scope.Scope> = Effect.fnUntraced(function*(limits) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const telemetry = yield* StoreTelemetry.make("Redis")
  const redis = yield* Redis.Redis
  const promise = yield* FiberSet.makeRuntimePromise<never>()
  const inbox = newInbox()
  const messageListeners: Array<(message: string) => void> = []
  const reconnectListeners: Array<() => void> = []

  const ask: Ask = (command, ...args) =>
    Effect.mapError(redis.send(command, ...args), (error) => fromClient(error.cause))
  const limited: Ask = (...command) =>
    Effect.timeoutOrElse(ask(...command), { duration: limits.operationTimeout, orElse: () => Effect.fail(silent) })

  // The service reports a connection only when it gives up on it, not when it was lost and replaced. To find that out,
  // the process sends a message to itself. If the message does not arrive, the process subscribes again, after it has
  // closed the old subscription.
  let hasHeard = true
  let isRefused = false
  const subscribed = Latch.makeUnsafe()
  const unsubscribe = Latch.makeUnsafe()
  const listen = Effect.gen(function*() {
    const messages = yield* redis.subscribe(inbox)
    isRefused = false
    unsubscribe.closeUnsafe()
    subscribed.openUnsafe()
    reconnectListeners.forEach((listener) => listener())
    while (true) {
      const { message } = yield* Queue.take(messages)
      hasHeard = true
      messageListeners.forEach((hear) => hear(message))
    }
  }).pipe(
    Effect.raceFirst(unsubscribe.await),
    Effect.scoped,
    Effect.catch((error) => {
      subscribed.openUnsafe()
      if (!isRefused) warnOfRefusal(telemetry, error)
      isRefused = true
      return Effect.sleep(listenAgainAfter)
    }),
    Effect.forever
  )
  // The client cannot be interrupted while it connects, and may try forever. So the wait for the fiber is limited, and
  // the interruption takes effect later, on its own.
  yield* Effect.acquireRelease(
    Effect.forkDetach(listen),
    (fiber) => {
      fiber.interruptUnsafe()
      return Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), Math.min(limits.operationTimeout, 100))
    }
  )
  yield* Effect.andThen(ask("PING"), subscribed.await).pipe(
    Effect.timeoutOrElse({ duration: limits.connectTimeout, orElse: () => Effect.fail(silent) }),
    Effect.mapError(({ cause, retryable }) => notConnected(cause, retryable))
  )

  const window = new Window({
    isReady: () => true,
    whyNotReady: () => silent,
    send: (command, program, { args, keys }) =>
      promise(
        redis.send(command.toUpperCase(), program, String(keys.length), ...keys, ...args).pipe(
          Effect.mapError((error) => error.cause)
        )
      )
  }, { telemetry, clock, longest: limits.operationTimeout })
  yield* Effect.addFinalizer(() => Effect.sync(() => window.close()))
  return {
    telemetry,
    run: window.run,
    heardAt: () => window.heardAt,
    inbox,
    onMessage: (listener) => void messageListeners.push(listener),
    onReconnect: (listener) => void reconnectListeners.push(listener),
    // The service does not report that either.
    onServerLeft: () => {},
    probe: Effect.gen(function*() {
      if (!hasHeard) unsubscribe.openUnsafe()
      hasHeard = false
      yield* Effect.ignore(limited("PUBLISH", inbox, ""))
    }),
    servers: () => [{ name: "effect/persistence/Redis", ask: limited }],
    replicated: (script, args, replicas, limit) =>
      Effect.gen(function*() {
        const { args: argv, keys } = script.encode(args)
        const connection = yield* redis.reserve
        const wrote = yield* connection.send("EVAL", script.lua, String(keys.length), ...keys, ...argv)
        const waited = yield* connection.send("WAIT", String(replicas), String(Math.ceil(limit)))
        return { wrote, waited }
      }).pipe(
        Effect.scoped,
        Effect.mapError((error) => fromClient(error.cause)),
        Effect.flatMap(({ waited, wrote }) => decoded(script, wrote, (value) => ({ value, replicas: Number(waited) })))
      )
  }
})
