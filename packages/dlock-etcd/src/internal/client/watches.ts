/** All watches of a process, on one stream. */

import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Port, WatchStream } from "./port.ts"

/** The key or the range of keys whose deletions are watched. */
export interface Target {
  readonly key: Buffer
  /** `undefined` for a single key. */
  readonly rangeEnd?: Buffer
  /** Whether puts are reported too, in the same way as deletions, or instead of them. */
  readonly puts?: "too" | "only"
}

/** The deletion of a key at a revision, or a put where a watch reports puts. */
export interface Deletion {
  readonly key: string
  readonly revision: bigint
  /** What was put. Empty for a deletion. */
  readonly value?: Buffer
}

/**
 * Called with deletions in order of their revisions. Deletions of one revision come in one call. If `areAstray`, the stream may
 * have mixed watches up: earlier deletions, and more of the same revision, may be reported later, and some again.
 */
type OnDelete = (deletions: ReadonlyArray<Deletion>, areAstray: boolean) => void

interface Watch extends Target {
  /** `key` as text, for comparisons. `end` is `rangeEnd` as text. */
  readonly first: string
  readonly end: string | undefined
  /** The id that this process requested on the current stream. */
  asked: string
  /** The id that the server uses on the current stream. `undefined` until the server has answered. */
  id: string | undefined
  /** The previous stream refused this watch. */
  isRefused: boolean
  /** Deletions from this revision on have not been reported yet. */
  from: bigint
  /** The latest revision of a deletion that arrived for another watch, and the keys of that revision. */
  astrayAt: bigint
  astrayKeys: ReadonlySet<string>
  readonly onDelete: OnDelete
  /** Called when the watch has ended and may have missed a deletion: read the key, and watch again from the revision read. */
  readonly onDoubt: () => void
  /**
   * For a watch that must report without delay. It ignores `after` and begins now: `onBegin` gets the revision after which it
   * reports. A watch from a past revision reports what happened since then, but is up to 100 ms late with what happens next,
   * because the server lets such watches catch up at that pace.
   */
  readonly onBegin?: ((revision: bigint) => void) | undefined
}

/**
 * All watches of a process, on one stream that opens with the first watch. A watch is only a hint. When the stream ends, it is
 * opened again after a pause, and each watch continues from its last revision: the server reports what happened meanwhile, or
 * refuses the watch because it no longer knows.
 *
 * A server uses the watch ids that this process requests. A proxy does not: it chooses ids, and answers only nearly in the
 * order of the requests. If two requests were unanswered, one watch could be taken for the other, and the end of one would
 * silence the other. So behind a proxy, the next watch is requested when the last one is answered. The first answer on a stream
 * shows whose ids it uses. Until then the others wait too.
 *
 * Still each event is compared with its watch, and an event for another watch is passed on. Behind a proxy even an event that
 * fits may be another watch's, so it does not prove that no earlier event is missing.
 */
export class Watches {
  private readonly watches = new Set<Watch>()
  private readonly byId = new Map<string, Watch>()
  /** Watches that were requested on the current stream and have no answer there yet, in the order of the requests. */
  private unanswered: Array<Watch> = []
  /** Watches that wait to be requested on the current stream. Those that must report without delay go first. */
  private urgent: Array<Watch> = []
  private others: Array<Watch> = []
  private readonly port: Port
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private stream: WatchStream | undefined
  /** The current stream sent an event to the wrong watch, so its ids are not reliable. */
  private isMixedUp = false
  /** Whose ids the current stream uses. `undefined` until it has answered. */
  private ids: "requested" | "its own" | undefined
  /** Replaces the current stream if a request for which others wait is not answered. */
  private limit: Fiber.Fiber<void> | undefined
  private lastAsked = 0
  /** How many watches the server keeps although this process no longer wants them. */
  private unwanted = 0
  private opening = false
  private closed = false
  private pause = leastPause

  constructor(port: Port, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.fork = fork
  }

  /** Watches for deletions after the revision `after`. Returns a function that ends the watch. */
  add(
    { key, puts, rangeEnd }: Target,
    after: bigint,
    onDelete: OnDelete,
    onDoubt: () => void,
    onBegin?: (revision: bigint) => void
  ): () => void {
    const watch: Watch = {
      key,
      ...(rangeEnd && { rangeEnd }),
      ...(puts && { puts }),
      first: key.toString(),
      end: rangeEnd?.toString(),
      asked: "",
      id: undefined,
      isRefused: false,
      from: after + 1n,
      astrayAt: after,
      astrayKeys: new Set(),
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
    if (this.mustWait()) (watch.onBegin === undefined ? this.others : this.urgent).push(watch)
    else this.request(stream, watch)
  }

  private mustWait(): boolean {
    return this.ids !== "requested" && this.unanswered.length > 0
  }

  /** Requests the watches that waited for an answer: all of them, or the next one. */
  private requestNext(): void {
    const { others, stream, urgent } = this
    while (stream !== undefined && !this.mustWait()) {
      const watch = urgent.shift() ?? others.shift()
      if (watch === undefined) return
      if (this.watches.has(watch)) this.request(stream, watch)
    }
  }

  private request(stream: WatchStream, watch: Watch): void {
    const { from, key, onBegin, puts, rangeEnd } = watch
    this.unanswered.push(watch)
    if (this.ids !== "requested") this.limit = this.fork(Effect.delay(this.replaceStream, this.port.longest))
    // Higher than the ids that a proxy chooses.
    watch.asked = String(leastName + ++this.lastAsked)
    stream.send({
      create_request: {
        watch_id: watch.asked,
        key,
        ...(rangeEnd && { range_end: rangeEnd }),
        ...(onBegin === undefined && { start_revision: String(from) }),
        filters: puts === undefined ? ["Noput"] : puts === "only" ? ["Nodelete"] : []
      } as never
    })
  }

  /** The answer may never come, and the ids on the stream are not reliable if the next request does not wait for it. */
  private readonly replaceStream = Effect.sync(() => {
    this.limit = undefined
    this.dropStream()?.close()
    this.reopenLater()
  })

  private cancel(id: string): void {
    this.byId.delete(id)
    // If the ids are mixed up, this one may belong to a watch that is still wanted.
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
      // A plain call first: it renews an expired auth token, which opening a stream does not.
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

  /** Forgets the stream and the ids that watches had on it. Returns the stream, for the caller to close. */
  private dropStream(): WatchStream | undefined {
    const { stream } = this
    this.stream = undefined
    this.isMixedUp = false
    this.ids = undefined
    this.limit?.interruptUnsafe()
    this.limit = undefined
    this.unwanted = 0
    this.unanswered = []
    this.urgent = []
    this.others = []
    this.byId.clear()
    for (const watch of this.watches) watch.id = undefined
    return stream
  }

  /** Opens a new stream after a pause, which grows while no response arrives. Meanwhile waiters rely on their polls. */
  private reopenLater(): void {
    this.open(this.pause)
    this.pause = Math.min(2 * this.pause, mostPause)
  }

  private receive(response: Response): void {
    this.pause = leastPause
    const watch = response.created ? this.named(response) : this.byId.get(String(response.watch_id))
    this.requestNext()
    if (watch === undefined) {
      if (this.isMixedUp) this.passOnToOthers(response.events)
      return
    }
    if (response.canceled) {
      // The revisions that the watch needs were compacted, or the server refused the watch.
      this.byId.delete(String(response.watch_id))
      this.watches.delete(watch)
      return watch.onDoubt()
    }
    if (response.created && watch.onBegin !== undefined) {
      const revision = BigInt(response.header.revision)
      watch.from = revision + 1n
      watch.onBegin(revision)
    }
    // One revision may delete several keys.
    const { from } = watch
    const deletions: Array<Deletion> = []
    const strange: Array<Response["events"][number]> = []
    for (const event of response.events) {
      if (!concerns(watch, event.kv.key.toString())) {
        this.isMixedUp = true
        strange.push(event)
        continue
      }
      const revision = BigInt(event.kv.mod_revision)
      // The event is about an earlier claim with this key, and was sent to the wrong watch.
      if (revision < from) continue
      // Behind a proxy this may be another watch's event. The watch's own may be about more keys of that revision.
      watch.from = this.ids === "its own" ? revision : revision + 1n
      if (reports(watch, event)) deletions.push({ key: event.kv.key.toString(), revision, value: event.kv.value })
    }
    if (deletions.length > 0) watch.onDelete(deletions, this.ids === "its own")
    this.passOnToOthers(strange)
  }

  /**
   * Passes events to the watches that they are for, in case one watch was taken for another. A watch gets them even if it has not
   * received its own earlier events yet.
   */
  private passOnToOthers(events: Response["events"]): void {
    for (const watch of Array.from(this.watches)) {
      const own = events.filter((event) => reports(watch, event))
        .map(({ kv }) => ({ key: kv.key.toString(), revision: BigInt(kv.mod_revision), value: kv.value }))
        .filter((one) => concerns(watch, one.key) && isNews(watch, one))
      if (own.length > 0) watch.onDelete(own, true)
    }
  }

  /** The watch that this `created` response answers, if that watch is still wanted. */
  private named(response: Response): Watch | undefined {
    const watch = this.unanswered.shift()
    if (watch === undefined) return undefined
    this.limit?.interruptUnsafe()
    this.limit = undefined
    if (!response.canceled) {
      watch.isRefused = false
      watch.id = String(response.watch_id)
      if (watch.id !== watch.asked) this.ids = "its own"
      else this.ids ??= "requested"
      if (this.watches.has(watch)) this.byId.set(watch.id, watch)
      else this.cancel(watch.id)
    } else if (!watch.isRefused && this.watches.has(watch) && mayBeOfToken(response.cancel_reason)) {
      // A stream keeps the auth token with which it was opened, and that token expires: try once more on a new stream.
      watch.isRefused = true
      this.dropStream()?.close()
      this.open(0)
      return undefined
    }
    return this.watches.has(watch) ? watch : undefined
  }
}

const isDeletion = ({ type }: Response["events"][number]): boolean => String(type).toUpperCase() === "DELETE"

/** Whether a watch reports events of this type. */
const reports = ({ puts }: Watch, event: Response["events"][number]): boolean =>
  isDeletion(event) ? puts !== "only" : puts !== undefined

const concerns = ({ end, first }: Watch, key: string): boolean =>
  end === undefined ? key === first : key >= first && key < end

/** Records a deletion that arrived for another watch. Returns whether this watch had not been told of it. */
const isNews = (watch: Watch, { key, revision }: Deletion): boolean => {
  if (revision < watch.from || revision < watch.astrayAt) return false
  if (revision === watch.astrayAt && watch.astrayKeys.has(key)) return false
  // One revision may delete several keys, and each of them may arrive alone.
  watch.astrayKeys = new Set(revision === watch.astrayAt ? watch.astrayKeys : []).add(key)
  watch.astrayAt = revision
  return true
}

/** Older servers report an expired token like a missing permission. */
const mayBeOfToken = (reason: string): boolean => /auth|user name is empty|permission denied/.test(reason)

type Response = Parameters<Parameters<Port["watch"]>[0]["onResponse"]>[0]

/** With more unwanted watches than this, the stream is closed and opened again. */
const mostUnwanted = 1_000

const leastName = 1_000_000_000

// Milliseconds.

const leastPause = 100
const mostPause = 2_000
