/** Handles every error of a client's sockets. */

import type { Redis } from "ioredis"

/**
 * Ignores the errors of a client's sockets. The client listens to one error of each, and a handshake that is broken off
 * may bring a second: an error without a listener ends the process.
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
