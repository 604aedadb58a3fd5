/** All watches of a process, on one stream. */

import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Port, WatchStream } from "./port.ts"

/** The key, or the range of keys, whose deletions are watched. */
export interface Target {
  readonly key: Buffer
  /** Absent for a single key. */
  readonly rangeEnd?: Buffer
}

/** A key that was deleted at that revision. */
export interface Deletion {
  readonly key: string
  readonly revision: bigint
}

/**
 * Called with deletions in their order; those that happened together come together. Where they are astray, earlier ones may
 * come later.
 */
type OnDelete = (deletions: ReadonlyArray<Deletion>, areAstray: boolean) => void

interface Watch extends Target {
  /** The same as text, to compare with. */
  readonly first: string
  readonly end: string | undefined
  /** The name that we asked for on the present stream. */
  asked: string
  /** The server's name for it on the present stream, once that has told. */
  id: string | undefined
  /** The stream before the present one refused it. */
  isRefused: boolean
  /** Deletions from this revision on have not been reported. */
  from: bigint
  /** The same for deletions that came for other watches. */
  astrayFrom: bigint
  readonly onDelete: OnDelete
  /** Called when the watch has ended and may have missed something: look, and watch again from what you saw. */
  readonly onDoubt: () => void
  /**
   * For a watch that must hear at once: it begins now, after the revision that this is called with, whatever `after` was. A
   * watch from a past revision is told what happened since, but hears what happens next up to a tenth of a second later: the
   * server lets such watches catch up at that pace.
   */
  readonly onBegin?: ((revision: bigint) => void) | undefined
}

/**
 * All watches of a process, on one stream that opens with the first of them. A watch is only a hint. When the stream
 * ends it is opened again after a pause, and each watch goes on from where it was: the server tells what happened
 * meanwhile, or refuses because it no longer knows.
 *
 * A server gives watches the names that we ask for. A proxy does not: it has names of its own, and answers only nearly in the
 * order in which it was asked, so that one watch may be taken for another. So each event is compared with its watch: one that is
 * for another is passed on. Even those that fit may be another's there, and are no proof that nothing came before them.
 */
export class Watches {
  private readonly watches = new Set<Watch>()
  private readonly byId = new Map<string, Watch>()
  /** Watches that were asked for on the present stream and have no name there yet, in their order. */
  private unnamed: Array<Watch> = []
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private stream: WatchStream | undefined
  /** The present stream has sent an event to the wrong watch: its names cannot be relied on. */
  private isMixedUp = false
  /** The present stream has not taken a name that we gave. */
  private namesItself = false
  private lastAsked = 0
  /** Watches that the server keeps although they are no longer wanted. */
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
      asked: "",
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
    this.dropStream()?.close()
  }

  private create(stream: WatchStream, watch: Watch): void {
    const { from, key, onBegin, rangeEnd } = watch
    this.unnamed.push(watch)
    // Higher than the names that a proxy gives.
    watch.asked = String(leastName + ++this.lastAsked)
    stream.send({
      create_request: {
        watch_id: watch.asked,
        key,
        ...(rangeEnd && { range_end: rangeEnd }),
        ...(onBegin === undefined && { start_revision: String(from) }),
        filters: ["Noput"]
      } as never
    })
  }

  private cancel(id: string): void {
    this.byId.delete(id)
    // The name may belong to a watch that is wanted.
    if (!this.isMixedUp) this.stream?.send({ cancel_request: { watch_id: id } })
    else if (++this.unwanted > mostUnwanted) {
      this.dropStream()?.close()
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
          this.reopenLater()
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
        if (mine === undefined || this.stream === mine) this.receive(response)
      },
      onEnd: () => {
        ended = true
        if (mine === undefined || this.stream !== mine) return
        this.dropStream()
        this.reopenLater()
      }
    }
    return Effect.map(this.port.watch(listeners), (stream) => {
      this.opening = false
      if (this.closed) return stream.close()
      if (ended) return this.reopenLater()
      mine = stream
      this.stream = stream
      for (const watch of this.watches) this.create(stream, watch)
    })
  }

  /** Forgets the stream, and the names that watches had on it. */
  private dropStream(): WatchStream | undefined {
    const { stream } = this
    this.stream = undefined
    this.isMixedUp = false
    this.namesItself = false
    this.unwanted = 0
    this.unnamed = []
    this.byId.clear()
    for (const watch of this.watches) watch.id = undefined
    return stream
  }

  /** Opens another stream after a pause, which grows while nothing is heard. Meanwhile waiters go on by their polls. */
  private reopenLater(): void {
    this.open(this.pause)
    this.pause = Math.min(2 * this.pause, mostPause)
  }

  private receive(response: Response): void {
    this.pause = leastPause
    const watch = response.created ? this.named(response) : this.byId.get(String(response.watch_id))
    if (watch === undefined) {
      if (this.isMixedUp) this.passOnToOthers(response.events)
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
      if (isDeletion(event)) deletions.push({ key: event.kv.key.toString(), revision })
    }
    if (deletions.length > 0) watch.onDelete(deletions, this.namesItself)
    this.passOnToOthers(strange)
  }

  /**
   * Gives events to the watches that they are for: a proxy may answer out of order, so that one watch is taken for another. A
   * watch that has yet to be told of its past hears of them all the same.
   */
  private passOnToOthers(events: Response["events"]): void {
    const gone = events.filter(isDeletion).map(({ kv }) => ({ kv, revision: BigInt(kv.mod_revision) }))
    if (gone.length === 0) return
    for (const watch of Array.from(this.watches)) {
      const isNew = (revision: bigint): boolean => revision >= watch.from && revision >= watch.astrayFrom
      const own = gone.filter(({ kv, revision }) => isNew(revision) && concerns(watch, kv.key))
      if (own.length === 0) continue
      for (const { revision } of own) if (revision >= watch.astrayFrom) watch.astrayFrom = revision + 1n
      watch.onDelete(own.map(({ kv, revision }) => ({ key: kv.key.toString(), revision })), true)
    }
  }

  /** The watch that this answers, if it is still wanted. */
  private named(response: Response): Watch | undefined {
    const watch = this.unnamed.shift()
    if (watch === undefined) return undefined
    if (!response.canceled) {
      watch.isRefused = false
      watch.id = String(response.watch_id)
      if (watch.id !== watch.asked) this.namesItself = true
      if (this.watches.has(watch)) this.byId.set(watch.id, watch)
      else this.cancel(watch.id)
    } else if (!watch.isRefused && this.watches.has(watch) && mayBeOfToken(response.cancel_reason)) {
      // A stream is asked for watches with the token with which it was opened, and that runs out.
      watch.isRefused = true
      this.dropStream()?.close()
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

const leastName = 1_000_000_000

const leastPause = 100
const mostPause = 2_000
