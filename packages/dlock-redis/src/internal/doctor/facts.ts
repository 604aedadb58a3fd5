/** What a server tells of itself, as far as it permits our questions. */

import * as Effect from "effect/Effect"
import type { Ask } from "../client/port.ts"

/** A replica as its primary tells of it. */
export interface Replica {
  readonly name: string
  readonly isOnline: boolean
  /** Seconds since it last acknowledged. */
  readonly lag: number
}

export interface Facts {
  readonly name: string
  /** A field of `INFO`. `undefined` if the server does not tell it. */
  readonly info: (field: string) => string | undefined
  /** A field of `INFO` as a number. */
  readonly count: (field: string) => number | undefined
  /** A setting of `CONFIG GET`. `undefined` if the server refuses the question. */
  readonly config: (name: string) => string | undefined
  readonly replicas: ReadonlyArray<Replica>
  /** What the server reported as its process, at each question: more than one if others answer in its place. */
  readonly runIds: ReadonlySet<string>
  /** The number of our connection at the server, at each question. */
  readonly clientIds: ReadonlySet<string>
  /** The port of our end of the connection, as the server sees it. */
  readonly portSeen: number | undefined
  /** The longest command that the server remembers as slow, and how many milliseconds it took. */
  readonly slowest: { readonly command: string; readonly millis: number } | undefined
  /** The questions that the server refused. */
  readonly refused: ReadonlyArray<string>
}

/** The settings that the rules read. */
const settings = [
  "maxmemory",
  "maxmemory-policy",
  "save",
  "appendfsync",
  "min-replicas-to-write",
  "min-replicas-max-lag",
  "timeout",
  "tcp-keepalive",
  "client-output-buffer-limit",
  "maxclients"
] as const

/** Names and values, out of a list, a map or an object, depending on the client. */
export const pairsOf = (reply: unknown): ReadonlyMap<string, string> => {
  if (Array.isArray(reply)) {
    const pairs: Array<[string, string]> = []
    for (let index = 0; index + 1 < reply.length; index += 2) {
      pairs.push([String(reply[index]), String(reply[index + 1])])
    }
    return new Map(pairs)
  }
  if (typeof reply !== "object" || reply === null) return new Map()
  const entries: Iterable<readonly [unknown, unknown]> = reply instanceof Map ? reply : Object.entries(reply)
  return new Map(Array.from(entries, ([name, value]) => [String(name), String(value)]))
}

export const read = (name: string, ask: Ask): Effect.Effect<Facts> =>
  Effect.gen(function*() {
    const refused: Array<string> = []
    const asked = (permission: string, ...command: readonly [string, ...Array<string>]) =>
      Effect.catch(ask(...command), () => {
        refused.push(permission)
        return Effect.undefined
      })
    const asWell = (...command: readonly [string, ...Array<string>]) =>
      Effect.orElseSucceed(ask(...command), () => undefined)
    // All at once: over a slow link each question alone would take its time.
    const [info, infoAgain, id, idAgain, client, slow, config] = yield* Effect.all([
      asked("+info", "INFO"),
      asWell("INFO", "server"),
      asked("+client|id", "CLIENT", "ID"),
      asWell("CLIENT", "ID"),
      asked("+client|info", "CLIENT", "INFO"),
      asked("+slowlog|get", "SLOWLOG", "GET", "128"),
      // One name in each question: a server before 7.0 takes no more.
      Effect.forEach(settings, (setting) =>
        Effect.map(
          asked("+config|get", "CONFIG", "GET", setting),
          (reply) => [setting as string, pairsOf(reply).get(setting)] as const
        ), { concurrency: "unbounded" })
    ], { concurrency: "unbounded" })
    const fields = fieldsOf(textOf(info))
    const values = new Map(config)
    const runIds = [fields.get("run_id"), fieldsOf(textOf(infoAgain)).get("run_id")]
    return {
      name,
      info: (field) => fields.get(field),
      count: (field) => numberOf(fields.get(field)),
      config: (setting) => values.get(setting),
      replicas: replicasOf(fields),
      runIds: new Set(runIds.flatMap((id) => id ?? [])),
      clientIds: new Set([id, idAgain].flatMap((id) => id === undefined ? [] : [textOf(id)])),
      portSeen: numberOf(/\baddr=\S*:(\d+)\b/.exec(textOf(client))?.[1]),
      slowest: slowestOf(slow),
      refused: Array.from(new Set(refused))
    }
  })

const textOf = (reply: unknown): string =>
  typeof reply === "string" || typeof reply === "number" || typeof reply === "bigint" ? `${reply}` : ""

const numberOf = (text: string | undefined): number | undefined => {
  const number = text === undefined || text === "" ? NaN : Number(text)
  return Number.isFinite(number) ? number : undefined
}

const fieldsOf = (info: string): ReadonlyMap<string, string> =>
  new Map(Array.from(info.matchAll(/^([^#:\r\n]+):(.*?)\r?$/gm), ([, name, value]) => [name!, value!] as const))

const replicasOf = (fields: ReadonlyMap<string, string>): ReadonlyArray<Replica> =>
  Array.from(fields).flatMap(([name, text]) => {
    if (!/^slave\d+$/.test(name)) return []
    const of = new Map(text.split(",").map((pair) => pair.split("=", 2) as [string, string]))
    return [{
      name: `${of.get("ip")}:${of.get("port")}`,
      isOnline: of.get("state") === "online",
      lag: Number(of.get("lag") ?? 0)
    }]
  })

/** The entries have an id, a time, the microseconds and the words of the command. */
const slowestOf = (reply: unknown): Facts["slowest"] =>
  (Array.isArray(reply) ? reply : [])
    .flatMap((entry: unknown) =>
      Array.isArray(entry) && Array.isArray(entry[3])
        ? [{ millis: Number(entry[2]) / 1_000, command: String(entry[3][0]) }]
        : []
    )
    .toSorted((one, other) => other.millis - one.millis)[0]
