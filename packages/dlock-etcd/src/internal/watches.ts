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
  /** It is over, and something may have been missed: look for yourself, and watch from what you saw. */
  readonly onDoubt: () => void
  /**
   * For one that must hear at once: something has happened before it began, look for yourself. A watch from a revision
   * that has passed is told what happened since, but hears what happens next up to a tenth of a second later: the server
   * lets such watches catch up at that pace.
   */
  readonly onLate?: (() => void) | undefined
}

/**
 * All watches of a process, on one stream that opens with the first of them. A watch is only a hint. When the stream
 * ends it is made anew after a pause, and each watch goes on from where it was: the server tells what happened
 * meanwhile, or refuses because it no longer knows.
 */
export class Watches {
  private readonly watches = new Map<number, Watch>()
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private stream: WatchStream | undefined
  private opening = false
  private closed = false
  private nextId = 1
  private pause = leastPause

  constructor(port: Port, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.fork = fork
  }

  /** Watches for deletions after the revision `after`; returns the way to stop. */
  add(
    target: Target,
    after: bigint,
    onDelete: () => void,
    onDoubt: () => void,
    onLate?: () => void
  ): () => void {
    const id = this.nextId++
    const watch: Watch = { ...target, from: after + 1n, onDelete, onDoubt, onLate }
    this.watches.set(id, watch)
    if (this.stream === undefined) this.open(0)
    else this.create(this.stream, id, watch)
    return () => {
      if (this.watches.delete(id)) this.stream?.send({ cancel_request: { watch_id: id } })
    }
  }

  close(): void {
    this.closed = true
    this.watches.clear()
    this.stream?.close()
    this.stream = undefined
  }

  private create(stream: WatchStream, id: number, { from, key, onLate, rangeEnd }: Watch): void {
    stream.send({
      create_request: {
        key,
        ...(rangeEnd && { range_end: rangeEnd }),
        ...(onLate === undefined && { start_revision: String(from) }),
        filters: ["Noput"],
        watch_id: id
      } as never
    })
  }

  private open(after: number): void {
    if (this.opening || this.closed) return
    this.opening = true
    this.fork(Effect.delay(
      // A plain call first: it is what has a token that ran out replaced.
      Effect.andThen(this.port.txn({}), Effect.suspend(() => this.connect())).pipe(Effect.match({
        onSuccess: () => {},
        onFailure: () => {
          this.opening = false
          this.again()
        }
      })),
      after
    ))
  }

  private connect() {
    let mine: WatchStream | undefined
    let ended = false
    const listeners = {
      onResponse: (response: Response) => this.hear(response),
      onEnd: () => {
        ended = true
        if (mine === undefined || this.stream !== mine) return
        this.stream = undefined
        this.again()
      }
    }
    return Effect.map(this.port.watch(listeners), (stream) => {
      this.opening = false
      if (this.closed) return stream.close()
      if (ended) return this.again()
      mine = stream
      this.stream = stream
      for (const [id, watch] of this.watches) this.create(stream, id, watch)
    })
  }

  /** After a pause, which grows for as long as nothing is heard: polls see to it meanwhile that nobody waits for ever. */
  private again(): void {
    this.open(this.pause)
    this.pause = Math.min(2 * this.pause, mostPause)
  }

  private hear(response: Response): void {
    const id = Number(response.watch_id)
    this.pause = leastPause
    const watch = this.watches.get(id)
    if (watch === undefined) return
    if (response.canceled) {
      // Its past has been compacted, or the server would not have it.
      this.watches.delete(id)
      return watch.onDoubt()
    }
    if (response.created && watch.onLate !== undefined) {
      const revision = BigInt(response.header.revision)
      const late = revision >= watch.from
      watch.from = revision + 1n
      if (late) watch.onLate()
    }
    let deleted = false
    for (const event of response.events) {
      watch.from = BigInt(event.kv.mod_revision) + 1n
      deleted ||= String(event.type).toUpperCase() === "DELETE"
    }
    if (deleted) watch.onDelete()
  }
}

type Response = Parameters<Parameters<Port["watch"]>[0]["onResponse"]>[0]

const leastPause = 100
const mostPause = 2_000
