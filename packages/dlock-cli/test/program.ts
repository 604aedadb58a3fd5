import { execFile } from "node:child_process"
import * as Path from "node:path"

export const program = Path.resolve(import.meta.dirname, "../src/dlock.ts")

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** The environment of a call: nothing of `dlock` from the outside, and no colours. */
export const environment = (variables: Readonly<Record<string, string>>): NodeJS.ProcessEnv => {
  const outside = Object.entries(process.env).filter(([name]) => !/^(DLOCK_|FORCE_COLOR$)/.test(name))
  return { ...Object.fromEntries(outside), NO_COLOR: "1", ...variables }
}

/** Runs the real program until it ends. */
export const dlock = (variables: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>): Promise<Ended> =>
  new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { env: environment(variables) }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code as number, stdout, stderr })
    })
  })

/** The lines of JSON that a call wrote. */
export const linesOf = ({ stdout }: Ended): ReadonlyArray<any> =>
  stdout.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line))
