/** Runs `dlock doctor`, in this process or in one of its own. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { ConfigProvider, Console, Effect } from "effect"
import { run } from "effect-dlock-cli"
import type { Finding } from "effect-dlock/Diagnosis"
import { execFile } from "node:child_process"
import * as Path from "node:path"
import { expect } from "vitest"

export interface Told {
  readonly exitCode: number
  readonly unreachable?: string
  readonly findings: ReadonlyArray<Finding>
}

type Variables = Readonly<Record<string, string>>

/** Long enough for some dozens of round trips. */
const shortly = ["--for", "200ms"]

/** What the doctor says, without a new process: that would take longer than the examination. */
export const doctor = (env: Variables, ...args: ReadonlyArray<string>): Promise<Told> => {
  const lines: Array<string> = []
  const console: Console.Console = Object.assign(Object.create(globalThis.console), {
    log: (...words: ReadonlyArray<unknown>) => void lines.push(words.join(" ")),
    error: () => {}
  })
  return run(["doctor", "--json", ...(args.includes("--for") ? [] : shortly), ...args]).pipe(
    Effect.match({ onSuccess: () => 0, onFailure: ({ exitCode }) => exitCode }),
    Effect.map((exitCode) => ({ exitCode, ...JSON.parse(lines.join("")) as Omit<Told, "exitCode"> })),
    Effect.provide(NodeServices.layer),
    Effect.provideService(Console.Console, console),
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env })),
    Effect.runPromise
  )
}

export interface Ended {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** The same as a program. */
export const program = (env: Variables, ...args: ReadonlyArray<string>): Promise<Ended> =>
  new Promise((resolve) => {
    const file = Path.resolve(import.meta.dirname, "../src/dlock.ts")
    const child = execFile(process.execPath, [file, "doctor", ...args], {
      env: { PATH: process.env.PATH, ...env }
    }, (_, stdout, stderr) => resolve({ exitCode: child.exitCode!, stdout, stderr }))
  })

/** The names of what is worse than a note, each with its severity, in order. */
export const concerns = ({ findings }: Told): ReadonlyArray<string> =>
  Array.from(
    new Set(
      findings.filter(({ severity }) => severity === "error" || severity === "warning")
        .map(({ check, severity }) => `${severity} ${check}`)
    )
  ).sort()

/** What a check has found. Each that is not well has a reason and a cure. */
export const found = (told: Told, check: string): Finding => {
  for (const { fix, severity, why } of told.findings) {
    if (severity === "error" || severity === "warning") expect([why, fix]).not.toContain(undefined)
  }
  const finding = told.findings.find((one) => one.check === check && one.severity !== "ok") ??
    told.findings.find((one) => one.check === check)
  if (finding === undefined) throw new Error(`no ${check} in ${JSON.stringify(told)}`)
  return finding
}
