import type { Redis, RedisOptions } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"

/** Milliseconds until the next of so many attempts to connect. */
export const backOff = (times: number): number => Math.min(20 * 2 ** Math.min(times, 10), 500)

/**
 * Finds out anew, before each connection of a client, where it goes or as whom. Where that fails there is no connection:
 * it is told, and tried again.
 */
export const before = <Client extends Redis>(
  client: Client,
  find: () => Promise<RedisOptions> | RedisOptions,
  failed: (error: unknown) => void
): Client => {
  const connect = client.connect.bind(client)
  const disconnect = client.disconnect.bind(client)
  let closed = false
  const found = async (times = 0): Promise<RedisOptions> => {
    try {
      return await find()
    } catch (error) {
      failed(error)
      await sleep(backOff(times), undefined, { ref: false })
      return closed ? {} : found(times + 1)
    }
  }
  return Object.assign(client, {
    connect: async () => {
      Object.assign(client.options, await found())
      if (!closed) await connect()
    },
    disconnect: (reconnect = false) => {
      closed ||= !reconnect
      disconnect(reconnect)
    }
  })
}
