import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, test } from "vitest"
import { dlock, ended, temporary, until } from "./support/dlock.ts"
import { useRedis } from "./support/redis.ts"

const { env } = useRedis()

/** Says which signals it got. After a SIGTERM it ends when it reads a line. */
const listening = `
for s in HUP INT QUIT USR1 USR2; do trap "echo got $s" $s; done
trap "echo got TERM; read line; echo done; exit 5" TERM
echo in
while :; do sleep 0.02; done
`

test("signals are passed on to the whole group, and the lock is kept until it has ended", async () => {
  const started = dlock(env, "run", "signals", "--", "sh", "-c", listening)
  await until("it is in", () => started.stdout() === "in\n")
  for (const signal of ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM"] as const) {
    started.signal(`SIG${signal}`)
    await until(`it got ${signal}`, () => started.stdout().includes(`got ${signal}\n`))
  }
  // It has been asked to end and has not ended.
  expect((await ended(env, "run", "-n", "signals", "--", "true")).code).toBe(75)
  started.type("\n")
  expect(await started.exited).toBe(5)
  expect(started.stdout()).toContain("done")
  expect((await ended(env, "run", "-n", "signals", "--", "true")).code).toBe(0)
})

test("the lock is kept for a grandchild that outlives the command", async () => {
  const file = Path.join(temporary(), "over")
  const started = dlock(
    env,
    "run",
    "group",
    "--",
    "sh",
    "-c",
    `(sleep 1; echo over > ${file}) >/dev/null 2>&1 & exit 4`
  )
  expect(await started.exited).toBe(4)
  expect(Fs.readFileSync(file, "utf8")).toBe("over\n")
})

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s while it waits: it leaves at once, without a claim",
  async (signal) => {
    const key = `waiting ${signal}`
    const holder = dlock(env, "run", key, "--", "sh", "-c", "echo in; sleep 30")
    await until("it is held", () => holder.stdout() === "in\n")
    const waiter = dlock(env, "run", key, "--", "echo", "ran")
    const queue = async () => JSON.parse((await ended(env, "inspect", key, "--json")).stdout).queueLength as number
    while (await queue() === 0);
    const from = performance.now()
    waiter.signal(signal)
    expect(await waiter.exited).toBe({ SIGHUP: 129, SIGINT: 130, SIGTERM: 143 }[signal])
    expect(performance.now() - from).toBeLessThan(2_000)
    expect(await queue()).toBe(0)
    expect(waiter.stdout()).toBe("")
  }
)
