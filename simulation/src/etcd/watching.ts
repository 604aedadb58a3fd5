import type { IWatchRequest } from "etcd3"
import type { Timeline } from "../timeline.ts"
import type { Deletion, Keys } from "./store.ts"

interface Watch {
  readonly key: string
  readonly end: string | undefined
  /** It reports puts instead of deletions, or both. */
  readonly puts: "only" | "too" | undefined
  /** It has reported the deletions before this revision, or the puts if it reports nothing else. */
  from: number
  /** The same for the puts, if it reports both. */
  putsFrom: number
  /** Whether it still waits for past events. */
  behind: boolean
}

/** How a watch is requested. */
interface Creating {
  readonly filters?: ReadonlyArray<string>
  readonly key: Buffer
  readonly range_end?: Buffer
  readonly start_revision?: string
  readonly watch_id?: string
}

/** The server's end of a stream of watches. */
export interface Watcher {
  readonly watches: Map<number, Watch>
  /** How many watches have been numbered here. */
  named: number
  /** The numbers of watches that a proxy has not begun yet. */
  readonly beginning: Set<number>
  /** The server's error for further watches, if it refuses them. */
  readonly refusal: () => string | undefined
  readonly tell: (response: object) => void
  readonly end: () => void
}

/** A proxy before the server: it numbers watches by itself, begins them in any order, and may send events to the wrong watch. */
export interface Between {
  readonly mixesUp: () => boolean
  /** For how many microseconds a watch that was numbered has not begun. */
  readonly beginsAfter: () => number
}

/** The watches of an etcd. */
export class Watching {
  readonly watchers = new Set<Watcher>()
  private readonly timeline: Timeline
  private readonly keys: Keys
  private readonly tells: boolean
  private readonly between: Between | undefined

  constructor(timeline: Timeline, keys: Keys, tells: boolean, between?: Between) {
    this.timeline = timeline
    this.keys = keys
    this.tells = tells
    this.between = between
  }

  request(watcher: Watcher, { cancel_request, create_request }: IWatchRequest): void {
    const header = this.keys.header()
    if (cancel_request !== undefined) {
      const id = Number(cancel_request.watch_id)
      const isKnown = watcher.watches.delete(id) || watcher.beginning.delete(id)
      if (isKnown) watcher.tell({ header, watch_id: String(id), canceled: true, events: [] })
      return
    }
    const cancel_reason = watcher.refusal()
    if (cancel_reason !== undefined) {
      return watcher.tell({ header, watch_id: "-1", created: true, canceled: true, cancel_reason, events: [] })
    }
    const { watch_id } = create_request as Creating
    if (this.between === undefined) {
      return this.begin(
        watcher,
        watch_id === undefined ? watcher.named++ : Number(watch_id),
        create_request as Creating
      )
    }
    const id = watcher.named++
    watcher.beginning.add(id)
    this.timeline.in(this.between.beginsAfter(), () => {
      const isWanted = watcher.beginning.delete(id) && this.watchers.has(watcher)
      if (isWanted) this.begin(watcher, id, create_request as Creating)
    })
  }

  private begin(watcher: Watcher, id: number, { filters, key, range_end, start_revision }: Creating): void {
    const header = this.keys.header()
    const from = Number(start_revision ?? 0) || this.keys.revision + 1
    const answer = { header, watch_id: String(id), events: [] }
    watcher.tell({ ...answer, created: true, canceled: false })
    if (from <= this.keys.compacted) {
      return watcher.tell({
        ...answer,
        created: false,
        canceled: true,
        compact_revision: String(this.keys.compacted)
      })
    }
    const watch: Watch = {
      key: key.toString(),
      end: range_end?.toString(),
      puts: filters?.includes("Nodelete") === true ? "only" : filters?.includes("Noput") === true ? undefined : "too",
      from,
      putsFrom: from,
      behind: from <= this.keys.revision
    }
    watcher.watches.set(id, watch)
    if (!watch.behind) return
    // Past events are sent by a loop that runs ten times a second.
    this.timeline.in(100_000, () => {
      watch.behind = false
      if (watch.puts !== "only") this.tellDeletions()
      if (watch.puts !== undefined) this.tellPuts()
    })
  }

  /** Tells the watches for puts. */
  tellPuts(): void {
    if (!this.tells) return
    for (const watcher of this.watchers) {
      for (const [id, watch] of watcher.watches) {
        const from = watch.puts === "too" ? watch.putsFrom : watch.from
        if (watch.puts === undefined || watch.behind || from > this.keys.revision) continue
        const events = this.keys.puts.filter((one) => isFor({ ...watch, from }, one))
        watch.putsFrom = this.keys.revision + 1
        if (watch.puts === "only") watch.from = watch.putsFrom
        if (events.length > 0) watcher.tell({ ...this.responseOf("Put", events), watch_id: String(id) })
      }
    }
  }

  private responseOf(type: "Put" | "Delete", events: ReadonlyArray<Deletion>): object {
    return {
      header: this.keys.header(),
      created: false,
      canceled: false,
      events: events.map(({ key, revision, value = Buffer.alloc(0) }) => ({
        type,
        kv: { key: Buffer.from(key), value, mod_revision: String(revision) }
      }))
    }
  }

  tellDeletions(): void {
    if (!this.tells) return
    const { deletions } = this.keys
    for (const watcher of this.watchers) {
      for (const [id, watch] of watcher.watches) {
        if (watch.puts === "only" || watch.behind || watch.from > this.keys.revision) continue
        const events = deletions.filter((one) => isFor(watch, one))
        watch.from = this.keys.revision + 1
        if (events.length === 0) continue
        const told = this.responseOf("Delete", events)
        watcher.tell({ ...told, watch_id: String(id) })
        if (this.between?.mixesUp() !== true) continue
        for (const other of watcher.watches.keys()) if (other !== id) watcher.tell({ ...told, watch_id: String(other) })
      }
    }
  }

  endAll(): void {
    for (const watcher of Array.from(this.watchers)) watcher.end()
    this.watchers.clear()
  }
}

const isFor = ({ end, from, key: first }: Watch, { key, revision }: Deletion): boolean =>
  revision >= from && (end === undefined ? key === first : key >= first && key < end)
