/** Tables of columns, for terminals and for `grep`. */
import { clip, padded, widthOf } from "../shown.ts"

export interface Column<A> {
  readonly title: string
  /** The text of a cell, safe to show. */
  readonly cell: (row: A) => string
  /** How wide the column gets at most. */
  readonly most: number
  readonly isRight?: boolean
  /** How a cell is coloured, when it has its width. */
  readonly paint?: (text: string, row: A) => string
}

/** How wide each column has to be for these rows. */
export const widthsOf = <A>(columns: ReadonlyArray<Column<A>>, rows: ReadonlyArray<A>): ReadonlyArray<number> =>
  columns.map(({ cell, most, title }) =>
    Math.min(most, rows.reduce((width, row) => Math.max(width, widthOf(cell(row))), widthOf(title)))
  )

const fitted = (text: string, width: number, isRight: boolean | undefined): string => {
  const cut = clip(text, width)
  return isRight === true ? " ".repeat(Math.max(0, width - widthOf(cut))) + cut : padded(cut, width)
}

export const header = <A>(columns: ReadonlyArray<Column<A>>, widths: ReadonlyArray<number>): string =>
  columns.map(({ isRight, title }, nth) => fitted(title, widths[nth]!, isRight)).join("  ").trimEnd()

export const line = <A>(
  columns: ReadonlyArray<Column<A>>,
  widths: ReadonlyArray<number>,
  row: A,
  isPainted = true
): string =>
  columns.map(({ cell, isRight, paint }, nth) => {
    const text = fitted(cell(row), widths[nth]!, isRight)
    return paint === undefined || !isPainted ? text : paint(text, row)
  }).join("  ").trimEnd()
