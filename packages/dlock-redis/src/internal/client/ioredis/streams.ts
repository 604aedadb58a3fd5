// Handles every error of a client's sockets.
import type { Redis } from "ioredis"

/**
 * Listens to whatever befalls a client's sockets. The client hears one error of each, and a handshake that is broken off
 * may bring a second: an error that nobody listens to ends the process.
 */
export const ignoreSocketErrors = <Client extends Redis>(client: Client): Client => {
  let stream: Redis["stream"] | undefined
  return Object.defineProperty(client, "stream", {
    configurable: true,
    enumerable: true,
    get: () => stream,
    set: (next: Redis["stream"] | undefined) => {
      stream = next
      stream?.on("error", () => {})
    }
  })
}
