import { describe, flavour } from "dlock-testing"
import { execFileSync } from "node:child_process"
import * as Os from "node:os"
import type { Backend } from "../contenders/index.ts"

/** What else the machine does: processes that want a processor, over the last minute. */
export const load = (): number => Os.loadavg()[0]!

/** Whether so much else goes on that figures are worse than they have to be. */
export const isBusy = (load: number): boolean => load > Os.cpus().length / 2

/** Which processor, without what its maker adds. */
export const processor = (): string =>
  (Os.cpus()[0]?.model ?? "unknown processor").replace(/\((R|TM|r|tm)\)/g, "").replace(/ (Processor|CPU)\b.*/, "")
    .trim()

/** Where it ran and on what, without paths. */
export const machine = (backends: ReadonlyArray<Backend>): ReadonlyArray<string> => {
  const cpus = Os.cpus()
  const gib = Math.round(Os.totalmem() / 2 ** 30)
  return [
    `${cpus.length} × ${cpus[0]?.model.trim() ?? "unknown processor"}, ${gib} GiB, ${Os.type()} ${
      /^[\d.]*\d/.exec(Os.release())?.[0]
    }`,
    `Node.js ${process.version.slice(1)}`,
    ...backends.map((backend) => describe(backend === "redis" ? flavour() : "etcd").replace(/: [^)]*\)/, ")"))
  ]
}

/** Which state of the code. */
export const revision = (): string => {
  try {
    const git = (...args: ReadonlyArray<string>) =>
      execFileSync("git", args, { cwd: import.meta.dirname, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
        .trim()
    const changed = git("status", "--porcelain", "--untracked-files=no", "--", "../../../packages") !== ""
    return `${git("rev-parse", "--short=10", "HEAD")}${changed ? ", with changes" : ""}`
  } catch {
    return "unknown"
  }
}
