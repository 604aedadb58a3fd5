import { Console, Effect, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import type { Act, Finding } from "./acts.ts"
import { type Canvas, paint, timeline } from "./timeline.ts"
import { workerNames } from "./workers.ts"

/** The terminal as it is, or 80 columns in black and white. */
const canvas: Effect.Effect<Canvas, never, Terminal.Terminal> = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  return { columns: (yield* terminal.columns) || 80, colours: canColor }
})

/** Lines that fit between the indent and the last column. */
const wrap = (text: string, indent: string, columns: number): string =>
  text.split(" ").reduce<ReadonlyArray<string>>((lines, word) => {
    const last = lines.at(-1)
    return last !== undefined && indent.length + last.length + word.length < columns
      ? [...lines.slice(0, -1), `${last} ${word}`]
      : [...lines, word]
  }, []).join(`\n${indent}`)

export const say = Effect.fnUntraced(function*(text: string) {
  const { columns } = yield* canvas
  yield* Console.log(wrap(text, "", columns))
})

/** Announces an act, plays it, draws who was inside when, and says what was found. */
export const show = Effect.fnUntraced(function*<E, R>(title: string, story: string, act: Effect.Effect<Act, E, R>) {
  const page = yield* canvas
  yield* Console.log(`\n${paint(title, "1", page)}`)
  yield* say(story)
  const { findings, sections } = yield* act
  yield* Console.log(`\n${timeline(sections, workerNames, page)}\n`)
  for (const finding of findings) {
    yield* Console.log(`  ${mark(finding, page)} ${wrap(finding.text, "    ", page.columns)}`)
  }
  return findings
})

const mark = ({ bad, holds }: Finding, page: Canvas): string =>
  !holds ? paint("✗", "1;31", page) : bad ? paint("!", "1;31", page) : paint("✓", "32", page)
