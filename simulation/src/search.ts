import type { BackendName } from "./backendName.ts"
import type { Rule } from "./checker.ts"
import type { Dimension } from "./dimensions.ts"
import type { Variant } from "./variants.ts"
import { run } from "./world.ts"

/** How a variant was caught. */
export interface Caught {
  readonly seeds: number
  readonly seconds: number
  /** The last of them. */
  readonly seed: number
  /** Undefined if it was not caught. */
  readonly rule: Rule | undefined
}

/** Runs seeds, with a variant or with the library as it ships, until one finds a violation. */
export const search = (
  variant: Variant | undefined,
  backend: BackendName,
  limits: { readonly from: number; readonly seeds: number; readonly seconds: number },
  rules?: ReadonlySet<Rule>,
  extra?: ReadonlySet<Dimension>
): Caught => {
  const started = performance.now()
  const passed = () => (performance.now() - started) / 1_000
  const first = variant?.from ?? 0
  const from = Math.max(limits.from, typeof first === "number" ? first : first[backend] ?? 0)
  let seeds = 0
  while (seeds < limits.seeds && passed() < limits.seconds) {
    const { violation } = run({ backend, seed: from + seeds++, variant, rules, extra })
    if (violation !== undefined) return { seeds, seconds: passed(), seed: from + seeds - 1, rule: violation.rule }
  }
  return { seeds, seconds: passed(), seed: from + seeds - 1, rule: undefined }
}
