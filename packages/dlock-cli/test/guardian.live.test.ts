import { recordLag } from "dlock-testing"
import { Effect } from "effect"
import { Locker } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"
import * as Path from "node:path"
import { expect, test } from "vitest"
import { dlock, ended, groupOf, inside, isAlive, start, type Started, temporary, until } from "./support/dlock.ts"
import { read } from "./support/losses.ts"
import { useRedis } from "./support/redis.ts"

const { env, server } = useRedis()

const ttl = 1_200
const guard = 1_000

/** A command that ignores SIGTERM, with a child that does so too. */
const holding = async (key: string, ...options: ReadonlyArray<string>) => {
  const file = Path.join(temporary(), "inside")
  const command = [process.execPath, inside, file, "stubborn"]
  const times = ["--ttl", `${ttl}ms`, "--guard", `${guard}ms`]
  const started = dlock(env, "run", key, ...times, ...options, "--", ...command)
  const pids = await until("both are in", () => {
    const [seen] = read(file)
    return seen?.pids.size === 2 ? Array.from(seen.pids) : undefined
  })
  return { started, pids, file }
}

const areGone = (pids: ReadonlyArray<number>) => until("all are gone", () => !pids.some(isAlive))

const inMillis = async (wait: Promise<unknown>) => {
  const lag = recordLag()
  const from = performance.now()
  await wait
  lag.stop()
  return { took: performance.now() - from, lag: lag.max() }
}

test("a killed dlock: its command is asked at once and killed within the guard gap, with all that it started", async () => {
  const { pids, started } = await holding("killed")
  started.signal("SIGKILL")
  const { lag, took } = await inMillis(areGone(pids))
  expect(took).toBeGreaterThan(guard * 0.7)
  expect(took).toBeLessThan(guard + lag)
})

test("a killed dlock: a command that obeys ends at once", async () => {
  const started = dlock(env, "run", "obeys", "--", "sh", "-c", "echo $$; exec sleep 60")
  const pid = await until("it is in", () => Number(started.stdout()) || undefined)
  started.signal("SIGKILL")
  const { lag, took } = await inMillis(areGone([pid]))
  expect(took).toBeLessThan(500 + lag)
})

test("a stopped dlock: its command is killed before the next one gets the lock", async () => {
  const { file, pids, started } = await holding("stopped")
  const next = dlock(env, "run", "stopped", "--", "sh", "-c", `echo now; cat /proc/uptime`)
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  started.signal("SIGSTOP")
  const { lag, took } = await inMillis(areGone(pids))
  expect(took).toBeLessThan(ttl + guard + lag)
  expect(next.stdout()).toBe("")
  expect(await next.exited).toBe(0)
  expect(read(file)).toHaveLength(1)
  started.signal("SIGCONT")
  expect(await started.exited).toBe(76)
  expect(started.stderr()).toContain("Lost the lock")
})

test("a server that is away: TERM at the deadline, KILL within the guard gap, and 76", async () => {
  const { pids, started } = await holding("away")
  const obeying = dlock(
    env,
    "run",
    "away too",
    "--ttl",
    `${ttl}ms`,
    "--guard",
    `${guard}ms`,
    "-c",
    "trap 'echo asked; exit 0' TERM; echo in; while :; do sleep 0.02; done"
  )
  await until("it is in", () => obeying.stdout() === "in\n")
  server().signal("SIGSTOP")
  try {
    const { lag, took } = await inMillis(areGone(pids))
    expect(took).toBeGreaterThan(ttl * 0.5 + guard * 0.7)
    expect(took).toBeLessThan(ttl + guard + lag)
    expect(obeying.stdout()).toBe("in\nasked\n")
  } finally {
    server().signal("SIGCONT")
  }
  expect(await started.exited).toBe(76)
  expect(await obeying.exited).toBe(76)
})

test("a revoked lock: it says by whom, asks the command after the grace, and ends with 76", async () => {
  const script = "trap 'echo asked; exit 0' TERM; echo in; while :; do sleep 0.02; done"
  const started = dlock(env, "run", "revoked", "-c", script)
  await until("it is in", () => started.stdout() === "in\n")
  const revoke = Effect.gen(function*() {
    const { holders: [holder] } = yield* Locker.inspect("revoked")
    return yield* Locker.revoke("revoked", { token: holder!.token, grace: "500 millis", why: "maintenance" })
  })
  const from = performance.now()
  const answer = await Effect.runPromise(
    Effect.provide(revoke, RedisLocker.layer({ url: server().url, holder: "operator" }))
  )
  expect(performance.now() - from).toBeGreaterThan(450)
  expect(answer).toBe("released")
  expect(await started.exited).toBe(76)
  expect(started.stdout()).toBe("in\nasked\n")
  expect(started.stderr()).toContain("operator revokes the lock: maintenance")
})

test("--max-hold ends the command while the lock is held", async () => {
  const { code, stderr } = await ended(
    env,
    "run",
    "capped",
    "--max-hold",
    "300ms",
    "--guard",
    "500ms",
    "--",
    "sleep",
    "30"
  )
  expect(code).toBe(76)
  expect(stderr).toContain("MaxHold")
})

test("the guardian ends with the command, and leaves no process behind", async () => {
  const started = dlock(env, "run", "clean", "-c", "echo $$; read line")
  const group = await until("it is in", () => Number(started.stdout()) || undefined)
  expect(groupOf(group).length).toBeGreaterThanOrEqual(2)
  started.type("\n")
  expect(await started.exited).toBe(0)
  await until("nothing is left", () => groupOf(group).length === 0, 2_000)
})

test("a guardian that was killed is missed, and the command goes on", async () => {
  const started = dlock(env, "run", "unguarded", "-c", "echo $$; read line; exit 6")
  const group = await until("it is in", () => Number(started.stdout()) || undefined)
  for (const pid of groupOf(group)) if (pid !== group) process.kill(pid, "SIGKILL")
  await until("it says so", () => started.stderr().includes("the guardian of the command has been ended"))
  started.type("\n")
  expect(await started.exited).toBe(6)
})

test("a command that kills its own group, as scripts do at their end, ends alone", async () => {
  const started: Started = start([
    process.execPath,
    Path.resolve(import.meta.dirname, "../src/dlock.ts"),
    "run",
    "own",
    "-c",
    "kill -TERM 0; sleep 5"
  ], env)
  expect(await started.exited).toBe(143)
})
