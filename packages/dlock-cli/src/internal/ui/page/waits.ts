import { h } from "preact"
import type { Edge, Step, Waits as Known } from "./protocol.ts"
import { clipped, counted } from "./text.ts"

export interface WaitsProps {
  readonly waits: Known
  readonly onSelect: (id: number) => void
}

/** Who waits for whom: circles in red, then those in whose way most others are. */
export const Waits = ({ onSelect, waits }: WaitsProps) => {
  const rows = forestOf(withoutCircles(waits))
  return h(
    "section",
    { class: "card waits", "aria-labelledby": "waits-title" },
    h(
      "header",
      null,
      h("h2", { id: "waits-title" }, "Who waits for whom"),
      waits.cycleCount > 0 && h("span", { class: "badge red" }, counted(waits.cycleCount, "deadlock"))
    ),
    waits.cycles.map((circle) => h(Circle, { key: circle.map(({ token }) => token).join(), circle, onSelect })),
    rows.length > 0 && h(Forest, { rows, onSelect }),
    rows.length === 0 && waits.cycles.length === 0 && h("p", { class: "empty" }, "Nobody waits."),
    waits.edgeCount > waits.edges.length &&
      h("p", { class: "muted" }, `${(waits.edgeCount - waits.edges.length).toLocaleString("en")} more are not drawn.`)
  )
}

/** Callers that wait for one another: one below the other, and back to the first. */
const Circle = (
  { circle, onSelect }: { readonly circle: ReadonlyArray<Step>; readonly onSelect: (id: number) => void }
) => {
  const height = (circle.length - 1) * stepHeight + boxHeight + 22
  const middle = (index: number) => index * stepHeight + boxHeight / 2 + 2
  const youngest = circle.find(({ isYoungest }) => isYoungest)!
  return h(
    "div",
    { class: "circle" },
    h(
      "svg",
      {
        viewBox: `0 0 ${width} ${height}`,
        class: "drawing",
        role: "img",
        "aria-label": `Deadlock of ${circle.length}: ${
          circle.map(({ holder, key }) => `${holder} holds ${key}`).join("; ")
        }`
      },
      circle.map((step, index) => {
        const next = circle[(index + 1) % circle.length]!
        const y = middle(index)
        const isLast = index === circle.length - 1
        const x = 24
        // Down to the next; from the last one, along the side, up to the first.
        const line = isLast
          ? `M ${width - 62} ${y} C ${width - 4} ${y}, ${width - 4} ${middle(0)}, ${width - 62} ${middle(0)}`
          : `M ${x} ${y + boxHeight / 2} L ${x} ${middle(index + 1) - boxHeight / 2 - 2}`
        const tip = isLast
          ? `M ${width - 54} ${middle(0) - 5} l -8 5 l 8 5`
          : `M ${x - 5} ${middle(index + 1) - boxHeight / 2 - 9} l 5 8 l 5 -8`
        return h(
          "g",
          { key: step.token, class: "red" },
          h("path", { class: "edge", d: line }),
          h("path", { class: "edge", d: tip }),
          h("rect", { class: "box", x: 1, y: y - boxHeight / 2, width: width - 64, height: boxHeight, rx: 6 }),
          h("text", { class: "label name", x: 12, y: y - 3 }, h("title", null, step.holder), clipped(step.holder, 34)),
          h(
            "text",
            { class: "label mono small", x: 12, y: y + 13 },
            h("title", null, step.key),
            `holds ${clipped(step.key, 34)}`
          ),
          h(
            "text",
            {
              class: "label small wants",
              x: isLast ? 12 : x + 12,
              y: y + boxHeight / 2 + (isLast ? 14 : (stepHeight - boxHeight) / 2 + 4)
            },
            h("title", null, next.key),
            `waits for ${clipped(next.key, 32)}`
          )
        )
      })
    ),
    h(
      "p",
      null,
      "They wait for ever. Revoke the youngest hold, which has the least to lose: ",
      h(
        "button",
        { type: "button", class: "link mono", title: youngest.key, onClick: () => onSelect(youngest.id) },
        h("bdi", { class: "text" }, youngest.key)
      )
    )
  )
}

interface Row {
  readonly name: string
  readonly depth: number
  readonly edge: Edge | undefined
  readonly more: number
}

const Forest = ({ onSelect, rows }: { readonly rows: ReadonlyArray<Row>; readonly onSelect: (id: number) => void }) =>
  h(
    "ul",
    { class: "forest" },
    rows.map((row, index) =>
      h(
        "li",
        {
          key: `${index} ${row.name}`,
          class: `branch depth-${Math.min(row.depth, 4)}${row.edge?.isDeadlocked === true ? " red" : ""}`
        },
        h("bdi", { class: "name text", title: row.name }, row.name),
        row.edge !== undefined && [
          h("span", { class: "muted", key: "for" }, "waits for"),
          h(
            "button",
            {
              type: "button",
              class: "link mono",
              key: "key",
              title: row.edge.key,
              onClick: () => onSelect(row.edge!.id)
            },
            h("bdi", { class: "text" }, row.edge.key)
          )
        ],
        row.more > 0 && h("span", { class: "muted" }, `and ${row.more} more behind it`)
      )
    )
  )

/** The edges that no circle shows. */
const withoutCircles = ({ cycles, edges }: Known): ReadonlyArray<Edge> => {
  const drawn = new Set(
    cycles.flatMap((circle) =>
      circle.map(({ holder }, index) => `${circle[(index + 1) % circle.length]!.id} ${holder}`)
    )
  )
  return edges.filter(({ id, waiter }) => !drawn.has(`${id} ${waiter}`))
}

/** The edges as trees: below each holder those that wait for it. */
const forestOf = (edges: ReadonlyArray<Edge>): ReadonlyArray<Row> => {
  const waitersOf = new Map<string, Array<Edge>>()
  const waiters = new Set<string>()
  for (const edge of edges) {
    waiters.add(edge.waiter)
    const own = waitersOf.get(edge.holder)
    if (own === undefined) waitersOf.set(edge.holder, [edge])
    else own.push(edge)
  }
  const rows: Array<Row> = []
  const seen = new Set<string>()
  const add = (name: string, edge: Edge | undefined, depth: number): void => {
    const own = seen.has(name) ? [] : waitersOf.get(name) ?? []
    seen.add(name)
    const shown = depth < deepest ? own.slice(0, mostBelow) : []
    rows.push({ name, depth, edge, more: own.length - shown.length })
    for (const next of shown) if (rows.length < mostRows) add(next.waiter, next, depth + 1)
  }
  const roots = Array.from(waitersOf.keys()).filter((name) => !waiters.has(name))
  for (const name of roots) if (rows.length < mostRows) add(name, undefined, 0)
  return rows
}

// Of the drawing, in its own units.
const width = 340
const boxHeight = 42
const stepHeight = 72

const deepest = 4
const mostBelow = 6
const mostRows = 30
