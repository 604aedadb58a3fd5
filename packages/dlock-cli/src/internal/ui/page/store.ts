import {
  type About,
  type Happening,
  historyMs,
  type Lock,
  type Span,
  type Status,
  type Update,
  type Waits
} from "./protocol.ts"

export type Connection = "connecting" | "live" | "gone" | "refused"

/** What the page knows. It changes in place, and says so once for each frame. */
export class Store {
  about: About | undefined
  connection: Connection = "connecting"
  /** Whether all locks that there are have come. */
  isComplete = false
  locks = new Map<number, Lock>()
  /** Grows when a lock comes or goes. */
  composition = 0
  /** Grows with every change of a lock. */
  revision = 0
  happenings: ReadonlyArray<Happening> = []
  spans: ReadonlyArray<Span> = []
  waits: Waits = { cycles: [], cycleCount: 0, edges: [], edgeCount: 0, blockers: [] }
  status: Status = { backend: "starting", since: 0 }
  handOvers = 0
  losses = 0
  watchedSince = 0
  private lead: number | undefined
  private readonly listeners = new Set<() => void>()
  private isTelling = false

  /** The server's time. */
  now(): number {
    return performance.now() + (this.lead ?? Date.now() - performance.now())
  }

  apply(update: Update): void {
    const lead = update.at - performance.now()
    // A message comes late, never early.
    if (this.lead === undefined || lead > this.lead || this.lead - lead > 2_000) this.lead = lead
    if (update.isWhole) {
      this.locks = new Map()
      this.happenings = []
      this.spans = []
      this.isComplete = false
      this.composition++
    }
    for (const lock of update.locks) {
      if (!this.locks.has(lock.id)) this.composition++
      this.locks.set(lock.id, lock)
    }
    for (const id of update.gone) if (this.locks.delete(id)) this.composition++
    this.happenings = update.happenings.toReversed().concat(this.happenings).slice(0, mostHappenings)
    if (update.spans.length > 0) {
      const oldest = update.at - historyMs
      this.spans = this.spans.concat(update.spans).filter(({ to }) => to > oldest).slice(-mostSpans)
    }
    if (update.waits !== undefined) this.waits = update.waits
    this.status = update.status
    this.handOvers = update.handOvers
    this.losses = update.losses
    this.watchedSince = update.watchedSince
    if (!update.hasMore && update.status.backend !== "starting") this.isComplete = true
    this.revision++
    this.tell()
  }

  connect(connection: Connection): void {
    if (this.connection === connection) return
    this.connection = connection
    this.tell()
  }

  describe(about: About): void {
    this.about = about
    this.tell()
  }

  listen(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  private tell(): void {
    if (this.isTelling) return
    this.isTelling = true
    requestAnimationFrame(() => {
      this.isTelling = false
      for (const listener of this.listeners) listener()
    })
  }
}

const mostHappenings = 200
const mostSpans = 6_000
