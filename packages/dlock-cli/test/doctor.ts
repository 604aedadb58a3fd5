/** Runs `dlock doctor`, in this process or in one of its own. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { ConfigProvider, Console, Effect, Sink, Stdio } from "effect"
import { run } from "effect-dlock-cli"
import type { Finding } from "effect-dlock/Diagnosis"
import { execFile } from "node:child_process"
import * as Path from "node:path"
import { expect } from "vitest"

type Variables = Readonly<Record<string, string>>

/** A machine that is busy with other tests makes answers late. With this a server may take seconds. */
export const calm: Variables = { DLOCK_OPERATION_TIMEOUT: "10 seconds" }

export interface Told {
  readonly exitCode: number
  readonly unreachable?: string
  readonly findings: ReadonlyArray<Finding>
}

/** Long enough for some dozens of round trips. */
const shortly = ["--for", "200ms"]

/** Runs the command without a new process: that would take longer than the examination. */
export const inProcess = async (env: Variables, ...args: ReadonlyArray<string>): Promise<Ended> => {
  const [out, err]: [Array<string>, Array<string>] = [[], []]
  const console: Console.Console = Object.assign(Object.create(globalThis.console), {
    log: (...words: ReadonlyArray<unknown>) => void out.push(words.join(" ")),
    error: (...words: ReadonlyArray<unknown>) => void err.push(words.join(" "))
  })
  const stdout = () =>
    Sink.forEach((text: string | Uint8Array) => Effect.sync(() => void out.push(String(text).trimEnd())))
  const exitCode = await run(["doctor", ...(args.includes("--for") ? [] : shortly), ...args]).pipe(
    Effect.match({ onSuccess: () => 0, onFailure: ({ exitCode }) => exitCode }),
    Effect.provide(Stdio.layerTest({ stdout })),
    Effect.provide(NodeServices.layer),
    Effect.provideService(Console.Console, console),
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env: { ...calm, ...env } })),
    Effect.runPromise
  )
  return { exitCode, stdout: out.join("\n"), stderr: err.join("\n") }
}

/** What the doctor says. */
export const doctor = async (env: Variables, ...args: ReadonlyArray<string>): Promise<Told> => {
  const { exitCode, stdout } = await inProcess(env, "--json", ...args)
  return { exitCode, ...JSON.parse(stdout) as Omit<Told, "exitCode"> }
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
      env: { PATH: process.env.PATH, ...calm, ...env }
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

/** Runs something again and again until a promise is settled, and at least once. */
export const meanwhile = async <A>(awaited: Promise<A>, again: (turn: number) => Promise<unknown>): Promise<A> => {
  let isSettled = false
  const settled = awaited.finally(() => {
    isSettled = true
  })
  for (let turn = 1; !isSettled; turn++) await again(turn)
  return settled
}

/** The p50 that a latency names. */
export const p50Of = ({ seen }: Finding): number => Number(/p50 ([\d.]+) ms/.exec(seen)![1])

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
