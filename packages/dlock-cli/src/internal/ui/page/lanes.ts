import { h } from "preact"
import { useEffect, useMemo, useRef } from "preact/hooks"
import { historyMs } from "./protocol.ts"
import type { Store } from "./store.ts"
import { clipped, durationOf } from "./text.ts"

/** A stretch of a lane. */
interface Stay {
  readonly key: string
  readonly id: number
  readonly isHeld: boolean
  readonly from: number
  readonly to: number | undefined
  readonly end: "lost" | "revoked" | "overdue" | "other"
}

interface Lane {
  readonly holder: string
  readonly stays: ReadonlyArray<Stay>
  readonly weight: number
  /** How many locks it holds now. */
  readonly held: number
}

export interface LanesProps {
  readonly store: Store
  readonly revision: number
  readonly selected: number | undefined
  readonly deadlocked: ReadonlySet<number>
}

/** A lane for each holder over the last minutes: when it held a lock, when it waited, what it lost. */
export const Lanes = ({ deadlocked, revision, selected, store }: LanesProps) => {
  const canvas = useRef<HTMLCanvasElement>(null)
  const all = useMemo(() => lanesOf(store, selected, deadlocked), [revision, selected, deadlocked])
  const lanes = useMemo(() => all.slice(0, mostLanes).map(cut), [all])

  useEffect(() => {
    const element = canvas.current
    if (element === null) return undefined
    let frame = 0
    const draw = () => paint(element, lanes, store, selected)
    const observer = new ResizeObserver(draw)
    observer.observe(element)
    // It moves a pixel or less each time.
    const timer = setInterval(() => {
      cancelAnimationFrame(frame)
      frame = requestAnimationFrame(draw)
    }, 500)
    const dark = matchMedia("(prefers-color-scheme: dark)")
    dark.addEventListener("change", draw)
    draw()
    return () => {
      observer.disconnect()
      clearInterval(timer)
      cancelAnimationFrame(frame)
      dark.removeEventListener("change", draw)
    }
  }, [lanes, selected])

  const rest = all.length - lanes.length
  return h(
    "section",
    { class: "card lanes", "aria-labelledby": "lanes-title" },
    h(
      "header",
      null,
      h(
        "h2",
        { id: "lanes-title" },
        selected === undefined ? "Who held what, and when" : "Who held this lock, and when"
      ),
      h(
        "ul",
        { class: "legend", "aria-hidden": "true" },
        [["held", "held"], ["waited", "waits"], ["overdue", "not renewed"], ["lost", "lost"], ["revoked", "revoked"]]
          .map((
            [name, text]
          ) => h("li", { key: name }, h("span", { class: `swatch ${name}` }), text))
      )
    ),
    lanes.length === 0
      ? h("p", { class: "empty" }, "Nobody holds a lock or waits for one.")
      : h(
        "div",
        { class: "lane-grid" },
        h(
          "ol",
          { class: "lane-names" },
          lanes.map(({ held, holder, stays }) =>
            h(
              "li",
              { key: holder, title: holder },
              h("bdi", { class: "text" }, holder),
              h("span", { class: "hidden" }, said(stays, held))
            )
          )
        ),
        h("canvas", {
          ref: canvas,
          class: "lane-canvas",
          role: "img",
          "aria-label": "When each holder held a lock or waited. The names say it in words.",
          style: { height: `${lanes.length * laneHeight + axisHeight}px` }
        })
      ),
    rest > 0 &&
      h(
        "p",
        { class: "muted more-lanes" },
        `and ${rest.toLocaleString("en")} more holders. Choose a lock to see its own.`
      )
  )
}

const said = (stays: ReadonlyArray<Stay>, held: number): string => {
  const waits = stays.filter(({ isHeld, to }) => !isHeld && to === undefined).length
  const lost = stays.filter(({ end }) => end === "lost").length
  return ` holds ${held}, waits for ${waits}, lost ${lost}`
}

/** A lane with as many stays as can be told apart: of hundreds those that went wrong, and the latest. */
const cut = (lane: Lane): Lane => {
  if (lane.stays.length <= mostStays) return lane
  const important = (stay: Stay) => stay.end === "other" ? stay.to ?? Number.MAX_SAFE_INTEGER : Number.MAX_VALUE
  const kept = lane.stays.toSorted((one, other) => important(other) - important(one)).slice(0, mostStays)
  return { ...lane, stays: kept.sort((one, other) => one.from - other.from) }
}

/** All lanes, those to look at first. */
const lanesOf = (store: Store, selected: number | undefined, deadlocked: ReadonlySet<number>): ReadonlyArray<Lane> => {
  const stays = new Map<string, Array<Stay>>()
  const add = (holder: string, stay: Stay) => {
    const known = stays.get(holder)
    if (known === undefined) stays.set(holder, [stay])
    else known.push(stay)
  }
  for (const { end, from, holder, id, key, to, what } of store.spans) {
    if (selected !== undefined && id !== selected) continue
    add(holder, {
      key,
      id,
      isHeld: what === "held",
      from,
      to,
      end: end === "lost" || end === "revoked" ? end : "other"
    })
  }
  const locks = selected === undefined ? store.locks.values() : [store.locks.get(selected)].flatMap((one) => one ?? [])
  for (const { holders, id, key, waiting } of locks) {
    for (const { from, holder, isOverdue, isRevoked } of holders) {
      const end = isOverdue ? "overdue" : isRevoked ? "revoked" : "other"
      add(holder, { key, id, isHeld: true, from, to: undefined, end })
    }
    for (const { from, holder } of waiting) add(holder, { key, id, isHeld: false, from, to: undefined, end: "other" })
  }
  const lanes = Array.from(stays, ([holder, own]) => ({
    holder,
    stays: own,
    weight: weigh(own, deadlocked),
    held: own.filter(({ isHeld, to }) => isHeld && to === undefined).length
  }))
  // The names decide among those that are as important, so that lanes do not change places all the time.
  return lanes.sort((one, other) => other.weight - one.weight || (one.holder < other.holder ? -1 : 1))
}

const weigh = (stays: ReadonlyArray<Stay>, deadlocked: ReadonlySet<number>): number =>
  stays.some(({ id, to }) => to === undefined && deadlocked.has(id))
    ? 4
    : stays.some(({ end }) => end === "lost" || end === "overdue" || end === "revoked")
    ? 3
    : stays.some(({ isHeld }) => !isHeld)
    ? 2
    : 1

const paint = (
  canvas: HTMLCanvasElement,
  lanes: ReadonlyArray<Lane>,
  store: Store,
  selected: number | undefined
): void => {
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  const scale = devicePixelRatio
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale)
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale)
  const pen = canvas.getContext("2d")!
  const style = getComputedStyle(canvas)
  const colour = (name: string) => style.getPropertyValue(`--${name}`)
  pen.setTransform(scale, 0, 0, scale, 0, 0)
  pen.clearRect(0, 0, width, height)
  const now = store.now()
  // As far back as somebody has looked.
  const span = spans.find((span) => now - store.watchedSince <= span) ?? historyMs
  const start = now - span
  const x = (at: number) => Math.max(0, Math.min(width, (at - start) / span * width))

  pen.font = "11px system-ui, sans-serif"
  pen.textBaseline = "middle"
  const bottom = lanes.length * laneHeight
  // Before this nobody looked.
  const unknown = x(store.watchedSince)
  pen.fillStyle = colour("unknown")
  pen.fillRect(0, 0, unknown, bottom)
  for (let back = 0; back <= span; back += span / 6) {
    const at = Math.round(x(now - back)) - (back === 0 ? 0.5 : -0.5)
    pen.fillStyle = colour("line")
    pen.fillRect(at, 0, 1, bottom)
    pen.fillStyle = colour("muted")
    const text = back === 0 ? "now" : width < 420 && back % (span / 3) !== 0 ? "" : `−${back / 1_000} s`
    pen.textAlign = back === 0 ? "right" : back === span ? "left" : "center"
    pen.fillText(text, at, bottom + axisHeight / 2 + 2)
  }

  lanes.forEach(({ held: count, stays }, index) => {
    const y = index * laneHeight
    pen.fillStyle = colour("line")
    pen.fillRect(0, y + laneHeight - 0.5, width, 0.5)
    for (const stay of stays) {
      if (stay.isHeld) continue
      pen.strokeStyle = colour("waiting")
      pen.lineWidth = 2
      pen.setLineDash([2, 3])
      pen.beginPath()
      pen.moveTo(x(stay.from), y + laneHeight / 2)
      pen.lineTo(Math.max(x(stay.from) + 2, x(stay.to ?? now)), y + laneHeight / 2)
      pen.stroke()
      pen.setLineDash([])
    }
    const held = stays.filter(({ isHeld }) => isHeld)
    const open = held.filter(({ to }) => to === undefined)
    for (const stay of held) {
      // Those that it holds at once lie on top of each other.
      const others = stay === open.at(-1) ? count - 1 : 0
      paintHold(pen, stay, { x, y, now, colour, others, isSelected: stay.id === selected })
    }
  })
}

const paintHold = (
  pen: CanvasRenderingContext2D,
  { end, from, key, to }: Stay,
  { colour, isSelected, now, others, x, y }: {
    readonly x: (at: number) => number
    readonly y: number
    readonly now: number
    readonly colour: (name: string) => string
    /** How many more it holds at the same time. */
    readonly others: number
    readonly isSelected: boolean
  }
): void => {
  const left = x(from)
  const right = Math.max(left + 2, x(to ?? now))
  const tone = end === "overdue" ? "amber" : end === "lost" ? "red" : end === "revoked" ? "violet" : "blue"
  pen.fillStyle = colour(`${tone}-soft`)
  pen.strokeStyle = colour(tone)
  pen.lineWidth = 1
  pen.beginPath()
  pen.roundRect(left + 0.5, y + 4.5, Math.max(1, right - left - 1), laneHeight - 10, Math.min(4, (right - left) / 2))
  pen.fill()
  pen.stroke()
  if (to === undefined) {
    // It goes on.
    pen.fillStyle = colour(tone)
    pen.fillRect(right - 2.5, y + 4, 2.5, laneHeight - 9)
  }
  if (end === "lost" || (end === "revoked" && to !== undefined)) {
    pen.strokeStyle = colour(tone)
    pen.lineWidth = 2
    const middle = y + laneHeight / 2 - 0.5
    pen.beginPath()
    pen.moveTo(right - 4, middle - 4)
    pen.lineTo(right + 4, middle + 4)
    pen.moveTo(right - 4, middle + 4)
    pen.lineTo(right + 4, middle - 4)
    pen.stroke()
  }
  const room = right - left - 14
  if (room < 34) return
  pen.save()
  pen.beginPath()
  pen.rect(left, y, right - left - 6, laneHeight)
  pen.clip()
  pen.fillStyle = colour("text")
  pen.textAlign = "left"
  const more = others > 0 ? ` and ${others} more` : ""
  const name = isSelected ? durationOf((to ?? now) - from) : clipped(key, Math.floor(room / 6) - more.length)
  const text = name + more
  pen.fillText(text, left + 6, y + laneHeight / 2)
  pen.restore()
}

/** Milliseconds that the lanes may show. */
const spans = [30_000, 60_000, historyMs]

const mostLanes = 14
const mostStays = 100
const laneHeight = 26
const axisHeight = 22
