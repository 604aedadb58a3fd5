import type { BackendName } from "./backendName.ts"
import { type Rule, rules } from "./checker.ts"
import { type Dimension, dimensions } from "./dimensions.ts"
import { type Variant, variants } from "./variants.ts"

export interface Flags {
  readonly seeds: number
  readonly from: number
  readonly seed: number | undefined
  readonly backends: ReadonlyArray<BackendName>
  readonly variant: Variant | undefined
  readonly variants: boolean
  readonly faults: ReadonlySet<string> | undefined
  readonly sections: ReadonlySet<number> | undefined
  readonly extra: ReadonlySet<Dimension>
  readonly rules: ReadonlySet<Rule> | undefined
  /** Only worlds that have this dimension. */
  readonly within: Dimension | undefined
}

export const usage = `Usage: npm run simulate -- [flags]

  --seeds N        how many seeds, half of them on each backend (20000)
  --from SEED      the first of them (1)
  --backend NAME   redis or etcd only
  --seed SEED      lives this one and prints all that happens in it
  --faults LIST    with --seed: only these of its faults (names with commas between them; "none" for none)
  --sections LIST  with --seed: only these of its sections
  --with LIST      also with these dimensions: ${dimensions.join(", ")}
  --in DIMENSION   only worlds that have this dimension: as many seeds as have it, out of those given
  --rules LIST     only these rules count (S1,S4)
  --variant NAME   a library that lacks a rule, which must be caught: ${variants.map(({ name }) => name).join(", ")}
  --variants       all of those, with how many seeds each took`

/** Reads the flags; the text is what is wrong with them. */
export const parse = (args: ReadonlyArray<string>): Flags | string => {
  const given = new Map<string, string>()
  for (let index = 0; index < args.length; index++) {
    const [name, own] = args[index]!.split(/=(.*)/s, 2) as [string, string | undefined]
    if (!/^--(seeds|from|seed|backend|variant|variants|faults|sections|with|in|rules)$/.test(name)) {
      return `There is no ${args[index]}`
    }
    if (given.has(name)) return `${name} is given twice`
    if (name === "--variants") {
      if (own !== undefined) return "--variants takes no value"
      given.set(name, "")
      continue
    }
    const value = own ?? args[++index]
    if (value === undefined) return `${name} needs a value`
    given.set(name, value)
  }
  let wrong: string | undefined
  const whole = (name: string, least: number): number | undefined => {
    const value = given.get(name)
    if (value === undefined) return undefined
    const number = Number(value)
    if (!/^\d+$/.test(value) || number < least || number > 4_000_000_000) {
      wrong ??= `${name} is not a number from ${least}`
    }
    return number
  }
  const list = (name: string): ReadonlyArray<string> | undefined => {
    const value = given.get(name)
    return value === undefined ? undefined : value === "none" ? [] : value.split(",")
  }
  const backend = given.get("--backend")
  if (backend !== undefined && backend !== "redis" && backend !== "etcd") return "--backend is redis or etcd"
  const name = given.get("--variant")
  const variant = variants.find((one) => one.name === name)
  if (name !== undefined && variant === undefined) return `There is no variant ${name}`
  const seed = whole("--seed", 0)
  const faults = list("--faults")
  const sections = list("--sections")
  if (seed === undefined && (faults ?? sections) !== undefined) return "--faults and --sections are for one --seed"
  const extra = (list("--with") ?? []) as ReadonlyArray<Dimension>
  const unknown = extra.find((one) => !dimensions.includes(one))
  if (unknown !== undefined) return `There is no dimension ${unknown}`
  const checkedRules = list("--rules") as ReadonlyArray<Rule> | undefined
  const noRule = checkedRules?.find((one) => !rules.includes(one))
  if (noRule !== undefined) return `There is no rule ${noRule}`
  const within = given.get("--in") as Dimension | undefined
  if (within !== undefined && !dimensions.includes(within)) return `There is no dimension ${within}`
  const flags: Flags = {
    within,
    seeds: whole("--seeds", 1) ?? 20_000,
    from: whole("--from", 0) ?? 1,
    seed,
    backends: backend === undefined ? ["redis", "etcd"] : [backend],
    variant,
    variants: given.has("--variants"),
    faults: faults && new Set(faults),
    sections: sections && new Set(sections.map(Number)),
    extra: new Set(extra),
    rules: checkedRules && new Set(checkedRules)
  }
  return wrong ?? flags
}
