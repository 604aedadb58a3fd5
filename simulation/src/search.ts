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
  /** Absent where it got away. */
  readonly rule: Rule | undefined
}

/** Lives seeds, with a variant or with what ships, until one of them catches it. */
export const search = (
  variant: Variant | undefined,
  backend: BackendName,
  limits: { readonly from: number; readonly seeds: number; readonly seconds: number },
  rules?: ReadonlySet<Rule>,
  extra?: ReadonlySet<Dimension>
): Caught => {
  const started = performance.now()
  const passed = () => (performance.now() - started) / 1_000
  const from = Math.max(limits.from, variant?.from ?? 0)
  let seeds = 0
  while (seeds < limits.seeds && passed() < limits.seconds) {
    const { violation } = run({ backend, seed: from + seeds++, variant, rules, extra })
    if (violation !== undefined) return { seeds, seconds: passed(), seed: from + seeds - 1, rule: violation.rule }
  }
  return { seeds, seconds: passed(), seed: from + seeds - 1, rule: undefined }
}
