import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Port, WatchStream } from "./port.ts"

/** Keys whose deletion somebody waits for. */
export interface Target {
  readonly key: Buffer
  /** Absent for a single key. */
  readonly rangeEnd?: Buffer
}

interface Watch extends Target {
  /** Deletions from here on have not been heard of. */
  from: bigint
  readonly onDelete: () => void
  /** Something may have been missed: look for yourself. */
  readonly onDoubt: () => void
}

/**
 * All watches of a process, on one stream that is open while there are any. A watch is only a hint: when the stream ends
 * or a watch is refused, everybody is told to look for themselves, and the stream is made anew from where it ended.
 */
export class Watches {
  private readonly watches = new Map<number, Watch>()
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private stream: WatchStream | undefined
  private opening = false
  private closed = false
  private nextId = 1

  constructor(port: Port, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.fork = fork
  }

  /** Watches for deletions after the revision `after`; returns the way to stop. */
  add(target: Target, after: bigint, onDelete: () => void, onDoubt: () => void): () => void {
    const id = this.nextId++
    const watch: Watch = { ...target, from: after + 1n, onDelete, onDoubt }
    this.watches.set(id, watch)
    if (this.stream === undefined) this.open()
    else this.create(this.stream, id, watch)
    return () => {
      if (!this.watches.delete(id)) return
      if (this.watches.size > 0) return this.stream?.send({ cancel_request: { watch_id: id } })
      this.stream?.close()
      this.stream = undefined
    }
  }

  close(): void {
    this.closed = true
    this.watches.clear()
    this.stream?.close()
    this.stream = undefined
  }

  private create(stream: WatchStream, id: number, { from, key, rangeEnd }: Watch): void {
    stream.send({
      create_request: {
        key,
        ...(rangeEnd && { range_end: rangeEnd }),
        start_revision: String(from),
        filters: ["Noput"],
        watch_id: id
      } as never
    })
  }

  private open(): void {
    if (this.opening || this.closed) return
    this.opening = true
    let mine: WatchStream | undefined
    const ended = () => {
      if (mine !== undefined && this.stream === mine) this.stream = undefined
      mine = undefined
      this.again()
    }
    this.fork(
      // A plain call first: it is what has a token that ran out replaced.
      Effect.andThen(
        this.port.txn({}),
        this.port.watch({ onResponse: (response) => this.hear(response), onEnd: ended })
      )
        .pipe(Effect.match({
          onSuccess: (stream) => {
            this.opening = false
            if (this.watches.size === 0 || this.closed) return stream.close()
            mine = stream
            this.stream = stream
            for (const [id, watch] of this.watches) this.create(stream, id, watch)
          },
          onFailure: () => {
            this.opening = false
            this.again()
          }
        }))
    )
  }

  /** After a pause in which everybody looks for themselves. */
  private again(): void {
    if (this.closed) return
    for (const watch of Array.from(this.watches.values())) watch.onDoubt()
    this.fork(Effect.delay(
      Effect.sync(() => {
        if (this.stream === undefined && this.watches.size > 0) this.open()
      }),
      200
    ))
  }

  private hear(response: Parameters<Parameters<Port["watch"]>[0]["onResponse"]>[0]): void {
    const id = Number(response.watch_id)
    const watch = this.watches.get(id)
    if (watch === undefined) return
    if (response.canceled) {
      // Its past has been compacted, or the server would not have it.
      this.watches.delete(id)
      return watch.onDoubt()
    }
    let deleted = false
    for (const event of response.events) {
      watch.from = BigInt(event.kv.mod_revision) + 1n
      deleted ||= String(event.type).toUpperCase() === "DELETE"
    }
    if (deleted) watch.onDelete()
  }
}
