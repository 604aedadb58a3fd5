import { describe, it } from "@effect/vitest"
import { deathsAreFollowed, type Fleet, fleetOf, restartsHandOver, unhealthyStepsDown } from "dlock-testing/elections"
import { Effect, type Scope } from "effect"
import * as Path from "node:path"
import { server } from "./support.ts"

const restarts = Number(process.env.DLOCK_RESTARTS ?? 10)
const kills = Number(process.env.DLOCK_KILLS ?? 3)

/** Milliseconds. */
const ttl = 2000
const guardGap = 200

/** What three processes that stand for one leadership do. */
const withFleet = (test: (fleet: Fleet) => Effect.Effect<void, never, Scope.Scope>) => () =>
  Effect.gen(function*() {
    const { url } = yield* server()
    yield* test(yield* fleetOf(Path.join(import.meta.dirname, "programs/candidate.ts"), url, ttl))
  }).pipe(Effect.scoped)

describe("Leader", () => {
  it.live(
    "hands over at a rolling restart: never two programs, and hardly a moment without one",
    withFleet((fleet) => restartsHandOver(fleet, restarts)),
    30_000 + restarts * 5_000
  )

  it.live(
    "is followed by another one when its process dies",
    withFleet((fleet) => deathsAreFollowed(fleet, kills, guardGap)),
    30_000 + kills * 10_000
  )

  it.live(
    "steps down when its program hangs",
    withFleet((fleet) => unhealthyStepsDown(fleet, "hang", guardGap)),
    60_000
  )

  it.live(
    "lets its lock run out when its program hangs and ignores its interruption",
    withFleet((fleet) => unhealthyStepsDown(fleet, "wedge", guardGap)),
    60_000
  )
})
