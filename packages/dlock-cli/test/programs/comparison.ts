// Puts `dlock run`, `flock` and `etcdctl lock` into the same situations, and prints what each did: the table of the docs.
import { etcdctlProgram, startEtcd } from "dlock-testing"
import * as Path from "node:path"
import { isAlive, program, start, type Started, temporary, until } from "../support/dlock.ts"

const server = await startEtcd()
const env = { DLOCK_ETCD_HOSTS: server.url, ETCDCTL_API: "3" }
const folder = temporary()

type Tool = (key: string, command: ReadonlyArray<string>) => ReadonlyArray<string>

const tools: Readonly<Record<string, { readonly run: Tool; readonly tries?: Tool }>> = {
  "dlock run": {
    run: (key, command) => [process.execPath, program, "run", "--ttl", "2s", "--guard", "1s", key, "--", ...command],
    tries: (key, command) => [process.execPath, program, "run", "-n", key, "--", ...command]
  },
  flock: {
    run: (key, command) => ["flock", Path.join(folder, key), ...command],
    tries: (key, command) => ["flock", "-n", Path.join(folder, key), ...command]
  },
  "etcdctl lock": {
    run: (key, command) => [etcdctlProgram(), "--endpoints", server.url, "lock", "--ttl", "2", "--", key, ...command]
  }
}

const sleep = (millis: number) => new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), millis))
const begin = (command: ReadonlyArray<string>) => start(command, env)
const pidOf = (started: Started) =>
  until("it is in", () => Number(/^\d+$/m.exec(started.stdout())?.[0]) || undefined, 60_000)
const kill = (pid: number) => isAlive(pid) && process.kill(pid, "SIGKILL")

/** Whether another gets the lock within a time. */
const isFree = async (run: Tool, key: string, limit: number): Promise<boolean> => {
  const other = begin(run(key, ["echo", "in"]))
  const code = await Promise.race([other.exited, sleep(limit)])
  if (code === undefined) other.signal("SIGKILL")
  return code === 0
}

const rows: Array<ReadonlyArray<string>> = [["situation", ...Object.keys(tools)]]
const row = async (situation: string, look: (name: string) => Promise<string>) => {
  const cells: Array<string> = []
  for (const name of Object.keys(tools)) cells.push(await look(name))
  rows.push([situation, ...cells])
}

await row("the command exits with 3", async (name) => {
  return String(await begin(tools[name]!.run("codes", ["sh", "-c", "exit 3"])).exited)
})
await row("a signal ends the command", async (name) => {
  return String(await begin(tools[name]!.run("codes", ["sh", "-c", "kill -TERM $$"])).exited)
})
await row("another has the lock, no waiting", async (name) => {
  const { run, tries } = tools[name]!
  if (tries === undefined) return "no such option"
  const holder = begin(run("busy", ["sh", "-c", "echo $$; exec sleep 30"]))
  const pid = await pidOf(holder)
  const other = begin(tries("busy", ["true"]))
  const code = await other.exited
  holder.signal("SIGKILL")
  kill(pid)
  return `${code}, ${/is held by/.test(other.stderr()) ? "names the holder" : "names nobody"}`
})
await row("SIGTERM, and the command takes a second to end", async (name) => {
  const { run } = tools[name]!
  const holder = begin(
    run("term", ["sh", "-c", "trap 'echo asked; sleep 1; exit 5' TERM; echo $$; while :; do sleep 0.05; done"])
  )
  const pid = await pidOf(holder)
  holder.signal("SIGTERM")
  await sleep(300)
  const asked = holder.stdout().includes("asked")
  const free = await isFree(run, "term", 400)
  const alive = isAlive(pid)
  const code = await Promise.race([holder.exited, sleep(3_000)])
  kill(pid)
  return `${asked ? "asked" : "not asked"}, ${
    free && alive ? "lock given away before it ended" : "lock kept"
  }, exit ${code}`
})
await row("it is killed (-9)", async (name) => {
  const { run } = tools[name]!
  const holder = begin(run("killed", ["sh", "-c", "echo $$; exec sleep 30"]))
  const pid = await pidOf(holder)
  holder.signal("SIGKILL")
  const free = await isFree(run, "killed", 8_000)
  const alive = isAlive(pid)
  kill(pid)
  return `${alive ? "the command goes on" : "the command is ended"}, ${free ? "the next is in" : "the lock is kept"}`
})
await row("it is frozen (-STOP)", async (name) => {
  const { run } = tools[name]!
  const holder = begin(run("frozen", ["sh", "-c", "echo $$; exec sleep 30"]))
  const pid = await pidOf(holder)
  holder.signal("SIGSTOP")
  const free = await isFree(run, "frozen", 8_000)
  const alive = isAlive(pid)
  holder.signal("SIGCONT")
  holder.signal("SIGKILL")
  kill(pid)
  return `${alive ? "the command goes on" : "the command is ended"}, ${free ? "the next is in" : "the lock is kept"}`
})
await row("SIGTERM while it waits", async (name) => {
  const { run } = tools[name]!
  const holder = begin(run("waits", ["sh", "-c", "echo $$; exec sleep 30"]))
  const pid = await pidOf(holder)
  const waiter = begin(run("waits", ["true"]))
  await sleep(1_500)
  waiter.signal("SIGTERM")
  const code = await Promise.race([waiter.exited, sleep(3_000)])
  holder.signal("SIGKILL")
  kill(pid)
  return `exit ${code}`
})

for (const [index, cells] of rows.entries()) {
  console.log(`| ${cells.join(" | ")} |`)
  if (index === 0) console.log(`| ${cells.map(() => "---").join(" | ")} |`)
}
await server.stop()
process.exit(0)
