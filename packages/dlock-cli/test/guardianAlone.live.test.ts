import { recordLag } from "dlock-testing"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { afterEach, describe, expect, test } from "vitest"
import { start as guardianScript } from "../src/internal/process/guardian.ts"
import { uptime } from "../src/internal/process/uptime.ts"
import { dlock, endAll, ended, groupOf, isAlive, program, start, until } from "./support/dlock.ts"
import { useRedis } from "./support/redis.ts"

afterEach(endAll)

const { env, server } = useRedis()

/** The guardian of a group: what the command has not started. */
const guardianOf = (group: number): number =>
  groupOf(group).find((pid) => {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
    return pid !== group && stat.slice(stat.lastIndexOf(")") + 2).split(" ", 2)[1] === "1"
  })!

const stubborn = "trap '' TERM; echo in; while :; do sleep 0.05; done"

describe("a dlock that is stopped before it can say a word", () => {
  const begin = (askIn: number, killIn: number) => {
    const at = uptime()
    const child = spawn(
      "sh",
      [
        "-c",
        `${guardianScript}exec "$@"\n`,
        "dlock",
        "100",
        String(at + askIn),
        String(at + killIn),
        "sh",
        "-c",
        stubborn
      ],
      { detached: true, stdio: ["ignore", "pipe", "inherit", "pipe"] }
    )
    let text = ""
    child.stdout!.setEncoding("utf8").on("data", (some: string) => void (text += some))
    const exited = new Promise<number | NodeJS.Signals>((resolve) =>
      child.once("exit", (code, signal) => resolve(code ?? signal!))
    )
    return { exited, text: () => text }
  }

  test("its command is killed at the deadline that it began with", async () => {
    const lag = recordLag()
    const from = performance.now()
    const { exited, text } = begin(40, 70)
    expect(await exited).toBe("SIGKILL")
    lag.stop()
    expect(text()).toBe("in\n")
    expect(performance.now() - from).toBeGreaterThan(650)
    expect(performance.now() - from).toBeLessThan(1_500 + lag.max())
  })

  test("its command does not begin when the deadline is over", async () => {
    const { exited, text } = begin(0, 30)
    // The shell sees it, or the guardian has told it first.
    expect([76, "SIGTERM"]).toContain(await exited)
    expect(text()).toBe("")
  })
})

test("a guardian that was killed alone asks nobody to end: the deadline that it knew was not the last", async () => {
  const started = dlock(env, "run", "alone", "--ttl", "1s", "--guard", "400ms", "-c", "echo $$; sleep 3; exit 6")
  const group = await until("it is in", () => Number(started.stdout()) || undefined)
  process.kill(guardianOf(group), "SIGKILL")
  expect(await started.exited).toBe(6)
})

test("a command that kills every sleep in its group is not asked to end early", async () => {
  const kill = "kill -KILL $(ps -A -o pid=,pgid=,comm= | awk -v g=$$ '$2 == g && $3 == \"sleep\" { print $1 }')"
  const { code, stdout } = await ended(
    env,
    "run",
    "sleepless",
    "-c",
    `${kill}; sleep 0.3; ${kill}; sleep 0.3; echo done`
  )
  expect([code, stdout]).toEqual([0, "done\n"])
})

test("the variables of the caller reach the command as they are, and no argument shows one", async () => {
  const own = {
    gap: "1",
    guardian: "2",
    up: "3",
    left: "4",
    ask: "5",
    IFS: ":",
    OPTIND: "7",
    "my.secret": "hunter2 $HOME \"'\n-",
    "BASH_FUNC_f%%": "() { :; }"
  }
  const command = "process.stdout.write(JSON.stringify(process.env)); setInterval(() => {}, 1000)"
  const started = dlock({ ...env, ...own }, "run", "own", "--", process.execPath, "-e", command)
  const text = await until("it is in", () => started.stdout().endsWith("}") && started.stdout())
  const seen = JSON.parse(text) as Record<string, string>
  expect(seen).toMatchObject(own)
  expect(Object.keys(seen).filter((name) => name.startsWith("dlock"))).toEqual([])
  const shown = Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      return Fs.readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("hunter2")
    } catch {
      return false
    }
  })
  expect(shown).toEqual([])
})

test("a dlock inside a command of another: when the outer is killed, the inner guard gap counts for nothing", async () => {
  const inner = ["run", "inner", "--ttl", "20s", "--guard", "8s", "-c", `echo $$; ${stubborn}`]
  const command = [process.execPath, program, ...inner]
  const outer = dlock(env, "run", "outer", "--ttl", "3s", "--guard", "1s", "--", ...command)
  const group = await until("it is in", () => Number.parseInt(outer.stdout(), 10) || undefined)
  const lag = recordLag()
  const from = performance.now()
  outer.signal("SIGKILL")
  await until("it is gone", () => !isAlive(group))
  lag.stop()
  // The last renewal of the outer is at most a third of its ttl ago.
  expect(performance.now() - from).toBeLessThan(2_000 + 1_000 + lag.max())
})

test("nobody reads what dlock says: its command goes on, and has its exit code", async () => {
  const line = `"$0" "$@" 2> >(exec true)`
  const started = start(
    [
      "bash",
      "-c",
      line,
      process.execPath,
      program,
      "elect",
      "--exit-with-command",
      "unread",
      "-c",
      "sleep 0.3; echo in; exit 7"
    ],
    env
  )
  expect(await started.exited).toBe(7)
  expect(started.stdout()).toBe("in\n")
})

test("a signal during the release: the exit code is that of the command, which had ended before", async () => {
  const started = dlock(env, "run", "released", "-c", "echo $$; read line; exit 5")
  const group = await until("it is in", () => Number(started.stdout()) || undefined)
  server().signal("SIGSTOP")
  try {
    started.type("\n")
    await until("it has ended", () => !isAlive(group))
    await new Promise((resolve) => setTimeout(resolve, 500))
    started.signal("SIGTERM")
    await new Promise((resolve) => setTimeout(resolve, 200))
  } finally {
    server().signal("SIGCONT")
  }
  expect(await started.exited).toBe(5)
})
