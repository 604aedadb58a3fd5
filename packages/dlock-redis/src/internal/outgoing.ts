import type { Cluster, Redis } from "ioredis"
import { isCluster } from "./clients.ts"
import { isReply, sanitized } from "./failure.ts"

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

/**
 * A node that does not answer may have been replaced. A cluster's client finds out when it is sent elsewhere, and a node
 * that is silent sends nobody anywhere: so it is made to look. What it finds to have left the cluster it disconnects, and
 * no answer that comes late from there is believed.
 */
export const lookingAround = (cluster: Redis | Cluster): <A>(reply: Promise<A>) => Promise<A> => {
  if (!isCluster(cluster)) return (reply) => reply
  const pending = new Set<{ readonly sentAt: number }>()
  let timer: NodeJS.Timeout | undefined
  const look = (): void => {
    const [oldest] = pending
    if (oldest === undefined) {
      clearInterval(timer)
      timer = undefined
    } else if (performance.now() > oldest.sentAt + silence) cluster.refreshSlotsCache()
  }
  return (reply) => {
    const request = { sentAt: performance.now() }
    pending.add(request)
    timer ??= setInterval(look, silence / 2).unref()
    return reply.then(
      (value) => {
        pending.delete(request)
        return value
      },
      (error: unknown) => {
        pending.delete(request)
        const cause = sanitized(error)
        // One that was taken out of the cluster, or is cut off from it, says that all of it is down.
        if (!isReply(cause) || cause.message.startsWith("CLUSTERDOWN")) cluster.refreshSlotsCache()
        throw error
      }
    )
  }
}

/** Milliseconds after which a cluster's node is called silent. */
const silence = 500
