/** Examines the servers of a target: reads, watches and judges. It takes no lock. */

import * as Diagnosis from "effect-dlock/Diagnosis"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import * as Net from "node:net"
import type { Target } from "../client/address.ts"
import { describe } from "../client/connection.ts"
import { sanitized } from "../client/failure.ts"
import { newInbox } from "../client/inbox.ts"
import { type Common, connect, connectSubscriber, isCluster, library } from "../client/ioredis/clients.ts"
import { isRefused } from "../client/permissions.ts"
import type { Ask } from "../client/port.ts"
import type { Settings } from "../options.ts"
import { type Facts, read } from "./facts.ts"
import { type Heard, messageFinding, permissionFinding } from "./permissions.ts"
import * as Replication from "./replication.ts"
import * as Rules from "./rules.ts"
import { clusterFindings, nodeAlone, sentinelFindings } from "./topology.ts"
import { clockFindings, watch } from "./watching.ts"

/** What an examination is about, in milliseconds. */
export interface Examination {
  readonly prefix: string
  readonly ttl: number
  readonly observation: number
}

export const examine = (
  target: Target,
  settings: Settings,
  examination: Examination
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> =>
  Effect.gen(function*() {
    const known = yield* withSecrets(target)
    const opened = yield* Effect.result(opening(known, settings))
    if (opened._tag === "Success") return yield* examineServers(known, settings, examination, opened.success)
    if (opened.failure._tag !== "LockBackendError") return yield* Effect.fail(opened.failure)
    const cause = sanitized(opened.failure.cause)
    return Diagnosis.unreachable(
      addressOf(known),
      known.options.tls !== undefined && (yield* speaksPlainly(known.options))
        ? new Error(`${cause.message}: this port answers without TLS`)
        : cause
    )
  }).pipe(Effect.scoped)

/** A doctor connects once, so that it asks once for the secrets that may change. */
const withSecrets = (target: Target): Effect.Effect<Target> => {
  const { fresh, ...rest } = target
  return fresh === undefined
    ? Effect.succeed(target)
    : Effect.match(fresh, {
      onSuccess: (options) => ({ ...rest, options: { ...rest.options, ...options } }),
      // The connection then tells what is missing.
      onFailure: () => rest
    })
}

const addressOf = (target: Target): string => {
  if (target._tag === "Cluster") return "cluster"
  const { host, name, path, port } = target.options
  return name ?? path ?? `${host}:${port}`
}

/**
 * Whether a server answers a line without TLS. Such a server waits for the end of the line while a client begins with TLS,
 * so that the client hears nothing.
 */
const speaksPlainly = ({ host = "", port = 0 }: RedisOptions): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect(port, host, () => socket.write("PING\r\n"))
    socket.on("data", (data) => resume(Effect.succeed(/^[+-]/.test(data.toString()))))
    socket.on("error", () => resume(Effect.succeed(false)))
    socket.on("close", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutOrElse({ duration: 500, orElse: () => Effect.succeed(false) }))

interface Clients {
  readonly commands: Redis | Cluster
  /** Listens on a connection of its own. */
  readonly listener: Redis
  readonly inbox: string
}

const opening = (target: Target, settings: Settings) =>
  Effect.gen(function*() {
    const common: Common = {
      telemetry: yield* StoreTelemetry.make("Redis"),
      secure: target.options.tls !== undefined
    }
    const [{ client: commands }, listening] = yield* Effect.all([
      connect(target, settings, common),
      target._tag === "Cluster" ? Effect.undefined : connect(target, settings, common)
    ], { concurrency: "unbounded" })
    return {
      commands,
      listener: isCluster(commands)
        ? yield* connectSubscriber(target, commands, settings, common)
        : listening!.client as Redis,
      inbox: newInbox()
    } satisfies Clients
  })

interface Examined {
  readonly facts: Facts
  readonly findings: ReadonlyArray<Diagnosis.Finding>
}

const examineServers = (
  target: Target,
  settings: Settings,
  examination: Examination,
  { commands, inbox, listener }: Clients
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError, Scope.Scope> =>
  Effect.gen(function*() {
    const servers = isCluster(commands) ? commands.nodes("master") : [commands]
    const examined = yield* Effect.forEach(
      servers,
      (server) => examineServer(server, listener, inbox, settings, examination, target),
      { concurrency: "unbounded" }
    )
    const ask = describe(settings.operationTimeout)(servers[0]!).ask
    const together = isCluster(commands)
      ? yield* clusterFindings(ask)
      : target.options.sentinels === undefined
      ? examined.flatMap(({ facts }) => Replication.isClusterNode(facts) ? [nodeAlone(facts.name)] : [])
      : yield* sentinelFindings(yield* library, target.options, settings.operationTimeout)
    return { findings: [...examined.flatMap(({ findings }) => findings), ...together] }
  })

const examineServer = (
  server: Redis,
  listener: Redis,
  inbox: string,
  settings: Settings,
  { observation, prefix, ttl }: Examination,
  target: Target
): Effect.Effect<Examined> =>
  Effect.gen(function*() {
    const { ask, name } = describe(settings.operationTimeout)(server)
    const [facts, heard] = yield* Effect.all([
      read(name, ask),
      hear(listener, inbox, name, ask)
    ], { concurrency: "unbounded" })
    const permissions = yield* permissionFinding({
      ask,
      heard,
      inbox,
      prefix: settings.keyPrefix + prefix,
      subject: name,
      waitReplicas: settings.waitReplicas
    })
    const lag = yield* ownLag
    const samples = yield* watch(ask, observation)
    const limit = Math.min(ttl / 6, settings.operationTimeout)
    const ourPort = (server as { readonly stream?: { readonly localPort?: number } }).stream?.localPort
    const all = {
      ...Rules.rules,
      ...Replication.rulesFor({
        waitReplicas: settings.waitReplicas,
        isAutomatic: target._tag === "Cluster" || target.options.sentinels !== undefined
      }),
      "slow-commands": Rules.slowCommands(limit),
      proxy: Rules.proxy(ourPort)
    }
    const judged = Object.entries(all).flatMap(([check, rule]): ReadonlyArray<Diagnosis.Finding> => {
      const found = rule(facts)
      return found === undefined ? [] : [{ check, subject: name, ...found }]
    })
    const message = messageFinding(name, heard)
    return {
      facts,
      findings: [
        ...judged,
        permissions,
        ...(message === undefined ? [] : [message]),
        ...clockFindings(name, samples),
        Diagnosis.latency({
          subject: name,
          trips: samples.map(({ trip }) => trip),
          ownLag: lag(),
          ttl,
          operationTimeout: settings.operationTimeout
        }),
        ...(facts.refused.length === 0 ? [] : [{
          check: "unseen",
          severity: "note" as const,
          subject: name,
          seen: `not every question was answered: ${facts.refused.join(" ")}`,
          fix: "run the doctor as a user that may ask them; locks do not need them (except +info)"
        }])
      ]
    }
  }).pipe(Effect.scoped)

/** By how many milliseconds our own timers are late, at most, since it was begun. */
const ownLag: Effect.Effect<() => number, never, Scope.Scope> = Effect.gen(function*() {
  let [last, longest] = [performance.now(), 0]
  const period = 10
  const timer = setInterval(() => {
    const now = performance.now()
    longest = Math.max(longest, now - last - period)
    last = now
  }, period)
  yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(timer)))
  return () => longest
})

/** Sends a message to ourselves through a server, by the way of a hand-over. */
const hear = (listener: Redis, inbox: string, server: string, ask: Ask): Effect.Effect<Heard> =>
  Effect.gen(function*() {
    const subscribed = yield* Effect.result(
      Effect.tryPromise({ try: () => listener.subscribe(inbox), catch: sanitized })
    )
    if (subscribed._tag === "Failure") return { refusal: subscribed.failure, isMute: false, after: undefined }
    const sentAt = performance.now()
    const came = Effect.callback<number>((resume) => {
      const told = (_channel: string, message: string) => {
        if (message === server) resume(Effect.succeed(performance.now() - sentAt))
      }
      listener.on("message", told)
      return Effect.sync(() => listener.off("message", told))
    })
    const published = Effect.matchEffect(ask("PUBLISH", inbox, server), {
      onSuccess: () => Effect.never,
      onFailure: ({ cause }) => Effect.fail(cause)
    })
    return yield* Effect.raceFirst(came, published).pipe(
      Effect.timeoutOrElse({ duration: 1_000, orElse: () => Effect.undefined }),
      Effect.match({
        onSuccess: (after): Heard => ({ refusal: undefined, isMute: false, after }),
        onFailure: (cause): Heard => ({ refusal: undefined, isMute: isRefused(cause), after: undefined })
      })
    )
  })
