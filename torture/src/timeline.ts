import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Recorded } from "./events.ts"
import { draw } from "./timeline/draw.ts"
import { intervalsOf } from "./timeline/intervals.ts"

/** Draws the busiest seconds of a history, which is a file of JSON lines. */
export const drawTimeline = (history: string, file: string, title: string): void => {
  // The last line of a process that was ended may be cut off.
  const lines = Fs.readFileSync(history, "utf8").split("\n").filter((line) => line.endsWith("}"))
  const intervals = intervalsOf(lines.map((line) => JSON.parse(line) as Recorded))
  Fs.mkdirSync(Path.dirname(Path.resolve(file)), { recursive: true })
  Fs.writeFileSync(file, draw(title, intervals))
}
