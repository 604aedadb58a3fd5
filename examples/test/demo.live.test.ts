import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { etcdUrl, redisUrl } from "dlock-testing/context"
import { Effect, Fiber, Ref, Schedule, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { Etcd3 } from "etcd3"
import { Redis } from "ioredis"
import * as Net from "node:net"
import * as Path from "node:path"

const program = Path.resolve(import.meta.dirname, "../src/demo.ts")

/** The demo as a process of its own. */
const start = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const child = yield* ChildProcess.make(process.execPath, [program, ...args], {
    env: { ...env, NO_COLOR: "1" },
    extendEnv: true
  })
  const written = yield* Ref.make("")
  const reading = yield* child.all.pipe(
    Stream.decodeText(),
    Stream.runForEach((text) => Ref.update(written, (before) => before + text)),
    Effect.forkScoped
  )
  return {
    pid: child.pid,
    written: Ref.get(written),
    /** Code and output, after the end. */
    ended: Effect.zip(child.exitCode, Effect.andThen(Fiber.join(reading), Ref.get(written)))
  }
})

const run = (args: ReadonlyArray<string>, env?: Record<string, string>) =>
  Effect.flatMap(start(args, env), (demo) => demo.ended)

const until = <E, R>(what: string, holds: Effect.Effect<boolean, E, R>) =>
  holds.pipe(
    Effect.repeat({ until: (yes) => yes, schedule: Schedule.spaced("5 millis") }),
    Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => Effect.die(`waited in vain for ${what}`) })
  )

/** What every run has to show, whatever the driver. */
const assertFacts = (written: string) => {
  const output = written.replaceAll(/\s+/g, " ")
  const [, sold] = output.match(/(\d+) of 12 customers were told "yes", with 8 in stock/) ?? []
  assert.isAbove(Number(sold), 8, output)
  assert.include(output, "8 sold of 8, 0 left.")
  assert.include(output, "3 sold of 3, 0 left.")
  assert.strictEqual(output.match(/Never two inside: \d+ sections/g)?.length, 2, output)
  assert.strictEqual(output.match(/The fencing tokens grow/g)?.length, 2, output)
  assert.match(output, /Ben's late write of 2, token \d+, was refused: the shop had seen \d+\./)
  assert.include(output, "Lost the lock \"inventory:42\"")
  assert.match(output, /component=dlock key=inventory:42/)
  assert.match(output, /Ben .*✗▒*⊘/)
}

describe("the demo", () => {
  it.live("in memory: oversells without the lock, is exact with it, and survives a loss", () =>
    Effect.gen(function*() {
      const [code, output] = yield* run([])
      assert.strictEqual(code, 0, output)
      assertFacts(output)
      assert.include(output, "OwnershipLost, reason Unreachable")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  describe.each(["redis", "etcd"] as const)("on %s", (driver) => {
    const { connect, given, variable } = places[driver]

    it.live("on a server of its own, which ends with it: the same with processes, one of which is stopped", () =>
      Effect.gen(function*() {
        const [code, output] = yield* run([`--driver=${driver}`], { [variable]: "" })
        assert.strictEqual(code, 0, output)
        assertFacts(output)
        // A process that wakes up learns of it by its own clock or by the server, whichever it reads first.
        assert.match(output, /OwnershipLost, reason (Stalled|Expired)/)
        const [, port] = output.match(/on 127\.0\.0\.1:(\d+), with nothing on disk/) ?? []
        assert.isFalse(yield* isOpen(Number(port)))
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

    it.live("leaves no lock and no process when Ctrl-C ends it in the middle of a sale", () =>
      Effect.gen(function*() {
        const holdersOf = yield* connect
        const demo = yield* start(["--driver", driver], { [variable]: given() })
        const isHeld = Effect.map(holdersOf(`dlock-demo:${demo.pid}:inventory:42`), (count) => count > 0)

        yield* until("a sale", isHeld)
        const workers = yield* childrenOf(demo.pid)
        assert.lengthOf(workers, 4)
        process.kill(demo.pid, "SIGINT")
        const [code, output] = yield* demo.ended

        assert.isFalse(yield* isHeld, output)
        assert.strictEqual(code, 130, output)
        assert.include(output, "Stopped.")
        assert.deepStrictEqual(workers.filter(isAlive), [])
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

    it.live("keeps its own server up until the workers have released, when Ctrl-C reaches all processes of the terminal", () =>
      Effect.gen(function*() {
        const demo = yield* start(["--driver", driver], { [variable]: "" })
        yield* until("Act 2", Effect.map(demo.written, (text) => text.includes("Act 2")))
        yield* Effect.sleep("200 millis")
        process.kill(-Number(demo.pid), "SIGINT")
        const [code, output] = yield* demo.ended
        assert.strictEqual(code, 130, output)
        assert.include(output, "Stopped.")
        assert.notMatch(output, /release failed|connection .*lost|WARN|ERROR/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

    it.live("leaves no lock and no process when it is killed while a worker is stopped", () =>
      Effect.gen(function*() {
        const holdersOf = yield* connect
        const demo = yield* start(["--driver", driver], { [variable]: given() })
        yield* until("Act 3", Effect.map(demo.written, (text) => text.includes("Act 3")))
        const holders = holdersOf(`dlock-demo:${demo.pid}:inventory:42`)
        yield* until("a sale", Effect.map(holders, (count) => count > 0))
        const workers = (yield* childrenOf(demo.pid)).filter((pid) => isAlive(pid))
        yield* Effect.sleep("300 millis")

        process.kill(demo.pid, "SIGKILL")
        yield* until("the workers' end", Effect.sync(() => !workers.some(isAlive)))
        assert.strictEqual(yield* holders, 0)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
  })

  it.live("says what is wrong with its arguments, or with the server", () =>
    Effect.gen(function*() {
      const wrong = [
        { args: ["--nope"], says: "Unrecognized flag: --nope" },
        {
          args: ["--driver", "paper"],
          says: "Invalid value for flag --driver: \"paper\". Expected: \"memory\" | \"redis\" | \"etcd\""
        },
        { args: ["--driver"], says: "Missing value for flag --driver" },
        { args: ["redis"], says: "Unexpected positional argument: \"redis\"" }
      ]
      yield* Effect.forEach(wrong, ({ args, says }) =>
        Effect.map(run(args), ([code, output]) => {
          assert.strictEqual(code, 1, output)
          assert.include(output, says)
        }), { concurrency: 2 })

      const [code, output] = yield* run(["--driver", "redis"], { DLOCK_REDIS_URL: "redis://:secret@127.0.0.1:1" })
      assert.strictEqual(code, 1, output)
      assert.include(output, "cannot be reached: connect ECONNREFUSED 127.0.0.1:1")
      assert.notInclude(output, "secret")

      const [refused, why] = yield* run(["--driver", "etcd"], { DLOCK_ETCD_HOSTS: "http://127.0.0.1:1" })
      assert.strictEqual(refused, 1, why)
      assert.match(why, /cannot be reached: .*connect ECONNREFUSED 127\.0\.0\.1:1/)

      const [helped, help] = yield* run(["--help"])
      assert.strictEqual(helped, 0)
      assert.include(help, "--driver")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

/** The servers of this run, where they are named to the demo, and how to count who stands at a lock there. */
const places = {
  redis: {
    variable: "DLOCK_REDIS_URL",
    given: redisUrl,
    connect: Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Redis(redisUrl())),
        (redis) => Effect.sync(() => redis.disconnect())
      ),
      (redis) => (name: string) => Effect.promise(() => redis.exists(name))
    )
  },
  etcd: {
    variable: "DLOCK_ETCD_HOSTS",
    given: etcdUrl,
    connect: Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Etcd3({ hosts: etcdUrl() })),
        (etcd) => Effect.sync(() => etcd.close())
      ),
      (etcd) => (name: string) => Effect.promise(() => etcd.getAll().prefix(`${name}/`).count())
    )
  }
}

const isOpen = (port: number): Effect.Effect<boolean> =>
  Effect.callback<boolean>((resume) => {
    const socket = Net.connect(port, "127.0.0.1")
    socket.once("connect", () => resume(Effect.succeed(true)))
    socket.once("error", () => resume(Effect.succeed(false)))
    return Effect.sync(() => socket.destroy())
  })

/** The Node.js processes that a process has started. */
const childrenOf = (pid: number) =>
  Effect.gen(function*() {
    const ps = yield* ChildProcess.make("ps", ["-A", "-o", "pid=,ppid=,args="])
    const lines = yield* ps.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runCollect)
    return lines.flatMap((line) => {
      const [child, parent, ...args] = line.trim().split(/\s+/)
      return Number(parent) === pid && args.join(" ").includes("worker.ts") ? [Number(child)] : []
    })
  })

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
