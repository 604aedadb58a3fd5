// Runs every live test of the Redis store against each server that it is meant for, on both lines of its client, those of
// the etcd store against each etcd, and closes with one table. `npm run matrix -- valkey` runs those whose name has the word.
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Outcome, runTests } from "./run.ts"

const root = Path.resolve(import.meta.dirname, "..")

/** The releases of Debian that bring them. */
const servers = [
  { name: "Redis 7.0", release: "bookworm", program: "redis-server" },
  { name: "Redis 8.0", release: "trixie", program: "redis-server" },
  { name: "Valkey 8.1", release: "trixie", program: "valkey-server" },
  { name: "Valkey 9", release: "forky", program: "valkey-server" },
  { name: "Redis 8", release: "forky", program: "redis-server" },
  { name: "etcd 3.4", release: "bookworm", program: "etcd" },
  { name: "etcd 3.5", release: "trixie", program: "etcd" },
  { name: "etcd 3.5, the newest", release: "forky", program: "etcd" }
] as const

const word = (process.argv[2] ?? "").toLowerCase()
const chosen = servers.filter(({ name, release }) => `${name} ${release}`.toLowerCase().includes(word))
if (chosen.length === 0) throw new Error(`No server is called ${word}: ${servers.map(({ name }) => name).join(", ")}`)

const versionOf = (release: string, program: string): string => {
  execFileSync("sh", [Path.join(root, "scripts/servers.sh"), release], { stdio: ["ignore", 2, 2] })
  const text = execFileSync(Path.join(root, ".cache/servers", release, "bin", program), ["--version"], {
    encoding: "utf8"
  })
  return /(?:v=|Version: )(\S+)/.exec(text)?.[1] ?? text.trim()
}

const clientsOf = (name: string, folders: ReadonlyArray<string>): string => {
  const versions = folders.map((folder) => {
    const file = Path.join(root, folder, "package.json")
    return JSON.parse(Fs.readFileSync(file, "utf8")).version as string
  })
  return `${name} ${versions.join(", ")}`
}

const redis = {
  args: ["packages/dlock-redis/test/", "--exclude", "**/Model*.test.ts"],
  client: clientsOf(
    "ioredis",
    ["ioredis", "ioredis-5"].map((name) => `packages/dlock-redis/node_modules/${name}`)
  )
}
const etcd = {
  args: ["packages/dlock-etcd/test/"],
  client: clientsOf("etcd3", ["packages/dlock-etcd/node_modules/etcd3"])
}

const rows: Array<
  { readonly server: string; readonly client: string; readonly outcome: Outcome; readonly seconds: number }
> = []
for (const { name, program, release } of chosen) {
  const server = `${name.split(" ")[0]} ${versionOf(release, program)} (${release})`
  const { args, client } = program === "etcd" ? etcd : redis
  console.log(`${server}, ${client} …`)
  const startedAt = performance.now()
  const outcome = await runTests(args, {
    env: { DLOCK_SERVERS: release, ...(program !== "etcd" && { DLOCK_FLAVOUR: program, DLOCK_LINES: "all" }) },
    quiet: true
  })
  const seconds = Math.round((performance.now() - startedAt) / 1_000)
  console.log(`  ${outcome.passed} passed, ${outcome.failed} failed, ${seconds} s`)
  for (const failure of outcome.failures) console.log(`  failed: ${failure}`)
  if (outcome.failures.length < outcome.failed) console.log(outcome.output.split("\n").slice(-80).join("\n"))
  rows.push({ server, client, outcome, seconds })
}

const cells = [
  ["server", "client", "passed", "failed", "skipped", "seconds"],
  ...rows.map(({ client, outcome: { failed, passed, skipped }, seconds, server }) => [
    server,
    client,
    passed,
    failed,
    skipped,
    seconds
  ])
].map((row) => row.map(String))
const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)))
const lines = cells.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`)
lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`)
console.log(`\n${lines.join("\n")}`)
const total = (count: (outcome: Outcome) => number) => rows.reduce((sum, { outcome }) => sum + count(outcome), 0)
console.log(`\n${total(({ passed }) => passed)} passed, ${total(({ failed }) => failed)} failed`)
process.exitCode = rows.some(({ outcome }) => outcome.code !== 0) ? 1 : 0
