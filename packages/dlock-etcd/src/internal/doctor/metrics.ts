/** What a member tells by its metrics, which it serves beside its API unless it was told otherwise. */

import * as Effect from "effect/Effect"
import type { IOptions } from "etcd3"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Tls from "node:tls"

export interface Metrics {
  /** The value of a metric without labels. */
  readonly value: (name: string) => number | undefined
  /** An upper bound of a share of a histogram's values, in its own unit. */
  readonly below: (name: string, share: number) => number | undefined
}

/** Milliseconds. The metrics are asked beside the API, and nothing depends on them. */
const patience = 2_000

/** More than any member has. */
const mostBytes = 8_000_000

export const readMetrics = (
  address: string,
  credentials: IOptions["credentials"]
): Effect.Effect<Metrics | undefined> =>
  Effect.map(readPath(address, "/metrics", credentials), (text) => text === undefined ? undefined : metricsOf(text))

/** The body of a page of a member. `undefined` if it has no such page. */
export const readPath = (
  address: string,
  path: string,
  credentials: IOptions["credentials"]
): Effect.Effect<string | undefined> =>
  Effect.callback<string | undefined>((resume, signal) => {
    const url = urlOf(path, address)
    const end = (text?: string) => resume(Effect.succeed(text))
    const settings = { signal, timeout: patience, agent: false as const }
    const told = (response: Http.IncomingMessage) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (chunk: string) => {
        text += chunk
        if (text.length > mostBytes) response.destroy()
      })
      response.on("error", () => end())
      response.on("close", () => end())
      response.on("end", () => end(response.statusCode === 200 ? text : undefined))
    }
    const request = url.protocol === "https:"
      ? Https.get(url, {
        ...settings,
        ca: credentials?.rootCertificate,
        key: credentials?.privateKey,
        cert: credentials?.certChain
      }, told)
      : Http.get(url, settings, told)
    request.on("timeout", () => request.destroy())
    request.on("error", () => end())
  }).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.undefined }))

/** Whether a port speaks TLS. Nothing is sent but the beginning of TLS, so whose certificate it has does not matter. */
export const speaksTls = (address: string): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const { hostname, port } = urlOf("/", address)
    const socket = Tls.connect({ host: hostname, port: Number(port), rejectUnauthorized: false })
    const end = (isTls: boolean) => resume(Effect.succeed(isTls))
    socket.on("secureConnect", () => end(true))
    // A server that asks for our certificate speaks TLS too.
    socket.on("error", (error) => end(/alert/.test(error.message)))
    socket.on("close", () => end(false))
    return Effect.sync(() => socket.destroy())
  }).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed(false) }))

const urlOf = (path: string, address: string): URL =>
  new URL(path, /^https?:\/\//.test(address) ? address : `http://${address}`)

export const metricsOf = (text: string): Metrics => {
  const values = new Map(
    Array.from(text.matchAll(/^([a-z_]\w*(?:\{[^}\n]*\})?) (\S+)$/gm), ([, name, value]) => [name!, Number(value)])
  )
  return {
    value: (name) => values.get(name),
    below: (name, share) => {
      const buckets = Array.from(values).flatMap(([key, count]) => {
        const [, bound] = key.startsWith(`${name}_bucket{`) ? /\ble="([^"]+)"/.exec(key) ?? [] : []
        return bound === undefined ? [] : [{ bound: bound === "+Inf" ? Infinity : Number(bound), count }]
      }).toSorted((one, other) => one.bound - other.bound)
      const all = buckets.at(-1)?.count ?? 0
      return all === 0 ? undefined : buckets.find(({ count }) => count >= all * share)?.bound
    }
  }
}
