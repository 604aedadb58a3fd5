/** Keep-alives of leases on one stream that stays open between them. */

import type { Duplex } from "./duplex.ts"

interface Pending {
  readonly resolve: (seconds: number) => void
  readonly reject: (error: Error) => void
}

/**
 * A stream for many keep-alives, one after another. Opening a stream for each keep-alive would cost a client about as much as
 * any other call, and a crowd of waiting processes sends hundreds of keep-alives a second.
 *
 * The server answers in the order of the requests. If an answer is late, the stream is closed: every keep-alive that waits on
 * it fails, and the next keep-alive opens a new stream.
 */
export class KeepAlives {
  isOver = false
  private readonly pending = new Map<string, Array<Pending>>()
  private waiting = 0
  private readonly stream: Duplex
  private idle: NodeJS.Timeout | undefined
  /** When the server was last heard, by `performance.now()`. */
  private readonly heardAt: () => number

  constructor(stream: Duplex, heardAt: () => number) {
    this.stream = stream
    this.heardAt = heardAt
    stream.on("data", ({ ID, TTL }: { readonly ID: string; readonly TTL: string }) => {
      const first = this.pending.get(String(ID))?.shift()
      if (first !== undefined) first.resolve(Number(TTL))
    })
    stream.on("error", (error) => this.end(error as Error))
    stream.on("end", () => this.end(new Error("the stream of keep-alives has ended")))
  }

  /** Keeps the lease alive. Returns how many seconds the lease has now, or zero if there is no such lease. */
  send(id: string, limit: number): Promise<number> {
    clearTimeout(this.idle)
    if (this.isOver) return Promise.reject(new Error("the connection is closed"))
    return new Promise<number>((resolve, reject) => {
      this.waiting++
      const sentAt = performance.now()
      const timer = setTimeout(() => {
        // Nothing else was answered since either: the connection is dead rather than the server slow.
        const isDead = this.heardAt() < sentAt
        this.end(new Error("no answer to a keep-alive in time"), isDead)
      }, limit)
      const settled = () => {
        clearTimeout(timer)
        if (--this.waiting === 0 && !this.isOver) this.rest()
      }
      const pending: Pending = {
        resolve: (seconds) => {
          settled()
          resolve(seconds)
        },
        reject: (error) => {
          settled()
          reject(error)
        }
      }
      const same = this.pending.get(id)
      if (same === undefined) this.pending.set(id, [pending])
      else same.push(pending)
      this.stream.write({ ID: id })
    })
  }

  close(): void {
    this.end(new Error("the connection is closed"))
  }

  /** Called when no keep-alive waits for an answer: closes the stream after 10 seconds without another one. */
  private rest(): void {
    this.pending.clear()
    this.idle = setTimeout(() => this.close(), idleFor)
    this.idle.unref()
  }

  /** `isDead`: the next request is to go over another connection. The client sees to that where a stream breaks that is in use. */
  private end(error: Error, isDead = false): void {
    if (this.isOver) return
    this.isOver = true
    clearTimeout(this.idle)
    if (!isDead) this.stream.end()
    this.stream.cancel()
    for (const { reject } of Array.from(this.pending.values()).flat()) reject(error)
    this.pending.clear()
  }
}

/** How long an idle stream stays open, in milliseconds. */
const idleFor = 10_000
