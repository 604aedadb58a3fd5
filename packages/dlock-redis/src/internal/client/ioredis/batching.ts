/** Sends requests to the socket in batches. */

import type { Redis } from "ioredis"
import type { Client } from "../window/window.ts"
import type { commands } from "./command.ts"

/**
 * Sends the requests of one turn of the event loop to the socket in batches, since with many sections at once the writes
 * are most of what a request costs. A batch is small, so that the server begins while the next is made. A request that is
 * alone on its way goes at once.
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
