// Runs every live test of the Redis store against each server that it is meant for, on both lines of its client, and
// closes with one table. `npm run matrix -- valkey` runs those whose name has the word.
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Outcome, runTests } from "./run.ts"

const root = Path.resolve(import.meta.dirname, "..")

/** The releases of Debian that bring them. */
const servers = [
  { name: "Redis 7.0", release: "bookworm", flavour: "redis-server" },
  { name: "Redis 8.0", release: "trixie", flavour: "redis-server" },
  { name: "Valkey 8.1", release: "trixie", flavour: "valkey-server" },
  { name: "Valkey 9", release: "forky", flavour: "valkey-server" },
  { name: "Redis 8", release: "forky", flavour: "redis-server" }
] as const

const word = (process.argv[2] ?? "").toLowerCase()
const chosen = servers.filter(({ name, release }) => `${name} ${release}`.toLowerCase().includes(word))
if (chosen.length === 0) throw new Error(`No server is called ${word}: ${servers.map(({ name }) => name).join(", ")}`)

const versionOf = (release: string, flavour: string): string => {
  execFileSync("sh", [Path.join(root, "scripts/servers.sh"), release], { stdio: ["ignore", 2, 2] })
  const text = execFileSync(Path.join(root, ".cache/servers", release, "bin", flavour), ["--version"], {
    encoding: "utf8"
  })
  return /v=(\S+)/.exec(text)?.[1] ?? text.trim()
}

const clients = ["ioredis", "ioredis-5"]
  .map((name) => {
    const file = Path.join(root, "packages/dlock-redis/node_modules", name, "package.json")
    return JSON.parse(Fs.readFileSync(file, "utf8")).version as string
  })
  .join(", ")

const rows: Array<{ readonly server: string; readonly outcome: Outcome; readonly seconds: number }> = []
for (const { flavour, name, release } of chosen) {
  const server = `${name.split(" ")[0]} ${versionOf(release, flavour)} (${release})`
  console.log(`${server}, ioredis ${clients} …`)
  const startedAt = performance.now()
  const outcome = await runTests(["packages/dlock-redis/test/", "--exclude", "**/Model.test.ts"], {
    env: { DLOCK_SERVERS: release, DLOCK_FLAVOUR: flavour, DLOCK_LINES: "all" },
    quiet: true
  })
  const seconds = Math.round((performance.now() - startedAt) / 1_000)
  console.log(`  ${outcome.passed} passed, ${outcome.failed} failed, ${seconds} s`)
  for (const failure of outcome.failures) console.log(`  failed: ${failure}`)
  if (outcome.failures.length < outcome.failed) console.log(outcome.output.split("\n").slice(-80).join("\n"))
  rows.push({ server, outcome, seconds })
}

const cells = [
  ["server", "ioredis", "passed", "failed", "seconds"],
  ...rows.map(({ outcome: { failed, passed }, seconds, server }) => [server, clients, passed, failed, seconds])
].map((row) => row.map(String))
const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)))
const lines = cells.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`)
lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`)
console.log(`\n${lines.join("\n")}`)
const total = (count: (outcome: Outcome) => number) => rows.reduce((sum, { outcome }) => sum + count(outcome), 0)
console.log(`\n${total(({ passed }) => passed)} passed, ${total(({ failed }) => failed)} failed`)
process.exitCode = rows.some(({ outcome }) => outcome.code !== 0) ? 1 : 0
