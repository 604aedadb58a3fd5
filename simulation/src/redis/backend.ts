import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import * as Effect from "effect/Effect"
import * as Admin from "../../../packages/dlock-redis/src/internal/admin/admin.ts"
import { fromClient, notSent } from "../../../packages/dlock-redis/src/internal/client/failure.ts"
import type { Port } from "../../../packages/dlock-redis/src/internal/client/port.ts"
import { Window } from "../../../packages/dlock-redis/src/internal/client/window/window.ts"
import * as Store from "../../../packages/dlock-redis/src/internal/store/store.ts"
import type { Backend } from "../backend.ts"
import type { Plan } from "../plan.ts"
import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { prefix } from "../section.ts"
import { Connection } from "./connection.ts"
import { Inbox } from "./inbox.ts"
import type { Network } from "./network.ts"
import { type RedisFlaws, RedisServer } from "./server.ts"

/** Milliseconds: the store's defaults. */
const operationTimeout = 2_000
const retryInterval = 100

/** The numbers of connections that wait for replicas begin here. */
const confirmingLine = 100

/** A socket calls back in the next turn of the event loop, which is late if the process is paused in between. */
const whenWritten = (run: Port["run"], process: Process): Port["run"] => (script, args, tally, limit) =>
  Effect.suspend(() => {
    let writtenAt: bigint | undefined
    process.afterReading(() => (writtenAt = process.clock.monotonicTimeNanosUnsafe()))
    return Effect.map(run(script, args, tally, limit), (reply) => ({ ...reply, sentAt: writtenAt ?? reply.sentAt }))
  })

export const make = (world: Omit<Network, "server" | "awakeAt" | "upAt">, plan: Plan, flaws: RedisFlaws): Backend => {
  const { timeline, serverLog } = world
  const server = new RedisServer(timeline, serverLog, flaws, plan.dimensions.has("contention"))
  const network: Network = { ...world, server, awakeAt: 0, upAt: 0 }
  const connections: Array<Connection> = []
  const inboxes: Array<Inbox> = []
  let foreignUntil = 0

  const cutAll = (random: Random): void => {
    for (const connection of connections) connection.breakDown(0, random)
    for (const inbox of inboxes) inbox.breakDown()
  }

  return {
    hasClaim: (key, id) => server.hasClaim(key, id),
    stateOf: (key) => server.stateOf(key),
    processOf: (id) => server.processOf(id),
    holderOf: (key) => server.holderOf(key),
    idleWaiterOf: (key) => server.idleWaiterOf(key),
    claimsOf: (process) => server.leftovers(process),
    hangUp: (process) => inboxes[process]?.close(),
    open: (process, onMessage) =>
      Effect.gen(function*() {
        // The client of a cluster limits its calls by itself; the client of one server leaves that to the store.
        const isHealthy = plan.dimensions.has("stalls")
        const connection = new Connection(network, process, isHealthy ? Infinity : operationTimeout)
        const inbox = new Inbox(network, process, operationTimeout)
        connection.onMessage = onMessage
        connections.push(connection)
        // A connection that waits for replicas takes longer than any call. Its client gives up what a process that stood
        // still for so long has not read: that is left out.
        const confirming = plan.replicas === 0
          ? undefined
          : new Connection(
            network,
            process,
            isHealthy ? Infinity : operationTimeout + 1_000,
            confirmingLine + process.index
          )
        if (confirming !== undefined) {
          confirming.onMessage = onMessage
          connections.push(confirming)
        }
        inboxes.push(inbox)
        const telemetry = yield* StoreTelemetry.make("Redis")
        const window = new Window({
          isReady: () => connection.ready,
          whyNotReady: () => notSent,
          send: (command, program, call) => connection.send(command, program, call)
        }, {
          telemetry,
          clock: process.clock,
          longest: operationTimeout,
          timers: {
            now: () => process.monotonic() / 1_000,
            after: (ms, run) => process.timer(ms, run),
            afterReading: (run) => process.afterReading(run)
          }
        })
        let tellServerLeft: () => void = () => {}
        connection.onClose = () => {
          window.lose()
          tellServerLeft()
        }
        const reconnected: Array<() => void> = []
        inbox.onReconnect = () => reconnected.forEach((listener) => listener())
        connection.onReconnect = () => {
          window.open()
          reconnected.forEach((listener) => listener())
        }
        const port: Port = {
          telemetry,
          run: flaws.countsFromWritten === true ? whenWritten(window.run, process) : window.run,
          heardAt: () => window.heardAt,
          inbox: inbox.name,
          onMessage: (listener) => void inbox.listeners.push(listener),
          onReconnect: (listener) => void reconnected.push(listener),
          onServerLeft: (listener) => void (tellServerLeft = listener),
          probe: Effect.callback((resume) => {
            const stop = inbox.probe(() => resume(Effect.void))
            return Effect.sync(stop)
          }),
          servers: () => [],
          replicated: (script, args, count, limit) =>
            Effect.callback((resume) => {
              if (confirming === undefined || !confirming.ready) return resume(Effect.fail(notSent))
              confirming.send("eval", script.lua, script.encode(args), { count, limit }).then(
                (reply) => {
                  const [written, replicas] = reply as readonly [unknown, number]
                  resume(Effect.succeed({ value: script.decode(written), replicas }))
                },
                (error: unknown) => resume(Effect.fail(fromClient(error)))
              )
            })
        }
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            connection.close()
            confirming?.close()
            window.close()
            inbox.close()
          })
        )
        const { interop } = plan
        const store = yield* Store.make(port, {
          keyPrefix: "",
          retryInterval,
          operationTimeout,
          interop,
          waitReplicas: plan.replicas
        })
        return { store, admin: yield* Admin.make(port, { keyPrefix: "", interop }) }
      }),
    inject: ({ choice, duration, key, kind, process }, until) => {
      const lock = prefix + key
      const random = new Random(choice)
      switch (kind) {
        case "server paused":
          network.awakeAt = Math.max(network.awakeAt, until)
          return
        case "server restarted":
        case "data lost":
          network.upAt = Math.max(network.upAt, until)
          if (kind === "data lost") server.loseData()
          server.forgetScripts()
          return cutAll(random)
        case "key deleted":
          return server.deleteLock(lock)
        case "queue deleted":
          return server.deleteQueue(lock)
        case "sum of permits evicted":
          return server.loseSum(lock)
        case "permits evicted":
          return server.losePermits(lock)
        case "early expiry":
          return server.setClock(duration)
        case "clock back":
          return server.setClock(-duration)
        case "scripts forgotten":
          return server.forgetScripts()
        case "connections cut":
          for (const one of connections) if (one.isOf(process)) one.breakDown(0, random)
          if (random.chance(0.5)) inboxes[process]?.breakDown()
          return
        case "cut off":
          for (const one of connections) if (one.isOf(process)) one.stall(until)
          return inboxes[process]?.goSilent()
        case "credentials refused": {
          const greeting = random.chance(0.5)
          for (const one of connections) if (one.isOf(process)) one.refuse(until, greeting, random)
          return greeting ? inboxes[process]?.breakDown(until) : undefined
        }
        case "listener silent":
          return inboxes[process]?.goSilent()
        case "foreign lock":
          foreignUntil = Math.max(foreignUntil, until)
          return server.takeForeign(lock, (until - timeline.now) / 1_000)
      }
    },
    heal: () => {
      for (const inbox of inboxes) inbox.heal()
    },
    leftovers: () => [...server.leftovers(), ...(plan.dimensions.has("tombstones") ? server.needlessTombstones() : [])],
    longestLife: 0,
    lateness: () => server.setBack / 1_000 + Math.max(0, foreignUntil - timeline.now) / 1_000
  }
}
