import type { Section } from "./sections.ts"

/** What there is to draw on. */
export interface Canvas {
  readonly columns: number
  readonly colours: boolean
}

interface Cell {
  readonly text: string
  /** ANSI codes. */
  readonly style: string
}

const blank: Cell = { text: " ", style: "" }
const dim = "2"
const alarm = "1;31"
const inks = ["36", "33", "35", "32", "34", "31"]
const papers = ["30;46", "30;43", "30;45", "30;42", "30;44", "30;41"]

/** A row for each worker over one axis of time: who was inside when, who waited, and what went wrong. */
export const timeline = (
  sections: ReadonlyArray<Section>,
  workerNames: ReadonlyArray<string>,
  canvas: Canvas
): string => {
  const margin = Math.max(2, ...workerNames.map((worker) => worker.length)) + 4
  const width = Math.max(20, Math.min(canvas.columns, 120) - margin - 1)
  const span = Math.max(1, ...sections.map((section) => section.leftAt))
  const column = (at: number): number => Math.round(at / span * (width - 1))
  const ordinals = ordinalsOf(sections)

  const rows = workerNames.map((worker, index) => {
    const own = sections.filter((section) => section.worker === worker)
    const row = new Row(width)
    for (const section of own) drawStay(row, section, labelOf(section, ordinals), index, column, canvas)
    for (const section of own) drawMarks(row, section, column)
    return `  ${worker.padEnd(margin - 2)}${row.render(canvas)}`
  })
  return [...rows, ...axis(span, margin, width, column, canvas), legend(sections, margin, canvas)].join("\n")
}

/** A row of cells, with a gap at the end for a mark that comes last. */
class Row {
  private readonly cells: Array<Cell>

  constructor(width: number) {
    this.cells = Array.from({ length: width + 2 }, () => blank)
  }

  fill(from: number, to: number, text: string, style: string): void {
    for (let at = from; at < Math.min(to, this.cells.length); at++) this.cells[at] = { text, style }
  }

  write(from: number, text: string, style: string): void {
    Array.from(text).forEach((char, offset) => this.fill(from + offset, from + offset + 1, char, style))
  }

  /** Neighbours of one style are painted together. */
  render(canvas: Canvas): string {
    let text = ""
    for (let from = 0, to = 0; from < this.cells.length; from = to) {
      const { style } = this.cells[from]!
      while (this.cells[to]?.style === style) to++
      text += paint(this.cells.slice(from, to).map((cell) => cell.text).join(""), style, canvas)
    }
    return text.trimEnd()
  }
}

const drawStay = (
  row: Row,
  section: Section,
  labels: ReadonlyArray<string>,
  index: number,
  column: (at: number) => number,
  canvas: Canvas
): void => {
  const ink = inks[index % inks.length]!
  const from = column(section.enteredAt)
  const to = Math.max(from + 1, column(section.endedAt))
  if (section.askedAt !== undefined) row.fill(column(section.askedAt), from, "·", dim)
  if (section.outcome === "sold out") return row.fill(from, to, "▏", ink)

  const label = labels.find((label) => label.length + 2 <= to - from) ?? ""
  row.fill(from, to - 1, "█", ink)
  if (canvas.colours) row.write(from, ` ${label}`.padEnd(to - from - 1), papers[index % papers.length]!)
  else row.write(from + 1, label, "")
  row.fill(to - 1, to, "▌", ink)
  if (section.lost !== undefined) row.fill(to, column(section.leftAt), "▒", ink)
}

const drawMarks = (row: Row, section: Section, column: (at: number) => number): void => {
  const end = Math.max(column(section.enteredAt) + 1, column(section.endedAt))
  if (section.lost !== undefined) row.fill(end, end + 1, "✗", alarm)
  if (section.refusedAt === undefined) return
  const at = Math.max(column(section.refusedAt), section.lost === undefined ? 0 : end + 1)
  row.fill(at, at + 1, "⊘", alarm)
}

/** #1 for the oldest fencing token, and so on: real ones may be too long for a row. */
const ordinalsOf = (sections: ReadonlyArray<Section>): ReadonlyMap<bigint, number> => {
  const tokens = sections.flatMap(({ token }) => token === undefined ? [] : [token])
  tokens.sort((a, b) => a < b ? -1 : a > b ? 1 : 0)
  return new Map(tokens.map((token, index) => [token, index + 1]))
}

/** Possible labels of a block, the most telling first. */
const labelOf = ({ left, token }: Section, ordinals: ReadonlyMap<bigint, number>): ReadonlyArray<string> => {
  const ordinal = token === undefined ? "" : `#${ordinals.get(token)}`
  const stock = left === undefined ? "" : `${left}→${left - 1}`
  return [`${ordinal} ${stock}`.trim(), ordinal, stock]
}

const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000]

const axis = (
  span: number,
  margin: number,
  width: number,
  column: (at: number) => number,
  canvas: Canvas
): ReadonlyArray<string> => {
  const step = steps.find((step) => column(step) >= 8) ?? span
  const line = new Row(width)
  const numbers = new Row(width)
  line.fill(0, width, "─", dim)
  for (let at = 0; at <= span; at += step) {
    line.fill(column(at), column(at) + 1, "┴", dim)
    if (column(at) + `${at}`.length <= width) numbers.write(column(at), `${at}`, dim)
  }
  return [
    " ".repeat(margin) + line.render(canvas),
    `  ${paint("ms".padEnd(margin - 2), dim, canvas)}${numbers.render(canvas)}`
  ]
}

/** Explains the signs that occur. */
const legend = (sections: ReadonlyArray<Section>, margin: number, canvas: Canvas): string => {
  const lost = sections.some((section) => section.lost !== undefined)
  const signs: ReadonlyArray<readonly [occurs: boolean, meaning: string]> = [
    [true, "█ inside"],
    [sections.some(({ outcome }) => outcome !== "sold out"), "▌ leaves"],
    [sections.some(({ askedAt }) => askedAt !== undefined), "· waits"],
    [sections.some(({ outcome }) => outcome === "sold out"), "▏sold out"],
    [lost, "✗ lease over"],
    [lost, "▒ still at it"],
    [sections.some(({ refusedAt }) => refusedAt !== undefined), "⊘ write refused"]
  ]
  const text = signs.flatMap(([occurs, meaning]) => occurs ? [meaning] : []).join("  ")
  return " ".repeat(margin) + paint(text, dim, canvas)
}

export const paint = (text: string, style: string, canvas: Canvas): string =>
  canvas.colours && style !== "" && text !== "" ? `\x1b[${style}m${text}\x1b[0m` : text
