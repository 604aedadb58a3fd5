// The simulation from the command line: many seeds, or one of them in full, or the variants that must be caught.
import type { BackendName } from "./backendName.ts"
import { campaign } from "./campaign.ts"
import type { Rule } from "./checker.ts"
import { type Flags, parse, usage } from "./flags.ts"
import { search } from "./search.ts"
import { shrink } from "./shrink.ts"
import * as Tally from "./tally.ts"
import { runsOn, type Variant, variants } from "./variants.ts"
import { run } from "./world.ts"

const say = (line: string): void => console.log(line)

/** The smallest part of a seed that breaks the promise, and how to see it again. */
const explain = ({ extra, rules }: Flags, backend: BackendName, seed: number, variant?: Variant): void => {
  const settings = { backend, seed, variant, extra, rules }
  const { violation } = run(settings)
  const { faults, runs, sections } = shrink(settings)
  const small = run({ ...settings, only: new Set(faults), sections: new Set(sections) })
  say(`\n${backend}, seed ${seed}: ${violation?.rule}, ${violation?.what}`)
  say(`  in small, after ${runs} runs: ${small.violation?.what} at ${(small.violation?.at ?? 0) / 1_000} ms`)
  for (const { kind, name } of small.injected) say(`    ${name.padEnd(7)} ${kind}`)
  const named = [
    variant && `--variant ${variant.name}`,
    extra.size > 0 && `--with ${Array.from(extra).join(",")}`,
    rules && `--rules ${Array.from(rules).join(",")}`
  ].filter((flag) => typeof flag === "string").map((flag) => ` ${flag}`).join("")
  const only = `--faults ${faults.join(",") || "none"} --sections ${sections.join(",")}`
  say(`  again: npm run simulate -- --backend ${backend} --seed ${seed}${named} ${only}`)
}

const one = ({ backends, extra, faults, rules, sections, variant }: Flags, seed: number): number => {
  let broken = 0
  for (const backend of backends) {
    const result = run({ backend, seed, variant, extra, rules, only: faults, sections, recorded: true })
    say(`${backend}, seed ${seed}`)
    for (const line of result.lines) say(line)
    say(`${result.events} events, hash ${result.hash.toString(16)}`)
    if (result.violation === undefined) continue
    broken++
    const { at, rule, what } = result.violation
    say(`${rule} at ${at / 1_000} ms: ${what}`)
  }
  return broken
}

const many = async (flags: Flags): Promise<boolean> => {
  const { backends, extra, from, rules, seeds, within } = flags
  let good = true
  for (const backend of backends) {
    const started = performance.now()
    const tally = await campaign({ backend, extra, rules, within }, from, Math.ceil(seeds / backends.length), say)
    const seconds = ((performance.now() - started) / 1_000).toFixed(1)
    say(`\n${Tally.table(`${backend}: ${seconds} s`, tally)}`)
    if (tally.broken.length > 0) say(`  the first after ${tally.broken[0]! - from + 1} seeds`)
    for (const seed of tally.broken.slice(0, 3)) explain(flags, backend, seed)
    const reason = within === undefined ? Tally.voidBecause(backend, tally, extra) : undefined
    if (reason !== undefined) say(`  void: ${reason}, so it proves nothing`)
    good &&= tally.broken.length === 0 && reason === undefined
  }
  return good
}

/** For those that are found out by what they believe: how long until somebody else was let in. */
const exclusion: ReadonlySet<Rule> = new Set(["S1"])

const caught = (flags: Flags, list: ReadonlyArray<Variant>): boolean => {
  let good = true
  say("variant                            backend  caught by  seeds    seconds  seeds until two were in")
  for (const variant of list) {
    for (const backend of flags.backends) {
      if (!runsOn(backend)(variant)) continue
      const { extra, from, rules, seeds } = flags
      const { rule, seconds, seeds: needed } = search(variant, backend, { from, seeds, seconds: 60 }, rules, extra)
      const two = rule === undefined
        ? undefined
        : search(variant, backend, { from, seeds: 2_000, seconds: 20 }, exclusion, extra)
      good &&= rule !== undefined
      const cells = [
        variant.name.padEnd(34),
        backend.padEnd(8),
        (rule ?? "NOT").padEnd(10),
        String(needed).padEnd(8),
        seconds.toFixed(1).padEnd(8),
        two?.rule === undefined ? "-" : String(two.seeds)
      ]
      say(cells.join(" "))
    }
  }
  return good
}

const flags = parse(process.argv.slice(2))
if (typeof flags === "string") {
  console.error(`${flags}\n\n${usage}`)
  process.exitCode = 2
} else if (flags.seed !== undefined) {
  const broken = one(flags, flags.seed)
  process.exitCode = (flags.variant === undefined) === (broken === 0) ? 0 : 1
} else if (flags.variants) {
  process.exitCode = caught(flags, variants) ? 0 : 1
} else if (flags.variant !== undefined) {
  const { variant } = flags
  const good = caught(flags, [variant])
  for (const backend of flags.backends) {
    if (!runsOn(backend)(variant)) continue
    const limits = { from: flags.from, seeds: flags.seeds, seconds: 60 }
    const { rule, seed } = search(variant, backend, limits, flags.rules, flags.extra)
    if (rule !== undefined) explain(flags, backend, seed, variant)
  }
  process.exitCode = good ? 0 : 1
} else {
  process.exitCode = await many(flags) ? 0 : 1
}
