/** The whole terminal, given back as it was. */
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Terminal from "effect/Terminal"

// The alternate screen, no cursor, and no wrapping of lines where the terminal is narrower than the table.
const alternate = "\x1b[?1049h\x1b[?25l\x1b[?7l"
const restored = "\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

/**
 * Takes the terminal until the scope closes. No key ends the input by itself: the one who reads it decides. A signal
 * interrupts the program, and that closes the scope.
 */
export const take: Effect.Effect<Terminal.Terminal, never, Scope.Scope> = Effect.gen(function*() {
  const terminal = yield* NodeTerminal.make(() => false)
  const write = (text: string) => Effect.ignore(terminal.display(text))
  yield* Effect.acquireRelease(write(alternate), () => write(restored))
  return terminal
})

/** Draws all lines in one step, so that nothing flickers. A line is cleared first: behind a full one there is nothing to clear. */
export const frame = (lines: ReadonlyArray<string>): string =>
  `\x1b[?2026h\x1b[H${lines.map((line) => `\x1b[2K${line}\x1b[0m`).join("\r\n")}\x1b[?2026l`
