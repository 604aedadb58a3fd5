import { freePorts } from "dlock-testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, test } from "vitest"
import { dlock, ended, temporary, until } from "./support/dlock.ts"
import { useRedis } from "./support/redis.ts"

const { env } = useRedis()

test("the exit code is that of the command, and 128 + n for a signal", async () => {
  expect((await ended(env, "run", "codes", "--", "sh", "-c", "exit 3")).code).toBe(3)
  expect((await ended(env, "run", "codes", "--", "sh", "-c", "kill -KILL $$")).code).toBe(137)
  expect((await ended(env, "run", "codes", "-c", "exit 0")).code).toBe(0)
})

test("a command that cannot be run is found before the lock is asked for", async () => {
  const away = { DLOCK_REDIS_URL: "redis://127.0.0.1:1" }
  const file = Path.join(temporary(), "file")
  Fs.writeFileSync(file, "", { mode: 0o644 })
  const [missing, plain, none] = await Promise.all([
    ended(away, "run", "a", "--", "no-such-program"),
    ended(away, "run", "a", "--", file),
    ended(away, "run", "a")
  ])
  expect([missing.code, plain.code, none.code]).toEqual([127, 126, 64])
  expect(missing.stderr).toContain("no-such-program was not found on the PATH")
})

test("the command learns of its locks, and nothing of the secrets", async () => {
  const secret = {
    ...env,
    DLOCK_ETCD_PASSWORD: "hidden",
    DLOCK_ETCD_HOSTS: "http://user:hidden@127.0.0.1:1",
    DLOCK_DRIVER: "redis",
    "odd%%name": "kept"
  }
  const { stdout } = await ended(secret, "run", "told", "--", "env")
  expect(stdout).toMatch(/^DLOCK_KEY=told$/m)
  expect(stdout).toMatch(/^DLOCK_FENCING_TOKEN=\d+$/m)
  expect(stdout).toMatch(/^DLOCK_HOLDER=.+:\d+$/m)
  expect(stdout).toMatch(/^odd%%name=kept$/m)
  expect(stdout).not.toContain("hidden")
  const several = await ended(env, "run", "b", "a", "--", "sh", "-c", "echo \"$DLOCK_KEY/$DLOCK_FENCING_TOKEN\"")
  expect(several.stdout).toMatch(/^b\na\/\d+\n\d+\n$/)
  const outer = { ...env, DLOCK_FENCING_TOKEN: "1" }
  expect((await ended(outer, "run", "-s", "read", "--", "env")).stdout).not.toContain("DLOCK_FENCING_TOKEN")
})

test("standard input reaches the command, and its output nothing else", async () => {
  const started = dlock(env, "run", "pipe", "--", "sh", "-c", "read a b; echo \"$b $a\"")
  started.type("one two\n")
  expect(await started.exited).toBe(0)
  expect(started.stdout()).toBe("two one\n")
})

test("who has the lock is named, with 75 or the code of -E", async () => {
  const holder = dlock(env, "run", "busy", "--metadata", "job=night\u001b[31mly", "--", "sh", "-c", "echo in; sleep 30")
  await until("it is held", () => holder.stdout() === "in\n")
  const [tried, waited, coded, json] = await Promise.all([
    ended(env, "run", "-n", "busy", "--", "true"),
    ended(env, "run", "-w", "200ms", "busy", "--", "true"),
    ended(env, "run", "-n", "-E", "9", "busy", "--", "true"),
    ended(env, "run", "-n", "--json", "busy", "--", "true")
  ])
  expect([tried.code, waited.code, coded.code, json.code]).toEqual([75, 75, 9, 75])
  expect(tried.stderr).toMatch(new RegExp(`busy is held by .*:${holder.pid} \\(job=night\\\\u.*since \\d{4}-`))
  expect(tried.stderr).not.toContain("\u001b")
  expect(waited.stderr).toMatch(/gave up after 0\.\d s: busy is held by/)
  const line = json.stderr.split("\n").find((text) => text.startsWith("{\"outcome"))!
  expect(JSON.parse(line)).toMatchObject({ outcome: "busy", exitCode: 75, lock: { key: "busy" } })
})

test("readers are in together, and a writer is alone; a semaphore has so many places", async () => {
  const reader = dlock(env, "run", "-s", "book", "--", "sh", "-c", "echo in; sleep 30")
  const one = dlock(env, "run", "--of", "2", "api", "--", "sh", "-c", "echo in; sleep 30")
  await until("both are held", () => reader.stdout() === "in\n" && one.stdout() === "in\n")
  const codes = await Promise.all([
    ended(env, "run", "-n", "-s", "book", "--", "true"),
    ended(env, "run", "-n", "-x", "book", "--", "true"),
    ended(env, "run", "-n", "--of", "2", "api", "--", "true"),
    ended(env, "run", "-n", "--permits", "2", "--of", "2", "api", "--", "true"),
    ended(env, "run", "-n", "--permits", "2", "api", "--", "true")
  ])
  expect(codes.map(({ code }) => code)).toEqual([0, 75, 0, 75, 64])
})

test("a backend that is away is 69, and nothing runs", async () => {
  const [port] = await freePorts(1)
  const { code, stderr, stdout } = await ended(
    { DLOCK_REDIS_URL: `redis://127.0.0.1:${port}`, DLOCK_CONNECT_TIMEOUT: "500 millis" },
    "run",
    "a",
    "--",
    "echo",
    "ran"
  )
  expect(code).toBe(69)
  expect(stderr).toContain("ECONNREFUSED")
  expect(stdout).toBe("")
})
