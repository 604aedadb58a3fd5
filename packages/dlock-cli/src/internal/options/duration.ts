import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const units: Readonly<Record<string, number>> = {
  "": 1_000,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000
}

/**
 * Reads a duration as fingers write it: `90s`, `15m`, `1h30m`, a plain number of seconds as for `flock -w`, or the words
 * of the library's options, such as `5 seconds`.
 */
export const parse = (text: string): Duration.Duration | undefined => {
  const parts = Array.from(text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd]|$)/g))
  if (parts.length > 0 && parts.map(([part]) => part).join("") === text) {
    return Duration.millis(parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * units[unit!]!, 0))
  }
  return Option.getOrUndefined(Duration.fromInput(text as Duration.Input))
}

/** A flag whose value is a duration. */
export const durationFlag = (name: string): Flag.Flag<Duration.Duration> =>
  Flag.String(name).pipe(
    Flag.withMetavar("duration"),
    Flag.mapTryCatch(
      (text) => {
        const duration = parse(text)
        if (duration === undefined) throw new Error()
        return duration
      },
      () => `--${name} must be a duration: 30s, 15m, 1h30m, or a number of seconds`
    )
  )
