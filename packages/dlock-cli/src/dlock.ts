#!/usr/bin/env node
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { run } from "./internal/main.ts"

// If nobody reads what `dlock` says of itself, its command goes on, and so does its exit code.
process.stderr.on("error", () => {})

// What is written to stdout is for the caller's programs. Warnings of the library are not.
const program = run(process.argv.slice(2)).pipe(
  Effect.provide(NodeServices.layer),
  Effect.provideService(Logger.LogToStderr, true)
)

NodeRuntime.runMain(program, { disableErrorReporting: true })
