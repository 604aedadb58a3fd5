import { describe, it } from "@effect/vitest"
import { fleetRunsOnce } from "dlock-testing/fleet"
import { Effect } from "effect"
import * as Path from "node:path"
import { server } from "./support.ts"

/** For how many times two seconds the fleet runs. */
const ticks = Number(process.env.DLOCK_TICKS ?? 8)

describe("Once", () => {
  it.live(
    "runs each job of a fleet once, though clocks differ, a process dies in a run and another one joins",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const program = Path.join(import.meta.dirname, "programs/jobber.ts")
        yield* fleetRunsOnce({ program, url, ticks, interval: 2_000 })
      }).pipe(Effect.scoped),
    ticks * 2_000 + 120_000
  )
})
