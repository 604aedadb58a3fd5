import * as Net from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { splitNotifications } from "./notifications.ts"

/**
 * A TCP proxy in this process that a test can make misbehave. "Requests" are the bytes towards the server, "replies"
 * those from it. What is held is kept, in order, until `release`: the ends of connections too.
 */
export interface Proxy {
  readonly port: number
  readonly url: string
  /** Lets nothing through, either way. */
  readonly hold: () => void
  readonly holdRequests: () => void
  readonly holdReplies: () => void
  /** Lets through what was held, and all that comes. */
  readonly release: () => void
  /** Cuts every open connection with RST on both sides; what was held for them is lost. */
  readonly reset: () => void
  /**
   * Swallows all bytes of the connections that are open now, both ways, and never closes these connections, as a NAT does that
   * has forgotten them. `release` does not bring the bytes back. New connections pass.
   */
  readonly forget: () => void
  /** Closes the port, so that new connections are refused; open ones live on. */
  readonly refuse: () => void
  /** Opens the port again. */
  readonly accept: () => Promise<void>
  /**
   * Takes in for `ms` what the connections open now still send, cuts them on the client's side, and lets the server have
   * those bytes `late` ms after that: requests that arrive when their client has long gone elsewhere. With `from`, only
   * the connection of the first such request is stranded, beginning with it; where none comes within two seconds, none is.
   */
  readonly strand: (ms: number, late: number, from?: (request: Buffer) => boolean) => Promise<void>
  /** What becomes of Redis's messages to subscribers: lost, so many milliseconds late and out of order, or in time again. */
  readonly deliverNotifications: (fate: "lose" | "in time" | { readonly late: number }) => void
  /** Passes each chunk on `ms` after it came, both ways. */
  readonly delay: (ms: number) => void
  /** Connections open now. */
  readonly connections: () => number
  /** Connections accepted since the start. */
  readonly accepted: () => number
  /** Bytes that arrived since the start, whether passed on or held. */
  readonly bytes: () => { readonly requests: number; readonly replies: number }
  /** Calls the listener with each chunk towards the server before it is passed on; returns the way to stop that. */
  readonly onRequest: (listener: (chunk: Buffer) => void) => () => void
  readonly onReply: (listener: (chunk: Buffer) => void) => () => void
  /** Resets all connections and closes the port. */
  readonly stop: () => Promise<void>
}

type Way = "requests" | "replies"

interface Direction {
  readonly push: (action: () => void) => void
  readonly pump: () => void
  readonly drop: () => void
  readonly strand: (on: boolean) => void
}

/** Starts a proxy on a free loopback port. */
export const startProxy = async (targetPort: number, scheme = "redis"): Promise<Proxy> => {
  const held = { requests: false, replies: false }
  const bytes = { requests: 0, replies: 0 }
  const listeners = { requests: new Set<(chunk: Buffer) => void>(), replies: new Set<(chunk: Buffer) => void>() }
  const open = new Map<
    Net.Socket,
    { readonly server: Net.Socket; readonly directions: readonly [requests: Direction, replies: Direction] }
  >()
  let accepted = 0
  let latency = 0
  let fate: Parameters<Proxy["deliverNotifications"]>[0] = "in time"
  let trap: ((request: Buffer, client: Net.Socket) => void) | undefined

  const makeLane = (way: Way): Direction => {
    let queue: Array<{ readonly at: number; readonly action: () => void }> = []
    let timer: NodeJS.Timeout | undefined
    let stranded = false
    const pump = (): void => {
      clearTimeout(timer)
      while (!held[way] && !stranded && queue[0] !== undefined) {
        const wait = queue[0].at - performance.now()
        if (wait > 0) {
          timer = setTimeout(pump, Math.ceil(wait))
          return
        }
        queue.shift()?.action()
      }
    }
    return {
      push: (action) => {
        const last = queue.at(-1)?.at ?? 0
        queue.push({ at: latency === 0 ? last : Math.max(last, performance.now() + latency), action })
        pump()
      },
      pump,
      drop: () => {
        clearTimeout(timer)
        queue = []
      },
      strand: (on) => {
        stranded = on
        pump()
      }
    }
  }

  const join = (way: Way, from: Net.Socket, to: Net.Socket): Direction => {
    const direction = makeLane(way)
    from.on("data", (chunk: Buffer) => {
      bytes[way] += chunk.length
      if (way === "requests") trap?.(chunk, from)
      for (const listener of listeners[way]) listener(chunk)
      const pass = (bytes: Buffer) => direction.push(() => void (to.destroyed || to.write(bytes)))
      if (way === "requests" || fate === "in time") return pass(chunk)
      const { notifications, rest } = splitNotifications(chunk)
      if (rest.length > 0) pass(rest)
      if (fate !== "lose") { for (const one of notifications) setTimeout(pass, fate.late, one) }
    })
    from.on("end", () => direction.push(() => to.end()))
    from.on("error", () => direction.push(() => to.resetAndDestroy()))
    return direction
  }

  const onConnection = (client: Net.Socket): void => {
    accepted += 1
    const server = Net.connect({ port: targetPort, host: "127.0.0.1", allowHalfOpen: true, noDelay: true })
    const directions = [join("requests", client, server), join("replies", server, client)] as const
    open.set(client, { server, directions })
    client.once("close", () => {
      if (server.destroyed) open.delete(client)
    })
    server.once("close", () => {
      if (client.destroyed) open.delete(client)
    })
  }

  const listener = Net.createServer({ allowHalfOpen: true, noDelay: true }, onConnection)
  const listen = (port: number): Promise<void> =>
    new Promise((resolve, reject) => {
      listener.once("error", reject)
      listener.listen(port, "127.0.0.1", () => {
        listener.off("error", reject)
        resolve()
      })
    })
  await listen(0)
  const { port } = listener.address() as Net.AddressInfo

  const pump = (): void => open.forEach(({ directions }) => directions.forEach((direction) => direction.pump()))
  const hold = (ways: ReadonlyArray<Way>) => (): void => ways.forEach((way) => (held[way] = true))
  const subscribe = (way: Way) => (listener: (chunk: Buffer) => void) => {
    listeners[way].add(listener)
    return () => void listeners[way].delete(listener)
  }
  const reset = (): void => {
    for (const [client, { directions, server }] of open) {
      directions.forEach((direction) => direction.drop())
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
    open.clear()
  }
  const refuse = (): void => void (listener.listening && listener.close())
  return {
    port,
    url: `${scheme}://127.0.0.1:${port}`,
    hold: hold(["requests", "replies"]),
    holdRequests: hold(["requests"]),
    holdReplies: hold(["replies"]),
    release: () => {
      held.requests = false
      held.replies = false
      pump()
    },
    strand: async (ms, late, from) => {
      const only = from && await new Promise<Net.Socket | undefined>((resolve) => {
        const end = (client?: Net.Socket) => {
          clearTimeout(timer)
          trap = undefined
          resolve(client)
        }
        const timer = setTimeout(end, 2_000)
        trap = (request, client) => {
          if (!from(request)) return
          open.get(client)?.directions[0].strand(true)
          end(client)
        }
      })
      const those = Array.from(open).filter(([client]) => from === undefined || client === only)
      for (const [, { directions: [requests] }] of those) requests.strand(true)
      await sleep(ms)
      for (const [client] of those) client.resetAndDestroy()
      await sleep(late)
      for (const [, { directions: [requests], server }] of those) {
        requests.push(() => server.end())
        requests.strand(false)
      }
    },
    deliverNotifications: (next) => {
      fate = next
    },
    reset,
    forget: () => open.forEach(({ directions }) => directions.forEach((direction) => direction.strand(true))),
    refuse,
    accept: async () => {
      if (!listener.listening) await listen(port)
    },
    delay: (ms) => {
      latency = ms
    },
    connections: () => [...open.keys()].filter((client) => !client.destroyed).length,
    accepted: () => accepted,
    bytes: () => ({ ...bytes }),
    onRequest: subscribe("requests"),
    onReply: subscribe("replies"),
    stop: async () => {
      refuse()
      reset()
    }
  }
}
