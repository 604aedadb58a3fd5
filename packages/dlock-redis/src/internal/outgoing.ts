import type { Cluster, Redis } from "ioredis"
import { isCluster } from "./clients.ts"

/**
 * Before each request: those of one turn of the event loop go to the socket together, since with many sections at once
 * the writes are most of what a request costs. Not too many: the server is to begin while the next are made. One that is
 * alone on its way goes at once.
 */
export const gathering = (client: Redis | Cluster, isBusy: () => boolean): () => void => {
  if (isCluster(client)) return () => {}
  let corked: Redis["stream"] | undefined
  let gathered = 0
  const flush = () => {
    corked?.uncork()
    corked = undefined
  }
  return () => {
    if (corked === undefined && !isBusy()) return
    const { stream } = client
    if (stream === corked && ++gathered < requestsPerWrite) return
    if (corked === undefined) process.nextTick(flush)
    else corked.uncork()
    stream.cork()
    corked = stream
    gathered = 0
  }
}

const requestsPerWrite = 16
