import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const units: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000
}

/** Reads `10s`, `1h30m`, `500ms`, and what Effect reads (`10 seconds`). A number needs its unit. */
export const parse = (text: string): Option.Option<Duration.Duration> => {
  const parts = Array.from(text.matchAll(/(\d+(?:\.\d+)?)(ms|min|[smhd])/gy))
  if (parts.length > 0 && parts.map(([part]) => part).join("") === text) {
    return Option.some(Duration.millis(parts.reduce((sum, [, count, unit]) => sum + Number(count) * units[unit!]!, 0)))
  }
  return /^\d+(\.\d+)?$/.test(text) ? Option.none() : Duration.fromInput(text as Duration.Input)
}

/** A flag for a time. */
export const duration = (name: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("<duration>"),
    Flag.filterMap(parse, () => "a time with its unit, like 10s or 1h30m")
  )
