import { Effect, Option } from "effect"
import { now } from "./events.ts"
import type { FaultWindows } from "./faultWindows.ts"
import type { Random } from "./random.ts"
import type { ResourceClient } from "./resourceClient.ts"
import type { Subject } from "./subjects/subject.ts"

/** From when a run of a job counts. */
export type Counts = "start" | "success"

/** One job for each way to count. */
export const jobKeys: ReadonlyArray<readonly [key: string, counts: Counts]> = [["job-start", "start"], [
  "job-success",
  "success"
]]

/** Milliseconds of a slot. All workers present the same one. */
const period = 400

/** Runs a job once a slot, together with all other workers. Some of the runs fail. */
export const job = (
  subject: Subject,
  client: ResourceClient,
  random: Random,
  [key, counts]: typeof jobKeys[number],
  ttl: number,
  stopped: () => boolean
): Effect.Effect<void> => {
  const attempt = Effect.suspend(() => {
    const slot = Math.floor(now() / period)
    const tell = (what: "began" | "counted") => Effect.sync(() => client.tell({ t: "job", key, slot, what, at: now() }))
    const run = Effect.gen(function*() {
      yield* tell("began")
      if (counts === "start") yield* tell("counted")
      yield* Effect.sleep(random.between(0, 60))
      if (random.chance(0.2)) return yield* Effect.fail("on purpose")
    })
    const ran = subject.once?.({ key, slot: BigInt(slot), counts, ttl }, run) ?? Effect.succeedNone
    return Effect.flatMap(
      Effect.option(ran),
      (result) => counts === "success" && Option.isSome(Option.flatten(result)) ? tell("counted") : Effect.void
    )
  })
  return Effect.repeat(
    Effect.suspend(() =>
      stopped() ? Effect.succeed(true) : Effect.as(Effect.delay(attempt, random.between(20, 200)), false)
    ),
    { until: (over) => over }
  )
}

interface Event {
  readonly slot: number
  readonly what: "began" | "counted"
  readonly at: number
}

/** Finds runs that began after a run for their slot, or a later one, counted. */
export class JobHistories {
  private readonly byKey = new Map<string, Array<Event>>()
  private readonly faultWindows: FaultWindows

  constructor(faultWindows: FaultWindows) {
    this.faultWindows = faultWindows
  }

  /** Takes the next event, and says what is wrong. */
  add(key: string, event: Event): string | undefined {
    const events = this.byKey.get(key) ?? []
    this.byKey.set(key, events)
    const isRepeated = (began: Event, counted: Event): boolean =>
      began.what === "began" && counted.what === "counted" && began.at > counted.at && began.slot <= counted.slot &&
      this.faultWindows.findDataLoss(key, counted.at - longestSection, began.at) === undefined
    const found = events.find((other) => isRepeated(event, other) || isRepeated(other, event))
    events.push(event)
    if (events.length > mostKept) events.shift()
    return found && `${key}: a run for slot ${Math.min(event.slot, found.slot)} began after one counted`
  }
}

/** Milliseconds before the report that a run counts, in which its record may have been written. */
const longestSection = 5_000

/** More than the events that reports of other workers can overtake. */
const mostKept = 200
