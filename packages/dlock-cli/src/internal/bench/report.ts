import type { Style } from "../text/style.ts"
import { timeOf } from "../text/units.ts"
import type { Measured, Sections } from "./measure.ts"
import type { Times } from "./samples.ts"

/** A renewal may take a sixth of the ttl, so that two more attempts fit. This many times the worst of them is the reserve. */
const reserve = 10

const usual = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600]

/** The shortest usual ttl, in seconds, in which a renewal may take ten times as long as it took here. */
export const leastTtl = ({ renewal }: Measured, driver: string): number | undefined => {
  if (renewal === undefined) return undefined
  const least = renewal.p99Ms * 6 * reserve / 1_000
  // etcd has no shorter leases.
  const shortest = driver === "etcd" ? 2 : 1
  return usual.find((seconds) => seconds >= least && seconds >= shortest) ?? Math.ceil(least)
}

const rounded = (value: number): number => Number(value.toPrecision(4))

const timesJson = ({ count, maxMs, p50Ms, p99Ms }: Times) => ({
  count,
  p50Ms: rounded(p50Ms),
  p99Ms: rounded(p99Ms),
  maxMs: rounded(maxMs)
})

const sectionsJson = (sections: Sections) => ({
  callers: sections.callers,
  perSecond: Math.round(sections.perSecond),
  ...timesJson(sections)
})

export const toJson = (measured: Measured, driver: string): unknown => {
  const { alone, handOver, renewal, together } = measured
  const ttl = leastTtl(measured, driver)
  return {
    driver,
    ...(alone !== undefined && { alone: sectionsJson(alone) }),
    ...(together !== undefined && { together: sectionsJson(together) }),
    ...(handOver !== undefined && { handOver: timesJson(handOver) }),
    ...(renewal !== undefined && { renewal: timesJson(renewal) }),
    ...(ttl !== undefined && { leastTtlMs: ttl * 1_000 })
  }
}

const timesText = (times: Times): string =>
  `${timeOf(times.p50Ms).padStart(8)}  ${timeOf(times.p99Ms).padStart(8)}  ${timeOf(times.maxMs).padStart(8)}`

const rateText = ({ perSecond }: Sections): string => `${Math.round(perSecond).toLocaleString("en")} a second`

export const toText = (measured: Measured, driver: string, style: Style): string => {
  const { alone, handOver, renewal, together } = measured
  const row = (name: string, times: Times | undefined, rate = "") =>
    times === undefined ? [] : [`${name.padEnd(44)}${timesText(times)}  ${rate}`.trimEnd()]
  const ttl = leastTtl(measured, driver)
  const lines = [
    style.dim(
      `${`${driver}, from this machine`.padEnd(44)}${"half".padStart(8)}  ${"99 %".padStart(8)}  ${
        "longest".padStart(8)
      }`
    ),
    ...row("a lock taken and released, 1 caller", alone, alone && rateText(alone)),
    ...row(`the same, ${together?.callers} callers, a lock each`, together, together && rateText(together)),
    ...row("hand-over to a waiter in another client", handOver),
    ...row("a renewal, at most, while the above ran", renewal),
    "",
    "The first two rows are what a section costs besides its work. The third is how long a lock lies idle while somebody waits."
  ]
  if (ttl !== undefined) {
    lines.push(
      `The fourth decides on the ttl: a renewal may take a sixth of it. With ten times the time that 99 % took, ` +
        style.bold(`a ttl of ${ttl} s or longer is safe here`) + `. The default is 30 s.`,
      "It is one moment of one machine: leave room for pauses of the network and of the programs."
    )
  }
  return lines.join("\n")
}
