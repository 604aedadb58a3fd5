import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Port, WatchStream } from "./port.ts"

/** Keys whose deletion somebody waits for. */
export interface Target {
  readonly key: Buffer
  /** Absent for a single key. */
  readonly rangeEnd?: Buffer
}

/** A key that is gone since that revision. */
export interface Deletion {
  readonly name: string
  readonly revision: bigint
}

/**
 * What to do about them: all that went together are told together, and in their order, but for those that are astray: what
 * went before them may be told later.
 */
type OnDelete = (deletions: ReadonlyArray<Deletion>, areAstray: boolean) => void

interface Watch extends Target {
  /** The same as text, to compare with. */
  readonly first: string
  readonly end: string | undefined
  /** The server's name for it on the present stream, once that has told. */
  id: string | undefined
  /** The stream before the present one would not have it. */
  isRefused: boolean
  /** Deletions from here on have not been heard of. */
  from: bigint
  /** The same of what was told to others. */
  astrayFrom: bigint
  readonly onDelete: OnDelete
  /** It is over, and something may have been missed: look for yourself, and watch from what you saw. */
  readonly onDoubt: () => void
  /**
   * For one that must hear at once: it begins now, after this revision, whatever it was to begin from. A watch from a
   * revision that has passed is told what happened since, but hears what happens next up to a tenth of a second later: the
   * server lets such watches catch up at that pace.
   */
  readonly onBegin?: ((revision: bigint) => void) | undefined
}

/**
 * All watches of a process, on one stream that opens with the first of them. A watch is only a hint. When the stream
 * ends it is made anew after a pause, and each watch goes on from where it was: the server tells what happened
 * meanwhile, or refuses because it no longer knows.
 *
 * Servers name watches as they like; a proxy does not keep the names that its clients give. They answer in the order in
 * which they were asked, a proxy nearly so. So what a watch is told is looked at: it may be another's, who is told then.
 */
export class Watches {
  private readonly watches = new Set<Watch>()
  private readonly byId = new Map<string, Watch>()
  /** Those asked for on the present stream that have no name there yet, in their order. */
  private unnamed: Array<Watch> = []
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private stream: WatchStream | undefined
  /** The present stream has told one watch of what is another's: its names are not to be relied on. */
  private isMixedUp = false
  /** Watches that it goes on with although nobody wants them. */
  private unwanted = 0
  private opening = false
  private closed = false
  private pause = leastPause

  constructor(port: Port, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.fork = fork
  }

  /** Watches for deletions after the revision `after`; returns the way to stop. */
  add(
    { key, rangeEnd }: Target,
    after: bigint,
    onDelete: OnDelete,
    onDoubt: () => void,
    onBegin?: (revision: bigint) => void
  ): () => void {
    const watch: Watch = {
      key,
      ...(rangeEnd && { rangeEnd }),
      first: key.toString(),
      end: rangeEnd?.toString(),
      id: undefined,
      isRefused: false,
      from: after + 1n,
      astrayFrom: after + 1n,
      onDelete,
      onDoubt,
      onBegin
    }
    this.watches.add(watch)
    if (this.stream === undefined) this.open(0)
    else this.create(this.stream, watch)
    return () => {
      if (this.watches.delete(watch) && watch.id !== undefined) this.cancel(watch.id)
    }
  }

  close(): void {
    this.closed = true
    this.watches.clear()
    this.leaveStream()?.close()
  }

  private create(stream: WatchStream, watch: Watch): void {
    const { from, key, onBegin, rangeEnd } = watch
    this.unnamed.push(watch)
    stream.send({
      create_request: {
        key,
        ...(rangeEnd && { range_end: rangeEnd }),
        ...(onBegin === undefined && { start_revision: String(from) }),
        filters: ["Noput"]
      } as never
    })
  }

  private cancel(id: string): void {
    this.byId.delete(id)
    // The name may be that of one which is wanted.
    if (!this.isMixedUp) this.stream?.send({ cancel_request: { watch_id: id } })
    else if (++this.unwanted > mostUnwanted) {
      this.leaveStream()?.close()
      this.open(0)
    }
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
      onResponse: (response: Response) => {
        if (mine === undefined || this.stream === mine) this.hear(response)
      },
      onEnd: () => {
        ended = true
        if (mine === undefined || this.stream !== mine) return
        this.leaveStream()
        this.again()
      }
    }
    return Effect.map(this.port.watch(listeners), (stream) => {
      this.opening = false
      if (this.closed) return stream.close()
      if (ended) return this.again()
      mine = stream
      this.stream = stream
      for (const watch of this.watches) this.create(stream, watch)
    })
  }

  /** What it said of watches is over with it. */
  private leaveStream(): WatchStream | undefined {
    const { stream } = this
    this.stream = undefined
    this.isMixedUp = false
    this.unwanted = 0
    this.unnamed = []
    this.byId.clear()
    for (const watch of this.watches) watch.id = undefined
    return stream
  }

  /** After a pause, which grows for as long as nothing is heard: polls see to it meanwhile that nobody waits for ever. */
  private again(): void {
    this.open(this.pause)
    this.pause = Math.min(2 * this.pause, mostPause)
  }

  private hear(response: Response): void {
    this.pause = leastPause
    const watch = response.created ? this.named(response) : this.byId.get(String(response.watch_id))
    if (watch === undefined) {
      if (this.isMixedUp) this.tellOthers(response.events)
      return
    }
    if (response.canceled) {
      // Its past has been compacted, or the server would not have it.
      this.byId.delete(String(response.watch_id))
      this.watches.delete(watch)
      return watch.onDoubt()
    }
    if (response.created && watch.onBegin !== undefined) {
      const revision = BigInt(response.header.revision)
      watch.from = revision + 1n
      watch.onBegin(revision)
    }
    // Several keys may have gone at one revision.
    const { from } = watch
    const deletions: Array<Deletion> = []
    const strange: Array<Response["events"][number]> = []
    for (const event of response.events) {
      if (!concerns(watch, event.kv.key)) {
        this.isMixedUp = true
        strange.push(event)
        continue
      }
      const revision = BigInt(event.kv.mod_revision)
      // Of another that stood there before, and told to the wrong one.
      if (revision < from) continue
      watch.from = revision + 1n
      if (isDeletion(event)) deletions.push({ name: event.kv.key.toString(), revision })
    }
    if (deletions.length > 0) watch.onDelete(deletions, false)
    this.tellOthers(strange)
  }

  /**
   * A proxy may answer out of order, so that one watch is taken for another. Whose past is yet to be told hears of that all
   * the same.
   */
  private tellOthers(events: Response["events"]): void {
    const gone = events.filter(isDeletion).map(({ kv }) => ({ kv, revision: BigInt(kv.mod_revision) }))
    if (gone.length === 0) return
    for (const watch of Array.from(this.watches)) {
      const isNew = (revision: bigint): boolean => revision >= watch.from && revision >= watch.astrayFrom
      const own = gone.filter(({ kv, revision }) => isNew(revision) && concerns(watch, kv.key))
      if (own.length === 0) continue
      for (const { revision } of own) if (revision >= watch.astrayFrom) watch.astrayFrom = revision + 1n
      watch.onDelete(own.map(({ kv, revision }) => ({ name: kv.key.toString(), revision })), true)
    }
  }

  /** The watch of which this is the answer, where somebody still wants it. */
  private named(response: Response): Watch | undefined {
    const watch = this.unnamed.shift()
    if (watch === undefined) return undefined
    if (!response.canceled) {
      watch.isRefused = false
      watch.id = String(response.watch_id)
      if (this.watches.has(watch)) this.byId.set(watch.id, watch)
      else this.cancel(watch.id)
    } else if (!watch.isRefused && this.watches.has(watch) && mayBeOfToken(response.cancel_reason)) {
      // A stream is asked for watches with the token with which it was opened, and that runs out.
      watch.isRefused = true
      this.leaveStream()?.close()
      this.open(0)
      return undefined
    }
    return this.watches.has(watch) ? watch : undefined
  }
}

const isDeletion = ({ type }: Response["events"][number]): boolean => String(type).toUpperCase() === "DELETE"

const concerns = ({ end, first }: Watch, key: Buffer): boolean => {
  const name = key.toString()
  return end === undefined ? name === first : name >= first && name < end
}

/** Older servers say of a token that has run out what they say of a missing permission. */
const mayBeOfToken = (reason: string): boolean => /auth|user name is empty|permission denied/.test(reason)

type Response = Parameters<Parameters<Port["watch"]>[0]["onResponse"]>[0]

const mostUnwanted = 1_000

const leastPause = 100
const mostPause = 2_000
