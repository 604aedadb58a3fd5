// Torture: several processes, many fibers, real servers, and faults that are aimed at whoever holds a lock.
import { describe, flavour } from "dlock-testing"
import { type Backend, backends } from "./backends.ts"
import { campaign, type Result } from "./campaign.ts"
import { type Dimension, dimensionsOn } from "./dimensions.ts"
import { faultFree, type Quiet } from "./fault-free.ts"
import { type Flags, parse, usage } from "./flags.ts"
import { peers, variants } from "./subjects/index.ts"
import { tableOfCampaigns, tableOfQuiet, tableOfSubjects } from "./table.ts"
import { drawTimeline } from "./timeline.ts"

const say = (who: string) => (line: string) => console.log(`${who.padEnd(10)} ${line}`)

const torture = async (
  { backends: chosen, minutes, seed, subject, timeline, with: dimensions }: Flags
): Promise<boolean> => {
  const results: Array<Result> = []
  for (const backend of chosen) {
    const seconds = minutes * 60 / chosen.length
    const options = {
      backend,
      subject,
      with: dimensionsOn(backend, dimensions),
      seconds,
      seed,
      untilCaught: false,
      keepHistory: timeline !== undefined
    }
    const result = await campaign({ ...options, progress: say(backend) })
    results.push(result)
    if (timeline === undefined || result.history === undefined) continue
    drawTimeline(result.history, timeline, `${backends[backend]}, seed ${seed}: six seconds of a torture run`)
  }
  console.log(`\n${tableOfCampaigns(results)}`)
  return results.every(({ state, void: why }) => state.found === 0 && why === undefined)
}

/** Variants that show only with a dimension. */
const shownWith: Readonly<Record<string, Dimension>> = {
  "permits-asked-as-one": "shared",
  "larger-capacity-asked": "shared",
  "downgrade-gives-up-the-claim": "shared",
  "revocation-unheard": "revocations",
  "revoked-claim-believed": "revocations",
  "revoked-claim-given-up": "revocations",
  "leader-released-early": "leaders"
} satisfies Partial<Record<keyof typeof variants, Dimension>>

const known = async ({ seed }: Flags): Promise<boolean> => {
  const results: Array<Result & { readonly about: string; readonly kind: string }> = []
  for (const [kind, of] of [["variant", variants], ["peer", peers]] as const) {
    for (const [subject, about] of Object.entries(of)) {
      console.log(`${subject}: ${about}`)
      const options = {
        backend: "redis" as Backend,
        subject,
        with: new Set<Dimension>(shownWith[subject] === undefined ? [] : [shownWith[subject]]),
        seconds: 58,
        seed,
        untilCaught: true
      }
      results.push({ ...await campaign({ ...options, progress: say(subject) }), about, kind })
    }
  }
  console.log(`\n${tableOfSubjects(results)}`)
  return results.every(({ caughtAfter, kind }) => kind === "peer" || (caughtAfter !== undefined && caughtAfter < 60))
}

const quiet = async ({ backends, sections, seed }: Flags): Promise<boolean> => {
  const results: Array<Quiet> = []
  for (const backend of backends) {
    results.push(await faultFree(backend, Math.ceil(sections / backends.length), seed, say(backend)))
  }
  console.log(`\n${tableOfQuiet(results)}`)
  return results.every(({ flat, state }) => flat && state.found === 0)
}

/** Not by having nothing left to do: Node.js 24 may spin for ever over the remains of connections that were reset. */
const end = (code: number): void => void process.stdout.write("", () => process.exit(code))

const flags = parse(process.argv.slice(2))
if (typeof flags === "string") {
  console.error(`${flags}\n\n${usage}`)
  process.exitCode = 2
} else {
  console.log(`Servers: ${describe(flavour())}\n         ${describe("etcd")}`)
  console.log(`Seed ${flags.seed}; ${flags.backends.map((name) => backends[name]).join("; ")}`)
  const passed = await (flags.variants ? known(flags) : flags.faultFree ? quiet(flags) : torture(flags))
  end(passed ? 0 : 1)
}
