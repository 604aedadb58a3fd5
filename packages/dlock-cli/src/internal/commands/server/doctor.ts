import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { examine } from "../../doctor/examine.ts"
import * as Report from "../../doctor/report.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import { durationFlag } from "../../options/duration.ts"
import { write } from "../../output.ts"

export const doctor = Command.make(
  "doctor",
  {
    ttl: durationFlag("ttl").pipe(
      Flag.withDescription("The shortest ttl of your locks. Default: DLOCK_DEFAULT_TTL, or 30s"),
      Flag.optional
    ),
    for: durationFlag("for").pipe(
      Flag.withDescription("How long to watch clock, latency and leader"),
      Flag.withDefault(Duration.seconds(2))
    ),
    strict: Flag.Boolean("strict").pipe(
      Flag.withDescription("End with 1 for warnings too"),
      Flag.withDefault(false)
    )
  },
  ({ for: observation, strict, ttl }) =>
    Effect.gen(function*() {
      const report = yield* examine({ ttl, observation })
      yield* write(report, Report.toJson, Report.toText)
      const exitCode = Report.exitCodeOf(report, strict)
      // The report has said it all.
      if (exitCode !== exitCodes.ok) return yield* Effect.fail(new Failure({ message: "", exitCode }))
    })
).pipe(
  Command.withDescription(
    "Tell what is wrong with a server for locks. Ends with 0 if it is sound, 1 if not, 69 if it cannot be reached"
  ),
  Command.withExamples([
    { command: "dlock doctor", description: "Examine the server of DLOCK_REDIS_URL or DLOCK_ETCD_HOSTS" },
    { command: "dlock doctor --ttl 10s --strict", description: "Let a deployment fail on warnings too" },
    { command: "dlock doctor --for 1m --json", description: "Watch for a minute, and write JSON" }
  ])
)
