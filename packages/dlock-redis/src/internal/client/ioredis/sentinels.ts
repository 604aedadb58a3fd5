/** Keeps a client on the primary that the latest failover chose. */

import type { Cluster, Redis, RedisOptions } from "ioredis"
import { sanitized } from "../failure.ts"
import { beforeConnecting } from "./attempts.ts"
import { strictGreeting } from "./greeting.ts"
import { ignoreSocketErrors } from "./streams.ts"

interface Address {
  readonly host: string
  readonly port: number
}

/** The primary that a sentinel reports. The epoch grows with each failover. */
interface Primary {
  readonly address: Address
  readonly epoch: number
}

/** The private part of the client that asks sentinels. */
interface Connector {
  readonly options: { readonly name: string; readonly sentinels: ReadonlyArray<unknown> }
  connectToSentinel: (endpoint: Partial<Address>, options?: object) => Redis
  resolve: (endpoint: Partial<Address>) => Promise<Address | null>
  sentinelNatResolve: (address: Address) => Address
}

/** The client's connector, if it asks sentinels. */
export const throughSentinels = (client: Redis | Cluster): Connector | undefined => {
  const { connector } = client as unknown as { readonly connector?: Partial<Connector> }
  return connector?.connectToSentinel === undefined ? undefined : connector as Connector
}

/** Milliseconds. The client's default for these connections would keep a process alive that has nothing else to do. */
const disconnectTimeout = 100

/**
 * Keeps a client connected to the primary that the latest failover chose.
 *
 * By itself, the client asks one sentinel for the primary and then subscribes to all of them. It never learns of a
 * failover in between, or while it is not subscribed. An old primary that still runs would go on confirming requests.
 * So every sentinel is asked again once the client has subscribed to it, and the answer of a sentinel that knows of
 * fewer failovers than another is ignored.
 *
 * The client also emits `sentinelError` and `sentinelListening`, for events that ioredis ignores or only prints. Each
 * error names every sentinel that has failed since the last success, so the last error contains all of them.
 */
export const followSentinels = (client: Redis, fresh?: () => Promise<RedisOptions>): Redis => {
  const connector = throughSentinels(client)
  if (connector === undefined) return client
  const connectToSentinel = connector.connectToSentinel.bind(connector)
  const resolve = connector.resolve.bind(connector)
  const { name } = connector.options
  const failures = new Map<string, string>()
  const failed = (endpoint: Partial<Address>, error: unknown) => {
    const sentinel = textOf(endpoint)
    const { message } = sanitized(error)
    // The end of a connection says less than the error that ended it.
    if (!message.startsWith("Connection is closed") || !failures.has(sentinel)) {
      failures.set(sentinel, unknownName.test(message) ? ` knows no primary "${name}"` : `: ${message}`)
    }
    const all = Array.from(failures, ([sentinel, how]) => `sentinel ${sentinel}${how}`)
    client.emit("sentinelError", new Error(all.join("; "), { cause: error }))
  }
  const connect = (endpoint: Partial<Address>, options?: object) => {
    const tell = (error: unknown) => failed(endpoint, error)
    return strictGreeting(ignoreSocketErrors(connectToSentinel(endpoint, { ...options, disconnectTimeout })), tell).on(
      "error",
      tell
    )
  }

  const primaryBy = async (endpoint: Partial<Address>): Promise<Primary | undefined> => {
    const sentinel = connect(endpoint)
    try {
      const primary = primaryOf(await sentinel.call("SENTINEL", "MASTER", name))
      return primary && { ...primary, address: connector.sentinelNatResolve(primary.address) }
    } catch (error) {
      failed(endpoint, error)
      return undefined
    } finally {
      sentinel.disconnect()
    }
  }

  let epoch = 0
  let goesTo: string | undefined
  /**
   * How many sentinels in a row gave an old answer. If all of them do, the sentinels were set up again, and count
   * failovers from the start.
   */
  let outdated = 0

  connector.resolve = async (endpoint) => {
    const resolving = resolve(endpoint).catch((error: unknown) => {
      failed(endpoint, error)
      throw error
    })
    const [resolved, primary] = await Promise.all([resolving, primaryBy(endpoint)])
    if (resolved === null || primary === undefined) {
      goesTo = resolved === null ? undefined : textOf(resolved)
      return resolved
    }
    if (primary.epoch < epoch && ++outdated <= connector.options.sentinels.length) {
      failed(endpoint, new Error("its answer is old: another sentinel knows of more failovers"))
      return null
    }
    failures.clear()
    outdated = 0
    epoch = primary.epoch
    goesTo = textOf(primary.address)
    return primary.address
  }

  const leaveReplaced = async (endpoint: Partial<Address>): Promise<void> => {
    const primary = await primaryBy(endpoint)
    if (primary === undefined || primary.epoch < epoch) return
    epoch = primary.epoch
    if (textOf(primary.address) !== goesTo) client.disconnect(true)
  }

  connector.connectToSentinel = (endpoint, options) => {
    const sentinel = connect(endpoint, options)
    if (fresh !== undefined && sentinel.status === "wait") {
      // This connection reconnects on its own, independently of the client, so it has to fetch fresh options on its own.
      const find = async () => {
        const { sentinelPassword, sentinelTLS } = Object.assign(client.options, await fresh())
        return { password: sentinelPassword ?? null, tls: sentinelTLS } as RedisOptions
      }
      beforeConnecting(sentinel, find, (error) => failed(endpoint, error))
    }
    const subscribe = sentinel.subscribe.bind(sentinel) as (...channels: ReadonlyArray<string>) => Promise<unknown>
    return Object.assign(sentinel, {
      subscribe: (...channels: ReadonlyArray<string>) => {
        const subscribed = subscribe(...channels)
        subscribed.then(() => {
          client.emit("sentinelListening")
          return leaveReplaced(endpoint)
        }).catch((error: unknown) => failed(endpoint, error))
        return subscribed
      }
    })
  }
  return client
}

/** The servers' messages for a primary's name that they do not know. */
const unknownName = /^ERR No such (master|primary)/

/** The client uses these defaults for a missing host or port. */
const textOf = ({ host = "127.0.0.1", port = 26_379 }: Partial<Address>): string => `${host}:${port}`

/** Reads a list of names and values, a map or an object, depending on the client. */
const primaryOf = (reply: unknown): Primary | undefined => {
  const fields = new Map<string, string>()
  if (Array.isArray(reply)) {
    for (let index = 0; index + 1 < reply.length; index += 2) fields.set(String(reply[index]), String(reply[index + 1]))
  } else if (typeof reply === "object" && reply !== null) {
    const entries = reply instanceof Map ? reply : Object.entries(reply)
    for (const [name, value] of entries) fields.set(String(name), String(value))
  }
  const [host, port, epoch] = ["ip", "port", "config-epoch"].map((name) => fields.get(name))
  return host === undefined || port === undefined || epoch === undefined
    ? undefined
    : { address: { host, port: Number(port) }, epoch: Number(epoch) }
}
