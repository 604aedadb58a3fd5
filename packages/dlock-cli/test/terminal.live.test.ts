import { expect, test } from "vitest"
import { program, start, until } from "./support/dlock.ts"
import { useRedis } from "./support/redis.ts"

const { env } = useRedis()

/** An interactive shell on a terminal of its own. */
const shell = async () => {
  const started = start(["script", "-qfec", "bash --norc --noprofile -i", "/dev/null"], {
    ...env,
    PS1: "$ ",
    DLOCK: `${process.execPath} ${program} run`
  })
  let from = 0
  const sees = async (what: RegExp) => {
    await until(
      `the terminal shows ${what}: ${started.stdout().slice(from)}`,
      () => what.test(started.stdout().slice(from))
    )
    from = started.stdout().length
  }
  await sees(/[$#] /)
  return { type: started.type, sees, exited: started.exited }
}

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

test("on a terminal: the command reads, Ctrl-Z suspends both, fg resumes, Ctrl-C ends it", async () => {
  const { exited, sees, type } = await shell()
  type("$DLOCK tty -c 'echo ready; cat'\n")
  await sees(/ready\r\n$/)
  type("hello\n")
  await sees(/hello\r\nhello/)
  type("\u001a")
  await sees(/Stopped/)
  await pause(200)
  type("fg\n")
  await pause(500)
  type("again\n")
  await sees(/again\r\nagain/)
  type("\u0003")
  await pause(500)
  type("echo code=$?\n")
  await sees(/code=130/)
  // The terminal belongs to the shell again.
  type("exit 3\n")
  expect(await exited).toBe(3)
})

test("on a terminal: a shell under a lock has job control of its own", async () => {
  const { exited, sees, type } = await shell()
  type("$DLOCK tty-shell -- bash --norc --noprofile -i\n")
  await pause(1_500)
  type("echo in$((1+1))\n")
  await sees(/in2/)
  type("sleep 60\n")
  await pause(300)
  type("\u0003")
  await pause(200)
  type("echo inner=$?\n")
  await sees(/inner=130/)
  type("exit 7\n")
  await pause(1_000)
  type("echo outer=$?\n")
  await sees(/outer=7/)
  type("exit\n")
  expect(await exited).toBe(0)
})
