// What whole runs said before this one, and on other processors.
import * as Fs from "node:fs"
import { table } from "./table.ts"

/** A whole run, as the documents keep it. */
export interface Kept {
  readonly date: string
  readonly revision: string
  readonly processor: string
  readonly runs: number
  /** By the text of a target; those that were not measured are absent. */
  readonly figures: Readonly<Record<string, string>>
  readonly note?: string
}

export const readHistory = (file: string): ReadonlyArray<Kept> =>
  Fs.existsSync(file) ? JSON.parse(Fs.readFileSync(file, "utf8")) as ReadonlyArray<Kept> : []

/** With this run last; a run of the same code on the same processor takes the place of the earlier one. */
export const withRun = (history: ReadonlyArray<Kept>, run: Kept): ReadonlyArray<Kept> => [
  ...history.filter(({ processor, revision }) => processor !== run.processor || revision !== run.revision),
  run
]

export const historyTable = (history: ReadonlyArray<Kept>): string => {
  const texts = [...new Set(history.flatMap(({ figures }) => Object.keys(figures)))]
  return table([
    ["", ...history.map(({ date, processor, revision }) => `${date}, ${processor}, \`${revision}\``)],
    ...texts.map((text) => [text, ...history.map(({ figures }) => figures[text] ?? "–")])
  ])
}
