/** Handles every error of a client's sockets. */

import type { Redis } from "ioredis"

/**
 * Ignores the errors of a client's sockets. The client listens to only one error of each socket, and an aborted TLS
 * handshake may cause a second one. An error without a listener would end the process.
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
