/** Colours, only where a terminal is and nobody said no. */
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Util from "node:util"

export interface Style {
  readonly bold: (text: string) => string
  readonly dim: (text: string) => string
  readonly red: (text: string) => string
  readonly yellow: (text: string) => string
  readonly green: (text: string) => string
  readonly inverse: (text: string) => string
}

type Format = Parameters<typeof Util.styleText>[0]

const styled = (format: Format) => (text: string) => Util.styleText(format, text, { validateStream: false })

export const coloured: Style = {
  bold: styled("bold"),
  dim: styled("dim"),
  red: styled(["bold", "red"]),
  yellow: styled("yellow"),
  green: styled("green"),
  inverse: styled("inverse")
}

const same = (text: string): string => text

export const plain: Style = { bold: same, dim: same, red: same, yellow: same, green: same, inverse: same }

/** The style for stdout. */
export const style: Effect.Effect<Style> = Effect.map(
  TerminalCapabilities.TerminalCapabilities,
  ({ canColor }) => canColor ? coloured : plain
)
