import type { LockInfo } from "effect-dlock/LockInfo"
import { shown } from "../shown.ts"
import * as Graph from "./graph.ts"
import type { Details, Happening, HappeningKind, Hold, Span, Status, Update, Waits } from "./page/protocol.ts"
import { Ring } from "./ring.ts"
import { endOf, look, type Sighting, toDetails, toLock } from "./sighting.ts"

interface Row {
  readonly version: number
  readonly id: number
  readonly sighting: Sighting
  /** What is sent of it: made once, however many pages are open. */
  readonly json: string
  /** The number of the last reading that saw it. */
  seenIn: number
}

/**
 * What all pages show: the locks as they were read last, and what has happened since somebody looks. Everything that changes
 * gets the next version, so that a page says which one it has and is told what came after: nothing is kept for each page.
 *
 * It has no clock: `now` is in milliseconds since 1970.
 */
export class Board {
  /** In the order of their versions. */
  private readonly rows = new Map<string, Row>()
  private readonly ids = new Map<string, number>()
  private readonly keys = new Map<number, string>()
  private readonly gone = new Ring<{ readonly version: number; readonly id: number }>(20_000)
  private readonly happenings = new Ring<Happening>(200)
  private readonly spans = new Ring<Span>(6_000)
  private version = 1
  /** Pages that know less than this begin anew. */
  private beginning = 1
  private reading = 0
  private watchedSince = 0
  /** Whether the last readings followed each other without a gap. */
  private isSeenThroughout = false
  private status: Status & { readonly version: number } = { version: 1, backend: "starting", since: 0 }
  private waits: Waits & { readonly version: number } = { version: 1, ...Graph.nothingWaits }
  private areWaitsOld = false
  private circles = new Set<string>()
  /** The holds that were asked to leave from here. */
  private readonly asked = new Set<string>()
  private handOvers = 0
  private losses = 0
  private told = { handOvers: 0, others: 0 }

  /** Forgets the locks: nobody has looked for a while, and what ended meanwhile ended unseen. */
  restart(now: number): void {
    this.rows.clear()
    this.ids.clear()
    this.keys.clear()
    this.circles.clear()
    this.beginning = ++this.version
    this.waits = { version: this.version, ...Graph.nothingWaits }
    this.status = { version: this.version, backend: "starting", since: now }
    this.handOvers = this.losses = 0
    this.isSeenThroughout = false
    this.watchedSince = now
  }

  /** A reading of the list begins. */
  begin(): void {
    this.reading++
    this.told = { handOvers: 0, others: 0 }
  }

  /** A lock was read, in the list or by itself. */
  see(info: LockInfo, now: number): void {
    const row = this.rows.get(info.key)
    if (info.holderCount === 0 && info.queueLength === 0) {
      if (row !== undefined) this.remove(row, now)
      return
    }
    const id = row?.id ?? this.idOf(info.key)
    const sighting = look(row?.sighting, info, now)
    const json = JSON.stringify(toLock(id, sighting, mostInRow))
    if (row === undefined || row.json !== json) {
      this.rows.delete(info.key)
      this.rows.set(info.key, { version: ++this.version, id, sighting, json, seenIn: this.reading })
    } else {
      row.seenIn = this.reading
    }
    if (row !== undefined) this.compare(row.sighting, sighting, id, now)
    if (row === undefined ? info.queueLength > 0 : hasOtherWaits(row.sighting, sighting)) this.areWaitsOld = true
  }

  /** The list was read to its end. */
  end(now: number, timing: { readonly tookMs: number; readonly everyMs: number }): void {
    for (const row of Array.from(this.rows.values())) if (row.seenIn !== this.reading) this.remove(row, now)
    if (this.areWaitsOld) this.drawWaits(now)
    if (this.status.backend === "away") this.tell(now, "back", "The backend answers again")
    this.isSeenThroughout = true
    const isNews = this.status.backend !== "up" || differsALot(this.status.tookMs!, timing.tookMs)
    if (!isNews) return
    const since = this.status.backend === "up" ? this.status.since : now
    this.status = { version: ++this.version, backend: "up", since, ...timing }
  }

  /** The list could not be read. */
  fail(now: number, why: string): void {
    this.isSeenThroughout = false
    if (this.status.backend === "away" && this.status.why === shown(why)) return
    if (this.status.backend !== "away") this.tell(now, "away", shown(why))
    const since = this.status.backend === "away" ? this.status.since : now
    this.status = { version: ++this.version, backend: "away", since, why: shown(why) }
  }

  /** An event that a caller knows of. */
  happened(now: number, kind: HappeningKind, text: string, id: number): void {
    this.tell(now, kind, text, { id, key: shown(this.keys.get(id) ?? "") })
  }

  /** A page asks the holder of this token to leave. It may have left before the next reading. */
  ask(id: number, token: string): void {
    this.asked.add(`${id} ${token}`)
  }

  /** What the page asked for did not happen. */
  unask(id: number, token: string): void {
    this.asked.delete(`${id} ${token}`)
  }

  keyOf(id: number): string | undefined {
    return this.keys.get(id)
  }

  /** All that is known of a lock, just read. */
  detailsOf(id: number, info: LockInfo, now: number): Details {
    this.see(info, now)
    const sighting = this.rows.get(info.key)?.sighting ?? look(undefined, info, now)
    return toDetails(id, sighting)
  }

  /** What changed after a version, as JSON of an `Update`, and the version to ask for next. At most a part of it at once. */
  since(
    after: number,
    now: number
  ): { readonly json: string; readonly version: number; readonly hasMore: boolean } | undefined {
    const oldest = Math.max(this.beginning, this.gone.forgottenUntil)
    const isWhole = after < oldest
    const from = isWhole ? 0 : after
    if (from === this.version) return undefined
    const rows: Array<Row> = []
    let hasMore = false
    for (const row of this.rows.values()) {
      if (row.version <= from) continue
      // A page that begins anew goes on behind its beginning, so that all that is older is in its first message.
      hasMore = rows.length >= mostRowsAtOnce && (!isWhole || row.version > oldest)
      if (hasMore) break
      rows.push(row)
    }
    const until = !hasMore ? this.version : Math.max(rows.at(-1)!.version, isWhole ? oldest : 0)
    const rest: Omit<Update, "locks"> = {
      at: now,
      version: until,
      isWhole,
      hasMore,
      gone: isWhole ? [] : this.gone.between(from, until).map(({ id }) => id),
      happenings: this.happenings.between(from, until),
      spans: this.spans.between(from, until),
      ...((isWhole || this.waits.version > from) && { waits: this.waits }),
      status: this.status,
      handOvers: this.handOvers,
      losses: this.losses,
      watchedSince: this.watchedSince
    }
    const json = `${JSON.stringify(rest).slice(0, -1)},"locks":[${rows.map((row) => row.json).join(",")}]}`
    return { json, version: until, hasMore }
  }

  private idOf(key: string): number {
    const known = this.ids.get(key)
    if (known !== undefined) return known
    const id = ++lastId
    this.ids.set(key, id)
    this.keys.set(id, key)
    // A lock that is free keeps its id, as long as there is room: it may be held again in a moment.
    if (this.ids.size > 2 * this.rows.size + mostFreeIds) {
      for (const [old, oldId] of this.ids) {
        if (this.rows.has(old) || old === key) continue
        this.ids.delete(old)
        this.keys.delete(oldId)
      }
    }
    return id
  }

  private remove(row: Row, now: number): void {
    this.rows.delete(row.sighting.key)
    if (row.sighting.waits.size > 0) this.areWaitsOld = true
    for (const hold of row.sighting.holds.values()) this.endHold(row.sighting, hold, row.id, now)
    for (const wait of row.sighting.waits.values()) this.endWait(row.sighting, wait, row.id, now, false)
    this.gone.push({ version: ++this.version, id: row.id })
  }

  /** Tells what happened to a lock between two sightings. */
  private compare(before: Sighting, after: Sighting, id: number, now: number): void {
    const key = shown(after.key)
    const entered = Array.from(after.holds.values()).filter(({ token }) => !before.holds.has(token))
    if (after.areAllHoldersTold && before.areAllHoldersTold) {
      for (const hold of before.holds.values()) {
        if (!after.holds.has(hold.token)) this.endHold(before, hold, id, now, entered[0])
      }
    }
    for (const hold of after.holds.values()) {
      const earlier = before.holds.get(hold.token)
      if (hold.isRevoked && earlier?.isRevoked === false) {
        this.tell(now, "revoking", `${hold.holder} was asked to leave`, { id, key, holder: hold.holder })
      } else if (hold.isOverdue && earlier?.isOverdue === false) {
        this.tell(now, "overdue", `${hold.holder} does not renew it`, { id, key, holder: hold.holder })
      }
    }
    if (!after.areAllWaitersTold || !before.areAllWaitersTold) return
    for (const [name, wait] of before.waits) {
      if (after.waits.has(name)) continue
      const isGranted = entered.some(({ holder }) => holder === wait.holder)
      this.endWait(before, wait, id, now, isGranted)
    }
  }

  private endHold(sighting: Sighting, hold: Hold, id: number, now: number, next?: Hold): void {
    const isAsked = this.asked.delete(`${id} ${hold.token}`)
    const end = isAsked ? "revoked" : endOf(hold, now, this.isSeenThroughout)
    const about = { id, key: shown(sighting.key), holder: hold.holder }
    const isExpired = end === "lost" && hold.expiresAt !== undefined
    const to = isExpired ? Math.min(now, hold.expiresAt) : now
    this.addSpan({ ...about, what: "held", from: hold.from, to, end })
    if (end === "lost") {
      this.losses++
      this.tell(now, "lost", `${hold.holder} lost it: it expired without a release`, about)
    } else if (end === "revoked") {
      this.tell(now, "revoked", `${hold.holder} has left, as it was asked to`, about)
    }
    if (next !== undefined && sighting.waits.size > 0) {
      this.handOvers++
      this.tell(now, "handedOver", `${hold.holder} to ${next.holder}`, { ...about, holder: next.holder })
    }
  }

  private endWait(
    sighting: Sighting,
    { from, holder }: { readonly from: number; readonly holder: string },
    id: number,
    now: number,
    isGranted: boolean
  ): void {
    const end = !this.isSeenThroughout ? "unseen" : isGranted ? "granted" : "left"
    this.addSpan({ id, key: shown(sighting.key), holder, what: "waited", from, to: now, end })
  }

  private addSpan(span: Omit<Span, "version">): void {
    this.spans.push({ ...span, to: Math.round(span.to), version: ++this.version })
  }

  private tell(
    now: number,
    kind: HappeningKind,
    text: string,
    about?: { readonly id: number; readonly key: string; readonly holder?: string }
  ): void {
    // A list in which hundreds come at once is read by nobody.
    const counter = kind === "handedOver" ? "handOvers" : "others"
    if (++this.told[counter] > (kind === "handedOver" ? mostHandOvers : mostOthers)) return
    this.happenings.push({ version: ++this.version, at: Math.round(now), kind, text, ...about })
  }

  private drawWaits(now: number): void {
    this.areWaitsOld = false
    const sightings = Array.from(this.rows.values()).filter(({ sighting }) => sighting.waits.size > 0)
    const waits = Graph.graphOf(sightings.map(({ sighting }) => sighting), (key) => this.ids.get(key) ?? 0)
    const circles = new Set(waits.cycles.map((circle) => JSON.stringify(circle.map(({ token }) => token))))
    waits.cycles.forEach((circle, index) => {
      if (this.circles.has(Array.from(circles)[index]!)) return
      const names = circle.map(({ holder }) => holder).join(", ")
      this.tell(now, "deadlock", `${names} wait for one another and will wait for ever`, circle[0])
    })
    this.circles = circles
    this.waits = { version: ++this.version, ...waits }
  }
}

const hasOtherWaits = (before: Sighting, after: Sighting): boolean => {
  if (before.waits.size === 0 && after.waits.size === 0) return false
  const names = ({ holds, waits }: Sighting) =>
    `${Array.from(holds.keys()).join()} ${Array.from(waits.keys()).join("\n")}`
  return names(before) !== names(after)
}

/** The time of a reading is always a little different. */
const differsALot = (before: number, after: number): boolean => Math.abs(after - before) > 20 + before / 2

/** Ids are never used again, by no board: a page may ask with an old one. */
let lastId = 0

const mostFreeIds = 10_000
const mostInRow = 5
const mostRowsAtOnce = 1_000

/** Events of one reading. */
const mostHandOvers = 8
const mostOthers = 50
