import * as Effect from "effect/Effect"
import { PlatformError } from "effect/PlatformError"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { root } from "./commands/root.ts"
import { exitCodes } from "./exitCodes.ts"
import { Failure } from "./failure.ts"

/**
 * Writes a value as JSON if the call asks for that, and otherwise as the text for people. In JSON a bigint is a string, a
 * `None` is absent, and a duration is milliseconds.
 */
export const write = <A>(value: A, json: (value: A) => unknown, text: (value: A) => string) =>
  Effect.flatMap(root, (flags) => writeLines(Stream.succeed(flags.json ? jsonOf(json(value)) : text(value))))

/** The same, and fails if the text cannot be written to its end: the answer is needed, and cannot be had twice. */
export const writeAtOnce = <A>(value: A, json: (value: A) => unknown, text: (value: A) => string) =>
  Effect.flatMap(root, (flags) =>
    Effect.try({
      try: () => writeAll(`${flags.json ? jsonOf(json(value)) : text(value)}\n`),
      catch: (error) =>
        new Failure({
          message: `the answer cannot be written to stdout: ${error instanceof Error ? error.message : String(error)}`,
          exitCode: exitCodes.notWritten
        })
    }))

const writeAll = (text: string): void => {
  for (let rest = Buffer.from(text); rest.length > 0;) {
    try {
      rest = rest.subarray(Fs.writeSync(1, rest))
    } catch (error) {
      // A full pipe that another program made not to block.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error
    }
  }
}

/** JSON in one line that a terminal may show: what could act on it is escaped, which changes no value. */
export const jsonOf = (value: unknown): string => JSON.stringify(value).replaceAll(unsafe, escapeOf)

/** What JSON leaves as it is: control characters above ASCII, format characters, separators of lines. */
const unsafe = /[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu

const escapeOf = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, nth) => `\\u${character.charCodeAt(nth).toString(16).padStart(4, "0")}`
  ).join("")

/**
 * Writes lines as they come, no faster than they are read. When nobody reads on (`| head`), the stream ends, and that is no
 * error.
 */
export const writeLines = <E, R>(lines: Stream.Stream<string, E, R>) =>
  Effect.flatMap(
    Stdio.Stdio,
    (stdio) => Stream.run(Stream.map(Stream.chunks(lines), (some) => `${some.join("\n")}\n`), stdio.stdout())
  ).pipe(
    Effect.catchIf(isOfStdout, (error) => {
      const cause = error instanceof Error ? error.cause : undefined
      if ((cause as NodeJS.ErrnoException | undefined)?.code === "EPIPE") return Effect.void
      const why = cause instanceof Error ? cause.message : String(error)
      return Effect.fail(
        new Failure({ message: `stdout cannot be written: ${why}`, exitCode: exitCodes.notWritten })
      )
    })
  )

const isOfStdout = (error: unknown): boolean => error instanceof PlatformError && error.reason.module === "Stdio"
