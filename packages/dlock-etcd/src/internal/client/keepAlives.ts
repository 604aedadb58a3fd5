/** Keep-alives of leases on one stream, which stays open between them. */

import type { Duplex } from "./duplex.ts"

interface Pending {
  readonly resolve: (seconds: number) => void
  readonly reject: (error: Error) => void
}

/**
 * A stream for many keep-alives, one after another. A stream of its own for each costs a client about as much as any other call,
 * and a crowd of processes that wait sends hundreds a second.
 *
 * The server answers in the order in which it was asked. Where an answer is late the stream is given up: whatever else waits for
 * an answer on it fails, and the next keep-alive opens another one.
 */
export class KeepAlives {
  isOver = false
  private readonly pending = new Map<string, Array<Pending>>()
  private waiting = 0
  private readonly stream: Duplex
  private idle: NodeJS.Timeout | undefined

  constructor(stream: Duplex) {
    this.stream = stream
    stream.on("data", ({ ID, TTL }: { readonly ID: string; readonly TTL: string }) => {
      const first = this.pending.get(String(ID))?.shift()
      if (first !== undefined) first.resolve(Number(TTL))
    })
    stream.on("error", (error) => this.end(error as Error))
    stream.on("end", () => this.end(new Error("the stream of keep-alives has ended")))
  }

  /** How many seconds the lease has now; zero where there is no such lease. */
  send(id: string, limit: number): Promise<number> {
    clearTimeout(this.idle)
    if (this.isOver) return Promise.reject(new Error("the connection is closed"))
    return new Promise<number>((resolve, reject) => {
      this.waiting++
      const timer = setTimeout(() => this.end(new Error("no answer to a keep-alive in time")), limit)
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

  /** Nothing is kept alive for now. */
  private rest(): void {
    this.pending.clear()
    this.idle = setTimeout(() => this.close(), idleFor)
    this.idle.unref()
  }

  private end(error: Error): void {
    if (this.isOver) return
    this.isOver = true
    clearTimeout(this.idle)
    this.stream.end()
    this.stream.cancel()
    for (const { reject } of Array.from(this.pending.values()).flat()) reject(error)
    this.pending.clear()
  }
}

/** Milliseconds. */
const idleFor = 10_000
