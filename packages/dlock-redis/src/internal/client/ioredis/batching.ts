/** Writes requests to the socket in batches. */

import type { Redis } from "ioredis"
import type { Client } from "../window/window.ts"
import type { commands } from "./command.ts"

/**
 * Writes the requests of one event-loop turn in batches, because with many sections at once, the socket writes are most
 * of the cost of a request. A batch has at most 16 requests, so that the server can start early. A request is written
 * at once if no other is waiting for its reply.
 */
export const sendInBatches = (
  client: Redis,
  isBusy: () => boolean,
  commandOf: ReturnType<typeof commands>
): Client["send"] => {
  let corked: Redis["stream"] | undefined
  let inBatch = 0
  const flush = () => {
    corked?.uncork()
    corked = undefined
  }
  const addToBatch = () => {
    const { stream } = client
    if (stream === corked && ++inBatch < requestsPerBatch) return
    if (corked === undefined) process.nextTick(flush)
    else corked.uncork()
    stream.cork()
    corked = stream
    inBatch = 0
  }
  return (name, program, call) => {
    if (corked !== undefined || isBusy()) addToBatch()
    return client.sendCommand(commandOf(name, program, call)) as Promise<unknown>
  }
}

const requestsPerBatch = 16
