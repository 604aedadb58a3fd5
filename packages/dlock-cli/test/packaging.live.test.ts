// What is shipped besides the package: completions, the manual page, and the bundle in one file.
import { startEtcdCluster, startRedis } from "dlock-testing"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"
import { dlock, environment } from "./program.ts"

const run = promisify(execFile)
const root = Path.resolve(import.meta.dirname, "../../..")

test("the manual page is current, and asks roff for nothing unknown", async () => {
  await run(process.execPath, [Path.join(root, "scripts/man.ts"), "--check"])
  const page = Fs.readFileSync(Path.join(root, "packages/dlock-cli/man/dlock.1"), "utf8")
  const requests = Array.from(page.matchAll(/^[.'](\S*)/gm), ([, request]) => request!)
  const known = new Set(["\\\"", "TH", "SH", "SS", "TP", "PP", "RS", "RE", "nf", "fi"])
  expect(requests.filter((request) => !known.has(request))).toEqual([])
  expect(page).toContain("\\fB\\-\\-yes\\-two\\-may\\-run\\fR")
})

test("bash completes commands, flags and values", async () => {
  const { stdout: script } = await dlock({}, "--completions", "bash")
  const completed = async (...words: ReadonlyArray<string>) => {
    const lines = [
      script,
      `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")})`,
      `COMP_CWORD=${words.length - 1}`,
      `COMP_LINE='${words.join(" ")}'`,
      "COMP_POINT=${#COMP_LINE}",
      `_dlock dlock '${words.at(-1)}' '${words.at(-2)}'`,
      "printf '%s\\n' \"${COMPREPLY[@]}\""
    ]
    const { stdout } = await run("bash", ["--norc", "-c", lines.join("\n")])
    return stdout.trim().split("\n")
  }
  expect(await completed("dlock", "rev")).toEqual(["revoke"])
  expect(await completed("dlock", "revoke", "--")).toEqual(expect.arrayContaining(["--token", "--grace", "--why"]))
  expect(await completed("dlock", "--driver", "")).toEqual(["redis", "etcd", "memory"])
  expect(await completed("dlock", "epoch", "")).toEqual(expect.arrayContaining(["raise", "show"]))
})

test("the bundle runs alone in a folder, against Redis and etcd, and knows its version", async () => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-bundle-"))
  const file = Path.join(folder, "dlock.mjs")
  const [redis, etcd] = await Promise.all([startRedis(), startEtcdCluster(1)])
  const bundle = async (variables: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) => {
    const { stdout } = await run(process.execPath, [file, ...args], { env: environment(variables), cwd: folder })
    return stdout
  }
  try {
    await run(process.execPath, [Path.join(root, "scripts/bundle.ts"), file])
    expect(Fs.readdirSync(folder)).toEqual(["dlock.mjs"])
    const manifest: { readonly version: string } = JSON.parse(
      Fs.readFileSync(Path.join(root, "packages/dlock-cli/package.json"), "utf8")
    )
    expect(await bundle({}, "--version")).toBe(`${manifest.version}\n`)
    expect((await dlock({}, "--version")).stdout).toBe(`${manifest.version}\n`)
    const servers = [
      { DLOCK_REDIS_URL: `redis://127.0.0.1:${redis.port}` },
      { DLOCK_ETCD_HOSTS: etcd.servers[0]!.url }
    ]
    for (const variables of servers) {
      expect(JSON.parse(await bundle(variables, "bench", "--seconds", "1", "--json"))).toHaveProperty("alone")
      expect(JSON.parse(await bundle(variables, "inspect", "a", "--json"))).toMatchObject({ key: "a", holders: [] })
    }
  } finally {
    Fs.rmSync(folder, { recursive: true })
    await Promise.all([redis.stop(), etcd.stop()])
  }
})
