/** Keeps a client on the primary that the newest failover chose. */

import type { Cluster, Redis, RedisOptions } from "ioredis"
import { sanitized } from "../failure.ts"
import { beforeConnecting } from "./attempts.ts"
import { strictGreeting } from "./greeting.ts"
import { ignoreSocketErrors } from "./streams.ts"

interface Address {
  readonly host: string
  readonly port: number
}

/** Whom a sentinel calls the primary. The epoch grows with each failover. */
interface Primary {
  readonly address: Address
  readonly epoch: number
}

/** The part of the client that asks sentinels, which it keeps to itself. */
interface Connector {
  readonly options: { readonly name: string; readonly sentinels: ReadonlyArray<unknown> }
  connectToSentinel: (endpoint: Partial<Address>, options?: object) => Redis
  resolve: (endpoint: Partial<Address>) => Promise<Address | null>
  sentinelNatResolve: (address: Address) => Address
}

/** What a client asks sentinels by, where it does. */
export const throughSentinels = (client: Redis | Cluster): Connector | undefined => {
  const { connector } = client as unknown as { readonly connector?: Partial<Connector> }
  return connector?.connectToSentinel === undefined ? undefined : connector as Connector
}

/** Milliseconds; the client's own for these connections would keep a process alive that has nothing else to do. */
const disconnectTimeout = 100

/**
 * Sees to it that a client is where the newest failover has put the primary.
 *
 * The client asks one sentinel where to go and then listens to all of them. What is told between the two, or while it
 * does not hear them, it would miss for good, and an old primary that still runs would go on confirming to it for as
 * long as it likes. So each sentinel is asked once more when it is listened to; and one that knows less than another
 * has said leads nowhere.
 *
 * It also tells, as `sentinelError` and `sentinelListening`, what the client keeps to itself or prints: each error names
 * all sentinels that have failed since one led somewhere, so that it does not matter which is the last.
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
    // The connection's end says less than what ended it.
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
  /** In a row, and told nothing newer: when all of them know less, they have been set up anew. */
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
      // It makes itself anew, beside the client that it belongs to.
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

/** Servers' words for a name of which they have not been told. */
const unknownName = /^ERR No such (master|primary)/

/** The client's defaults fill in for what an endpoint does not say. */
const textOf = ({ host = "127.0.0.1", port = 26_379 }: Partial<Address>): string => `${host}:${port}`

/** A list of names and values, or a map of them, as the client has it. */
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
