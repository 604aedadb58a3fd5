// Runs one of the examples, and a server for it where the driver needs one:
//
//   npm run example -- task-election --driver redis
//
// Each of them is a program that finds its locks by DLOCK_DRIVER and that driver's address, and can be run by itself:
//
//   DLOCK_DRIVER=memory node examples/src/task-election.ts
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Config, Effect, Runtime, Schema } from "effect"
import { Argument, CliError, Command, Flag } from "effect/cli"
import { ChildProcess } from "effect/process"
import { drivers, environment } from "./servers.ts"

const examples = [
  "task-election",
  "background-service",
  "long-task",
  "stock-deduction",
  "concurrency-cap",
  "catalogue",
  "transfer",
  "typed-lock",
  "making-room",
  "fencing",
  "driver-by-config"
] as const

/** The example has said itself what went wrong. */
class Failed extends Schema.TaggedError<Failed>("examples/Failed")("Failed", { code: Schema.Int }) {
  override readonly [Runtime.errorReported] = false
  override get [Runtime.errorExitCode](): number {
    return this.code
  }
}

const run = Effect.fnUntraced(function*(name: typeof examples[number], driver: typeof drivers[number]) {
  const env = yield* environment(driver, "example")
  const child = yield* ChildProcess.make(process.execPath, [`${import.meta.dirname}/${name}.ts`], {
    env,
    extendEnv: true,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    forceKillAfter: "5 seconds"
  })
  const code = yield* child.exitCode
  if (code !== 0) return yield* new Failed({ code })
}, Effect.scoped)

const example = Command.make("example", {
  name: Argument.Literals("name", examples).pipe(Argument.withDescription(`One of ${examples.join(", ")}`)),
  driver: Flag.Literals("driver", drivers).pipe(
    Flag.withDescription("Where the locks are"),
    Flag.withFallbackConfig(Config.Literals(drivers, "DLOCK_DRIVER")),
    Flag.withDefault("memory")
  )
}, ({ driver, name }) =>
  run(name, driver).pipe(
    Effect.mapError((cause) => cause._tag === "Failed" ? cause : new CliError.UserError({ cause }))
  )).pipe(Command.withDescription("Runs an example."))

Command.run(example, { version: "0.0.0" }).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
