/** Times as people read them. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const steps: ReadonlyArray<readonly [unit: string, millis: number]> = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000]
]

/** A time in the two units that matter: `2 h 5 min`, `4.2 s`, `870 ms`. */
export const timeOf = (millis: number): string => {
  if (millis === Infinity) return "for ever"
  if (millis < 10) return `${Number(millis.toPrecision(2))} ms`
  if (millis < 1_000) return `${Math.round(millis)} ms`
  // Rounded down: 59.96 s is no minute.
  if (millis < 60_000) return `${(Math.floor(millis / 100) / 10).toFixed(1)} s`
  const first = steps.findIndex(([, size]) => millis >= size)
  const [unit, size] = steps[first]!
  const [lesser, part] = steps[first + 1]!
  const rest = Math.floor((millis % size) / part)
  return rest === 0 ? `${Math.floor(millis / size)} ${unit}` : `${Math.floor(millis / size)} ${unit} ${rest} ${lesser}`
}

/** How long ago that was, by this machine's clock, or a dash. */
export const ago = (since: Option.Option<DateTime.Utc>, now: number): string =>
  Option.match(since, { onNone: () => "–", onSome: (at) => timeOf(Math.max(0, now - DateTime.toEpochMillis(at))) })

/** A time that is left, or a dash. */
export const left = (expiresIn: Option.Option<Duration.Duration>): string =>
  Option.match(expiresIn, { onNone: () => "–", onSome: (duration) => timeOf(Duration.toMillis(duration)) })

/** `1 permit`, `2 permits`. */
export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`
