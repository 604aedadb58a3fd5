/** Fetches fresh options before each attempt to connect. */

import type { Redis, RedisOptions } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"

/** How many milliseconds to wait before the next attempt to connect, after so many attempts. */
export const backOff = (times: number): number => Math.min(20 * 2 ** Math.min(times, 10), 500)

/** The private part of a client that makes its connections. */
interface Private {
  readonly connector: { connecting: boolean; connect: (emit: unknown) => Promise<unknown> }
  readonly condition: { auth: unknown }
}

/**
 * Fetches a client's options before each connection: its address or its credentials. If that fails, the error is
 * reported, and after a pause the options are fetched again before the client connects.
 */
export const beforeConnecting = <Client extends Redis>(
  client: Client,
  find: () => Promise<RedisOptions>,
  failed: (error: unknown) => void
): Client => {
  const own = client as unknown as Private
  const { connector } = own
  const connect = connector.connect.bind(connector)
  const found = async (times: number): Promise<RedisOptions> => {
    try {
      return await find()
    } catch (error) {
      failed(error)
      await sleep(backOff(times), undefined, { ref: false })
      return connector.connecting ? found(times + 1) : {}
    }
  }
  connector.connect = async (emit) => {
    connector.connecting = true
    const { password, username } = Object.assign(client.options, await found(0))
    if (!connector.connecting) throw new Error("Connection is closed.")
    own.condition.auth = username ? [username, password] : password
    return connect(emit)
  }
  return client
}
