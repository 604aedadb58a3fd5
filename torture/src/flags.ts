import { type Backend, backends } from "./backends.ts"
import { type Dimension, dimensions, usual } from "./dimensions.ts"
import { subjects } from "./subjects/index.ts"

export interface Flags {
  readonly minutes: number
  readonly backends: ReadonlyArray<Backend>
  readonly subject: string
  readonly with: ReadonlyArray<Dimension>
  readonly variants: boolean
  readonly faultFree: boolean
  readonly sections: number
  readonly seed: number
  /** Where some seconds of the run are drawn, if anywhere. */
  readonly timeline: string | undefined
}

const everywhere = Object.keys(backends) as ReadonlyArray<Backend>

export const usage = `npm run torture -- [flags]

  --minutes N          for how long in all, shared among the backends (2)
  --backend NAMES      of ${everywhere.join(", ")}; several with commas, or the flag again (all)
  --subject NAME       what is tortured (ours), on one Redis also: ${subjects.slice(1).join(", ")}
  --with NAMES         dimensions, or all or none: ${Object.keys(dimensions).join(", ")} (all)
  --variants           everything that is known to be bad and every peer, at most a minute each
  --fault-free         no faults: sections as fast as may be, and the heap
  --sections N         how many of those in all (1000000)
  --timeline FILE      draws the busiest seconds of a run on one backend, as SVG
  --seed N             another order of things (1)`

/** What the flags say, or what is wrong with them. */
export const parse = (args: ReadonlyArray<string>): Flags | string => {
  let flags: Flags = {
    minutes: 2,
    backends: [],
    subject: "ours",
    with: usual,
    variants: false,
    faultFree: false,
    sections: 1e6,
    seed: 1,
    timeline: undefined
  }
  const words = args.flatMap((arg) =>
    /^--\w[\w-]*=/.test(arg) ? [arg.slice(0, arg.indexOf("=")), arg.slice(arg.indexOf("=") + 1)] : [arg]
  )
  const isWithGiven = words.includes("--with")
  while (words.length > 0) {
    const flag = words.shift()!
    if (flag === "--variants") flags = { ...flags, variants: true }
    else if (flag === "--fault-free") flags = { ...flags, faultFree: true }
    else if (["--minutes", "--backend", "--subject", "--with", "--sections", "--seed", "--timeline"].includes(flag)) {
      const value = words.shift()
      if (value === undefined || value === "") return `${flag} needs a value`
      const changed = withValue(flags, flag, value)
      if (typeof changed === "string") return changed
      flags = changed
    } else return `there is no ${flag}`
  }
  // A variant is looked for where it shows.
  if (!isWithGiven && flags.subject !== "ours") flags = { ...flags, with: [] }
  if (flags.variants && (flags.faultFree || flags.subject !== "ours")) return "--variants stands alone"
  const onRedisOnly = flags.variants || flags.subject !== "ours"
  if (onRedisOnly && flags.backends.some((backend) => backend !== "redis")) {
    return "variants and peers are tortured on redis only"
  }
  if (flags.timeline !== undefined && (flags.variants || flags.faultFree)) return "--timeline draws faults of one run"
  if (flags.timeline !== undefined && flags.backends.length !== 1 && !onRedisOnly) return "--timeline is of one backend"
  if (flags.backends.length > 0) return flags
  return { ...flags, backends: onRedisOnly ? ["redis"] : everywhere }
}

const withValue = (flags: Flags, flag: string, value: string): Flags | string => {
  const number = Number(value)
  switch (flag) {
    case "--minutes":
      return number > 0 && number <= 10_000 ? { ...flags, minutes: number } : "--minutes is a number above 0"
    case "--sections":
      return Number.isSafeInteger(number) && number > 0
        ? { ...flags, sections: number }
        : "--sections is a whole number"
    case "--seed":
      return Number.isSafeInteger(number) && number >= 0 ? { ...flags, seed: number } : "--seed is a whole number"
    case "--timeline":
      return { ...flags, timeline: value }
    case "--with": {
      const names = value === "none" ? [] : value === "all" ? Object.keys(dimensions) : value.split(",")
      const wrong = names.find((name) => !Object.hasOwn(dimensions, name))
      return wrong === undefined ? { ...flags, with: names as Array<Dimension> } : `there is no dimension ${wrong}`
    }
    case "--subject":
      return subjects.includes(value) ? { ...flags, subject: value } : `there is no subject ${value}`
    default: {
      const names = value.split(",").map((name) => name.trim())
      const wrong = names.find((name) => !Object.hasOwn(backends, name))
      if (wrong !== undefined) return `there is no backend ${wrong}`
      return { ...flags, backends: [...new Set([...flags.backends, ...names as Array<Backend>])] }
    }
  }
}
