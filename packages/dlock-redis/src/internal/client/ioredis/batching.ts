import type { Redis } from "ioredis"
import type { Client } from "../window/window.ts"
import type { commands } from "./command.ts"

/**
 * Sends requests so that those of one turn of the event loop go to the socket together, since with many sections at once
 * the writes are most of what a request costs. Not too many: the server is to begin while the next are made. One that is
 * alone on its way goes at once.
 */
export const sendTogether = (
  client: Redis,
  isBusy: () => boolean,
  commandOf: ReturnType<typeof commands>
): Client["send"] => {
  let corked: Redis["stream"] | undefined
  let gathered = 0
  const flush = () => {
    corked?.uncork()
    corked = undefined
  }
  const gather = () => {
    const { stream } = client
    if (stream === corked && ++gathered < requestsPerWrite) return
    if (corked === undefined) process.nextTick(flush)
    else corked.uncork()
    stream.cork()
    corked = stream
    gathered = 0
  }
  return (name, program, call) => {
    if (corked !== undefined || isBusy()) gather()
    return client.sendCommand(commandOf(name, program, call)) as Promise<unknown>
  }
}

const requestsPerWrite = 16
