import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { etcdUrl, redisUrl } from "dlock-testing/context"
import { Clock, ConfigProvider, Context, Effect, Fiber, Layer, Option, Ref, Schedule, Stream } from "effect"
import { Locker } from "effect-dlock"
import { ChildProcess } from "effect/process"
import * as Path from "node:path"
import { LockerLive } from "../src/locker.ts"

const folder = Path.resolve(import.meta.dirname, "../src")

/** A program of the examples as a process of its own. */
const start = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Record<string, string | undefined>) {
  const [file, ...rest] = args
  const child = yield* ChildProcess.make(process.execPath, [`${folder}/${file}.ts`, ...rest], {
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
    says: (text: string) =>
      Ref.get(written).pipe(
        Effect.repeat({ until: (output) => output.includes(text), schedule: Schedule.spaced("5 millis") }),
        Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => Effect.die(`waited in vain for "${text}"`) })
      ),
    /** Code and output, after the end. */
    ended: Effect.zip(child.exitCode, Effect.andThen(Fiber.join(reading), Ref.get(written)))
  }
})

/** The launcher with one of the examples. */
const run = (example: string, driver: string, env: Record<string, string | undefined>) =>
  Effect.flatMap(start(["example", example, "--driver", driver], env), (child) => child.ended)

let prefixes = 0
const drivers = {
  memory: () => ({}),
  redis: () => ({ DLOCK_REDIS_URL: redisUrl() }),
  etcd: () => ({ DLOCK_ETCD_HOSTS: etcdUrl() })
}
const place = (driver: keyof typeof drivers): Record<string, string> => ({
  ...drivers[driver](),
  DLOCK_DRIVER: driver,
  DLOCK_PREFIX: `examples:${process.pid}:${prefixes++}:`
})

/** The ticks for which a report was written. */
const reportsIn = (output: string): ReadonlyArray<string> =>
  Array.from(output.matchAll(/done: 12 pages for (\S+)/g), ([, tick]) => tick!).toSorted()

const count = (text: string, part: string | RegExp) => text.split(part).length - 1

describe.each(["memory", "redis", "etcd"] as const)("the examples on %s", { concurrent: true }, (driver) => {
  const example = (name: string, promise: string, check: (output: string) => void) =>
    it.live(`${name}: ${promise}`, () =>
      Effect.gen(function*() {
        const [code, output] = yield* run(name, driver, place(driver))
        assert.strictEqual(code, 0, output)
        check(output)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  example("task-election", "each tick is the work of one instance, once", (output) => {
    const done = reportsIn(output)
    assert.isAtLeast(done.length, 2, output)
    assert.deepStrictEqual(done, Array.from(new Set(done)), output)
    assert.include(output, "the last report was written at", output)
  })

  example("background-service", "one instance leads at a time, through a rolling restart", (output) => {
    const [, leaders, beside] =
      /(\d) leaders, (\d) of them beside another one, terms rising, at most \d+ ms/.exec(output)
        ?? []
    assert.isAtLeast(Number(leaders), 2, output)
    assert.strictEqual(beside, "0", output)
  })

  example("transfer", "no money is lost or made, whichever way it goes", (output) => {
    assert.include(output, "12 transfers, and 400 in all", output)
    assert.strictEqual(count(output, /\d+ from \d to \d/), 12, output)
  })

  example("typed-lock", "who re-enters has the token of the outer section, and nobody is in between", (output) => {
    const taken = Array.from(output.matchAll(/took (\w+ ?\d?), put (box \d)/g), ([, took, put]) => [took, put] as const)
    assert.strictEqual(taken.length, 5, output)
    // Each takes what the one before has put.
    assert.deepStrictEqual(taken.map(([took]) => took), ["old", ...taken.slice(0, -1).map(([, put]) => put)], output)
    assert.include(output, "on the shelf: 1", output)
  })

  example("stock-deduction", "no piece is sold twice", (output) => {
    assert.deepStrictEqual(Array.from(output.matchAll(/has one, (\d) left/g), ([, left]) => Number(left)), [
      6,
      5,
      4,
      3,
      2,
      1,
      0
    ])
    assert.strictEqual(count(output, "comes too late"), 3, output)
    assert.match(output, /counted 0 under token \d+, good for 1m/)
  })

  example("concurrency-cap", "never are more permits out than there are, and everybody has one", (output) => {
    assert.match(output, /at most [34] permits were out, of 4/)
    assert.strictEqual(count(output, "has the summary of document"), 18, output)
    assert.strictEqual(count(output, "for 2 permits"), 6, output)
    assert.include(output, "nobody calls: all permits")
  })

  example(
    "catalogue",
    "no reader sees a catalogue half rebuilt, and readers come in while the writer checks",
    (output) => {
      assert.notInclude(output, "half rebuilt")
      const lines: ReadonlyArray<string> =
        output.match(/shows version 1|shows version 2|rebuilt as version 2|checked version 2/g) ?? []
      const [rebuilt, checked] = [lines.indexOf("rebuilt as version 2"), lines.indexOf("checked version 2")]
      assert.isAtLeast(checked, rebuilt + 1, output)
      assert.deepStrictEqual(
        lines.map((line, index) => line.startsWith("shows") ? line : index),
        lines.map((line, index) => line.startsWith("shows") ? `shows version ${index < rebuilt ? 1 : 2}` : index)
      )
      assert.strictEqual(lines.length, 8, output)
      assert.include(output, "no upgrade: read lock in hand")
    }
  )

  example("making-room", "an edit waits for a chunk or two, and the job is done all the same", (output) => {
    const lines: ReadonlyArray<string> = output.match(/edited the index|leaves the lock after \d+ chunks/g) ?? []
    const turns = lines.filter((line) => line.startsWith("leaves"))
    assert.strictEqual(lines.length - turns.length, 3, output)
    // Each edit came in the middle of the job. On a slow machine, all of them may come in one gap.
    assert.isAtLeast(turns.length, 2, output)
    assert.strictEqual(lines.at(-1), "leaves the lock after 40 chunks", output)
    assert.match(lines[0]!, /^leaves the lock after [1-3]?\d chunks$/, output)
    assert.include(output, "the index is rebuilt: 40 chunks")
  })

  example("fencing", "the late write is refused, and done again", (output) => {
    assert.match(output, /Ann's late write was refused: the account has seen token \d+/)
    assert.match(output, /Ann has lost the lock \((Stalled|Expired|Replaced)\) and does it again/)
    assert.include(output, "the balance is 115")
  })

  example("driver-by-config", "the driver that is named, and no other", (output) => {
    assert.strictEqual(count(output, /holds "inventory:42" under token \d+/), 2, output)
    assert.include(output, "DLOCK_DRIVER is \"paper\": set it to one of etcd, memory, redis")
    assert.include(output, "DLOCK_DRIVER is not set: set it to one of etcd, memory, redis")
  })
})

describe.each(["redis", "etcd"] as const)("the task election on %s", (driver) => {
  it.live("writes each report once in three processes whose clocks differ", () =>
    Effect.gen(function*() {
      const env = place(driver)
      const clockOff = `--import=${Path.resolve(import.meta.dirname, "clockOff.ts")}`
      const outputs = yield* Effect.forEach([-400, 60, 400], (offset) =>
        Effect.gen(function*() {
          const child = yield* start(["task-election"], { ...env, NODE_OPTIONS: clockOff, CLOCK_OFF: `${offset}` })
          const [code, output] = yield* child.ended
          assert.strictEqual(code, 0, output)
          return output
        }), { concurrency: "unbounded" })
      const done = reportsIn(outputs.join("\n"))
      assert.deepStrictEqual(done, Array.from(new Set(done)), outputs.join("\n"))
      const seconds = done.map((tick) => Date.parse(tick) / 1_000)
      assert.deepStrictEqual(seconds, seconds.map((_, index) => seconds[0]! + index), "no tick is missing")
      assert.isAtLeast(seconds.length, 3)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

describe.each(["redis", "etcd"] as const)("the long task on %s", (driver) => {
  it.live("lets go of its lock at once when Ctrl-C ends it: whoever stands by is in, and so is whoever comes new", () =>
    Effect.gen(function*() {
      const env = place(driver)
      const first = yield* start(["long-task"], env)
      yield* first.says("in charge")

      const locker = yield* instance(env)
      assert.isTrue(Option.isNone(yield* Effect.scoped(locker.scopedIfAvailable("jobs/mail"))))
      const standby = yield* Effect.forkScoped(locker.withLock("jobs/mail", Clock.monotonicTimeNanos))
      yield* Effect.sleep("300 millis")

      const stoppedAt = yield* Clock.monotonicTimeNanos
      process.kill(first.pid, "SIGINT")
      const inAfter = Number((yield* Fiber.join(standby)) - stoppedAt) / 1_000_000
      const [code, output] = yield* first.ended
      assert.strictEqual(code, 130, output)
      assert.include(output, "leaves, the lock still in hand")
      console.log(`${driver}: in ${inAfter.toFixed(1)} ms after Ctrl-C`)
      assert.isBelow(inAfter, 1_000)

      const second = yield* start(["long-task"], env)
      yield* second.says("in charge")
      process.kill(second.pid, "SIGTERM")
      yield* second.ended
      const newcomer = yield* instance(env)
      assert.isTrue(Option.isSome(yield* Effect.scoped(newcomer.scopedIfAvailable("jobs/mail"))))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

describe("the launcher", () => {
  it.live("brings a server where none is named, and takes it away with Ctrl-C", () =>
    Effect.gen(function*() {
      const launcher = yield* start(["example", "long-task", "--driver", "redis"], { DLOCK_REDIS_URL: "" })
      yield* launcher.says("in charge")
      process.kill(launcher.pid, "SIGINT")
      const [code, output] = yield* launcher.ended
      assert.strictEqual(code, 130, output)
      assert.include(output, "leaves, the lock still in hand")
      assert.notMatch(output, /WARN|ERROR/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("says what is wrong, and ends with a code that says so", () =>
    Effect.gen(function*() {
      const away = yield* run("task-election", "redis", { DLOCK_REDIS_URL: "redis://127.0.0.1:1" })
      assert.strictEqual(away[0], 1, away[1])
      assert.include(away[1], "ECONNREFUSED")
      const unknown = yield* run("nothing", "redis", {})
      assert.strictEqual(unknown[0], 1)
      assert.include(unknown[1], "task-election")
      const bare = yield* Effect.flatMap(start(["task-election"], { DLOCK_DRIVER: "" }), (child) => child.ended)
      assert.strictEqual(bare[0], 1)
      assert.include(bare[1], "DLOCK_DRIVER is not set: set it to one of etcd, memory, redis")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

/** One more instance of the service, with connections of its own. */
const instance = (env: Record<string, string>) =>
  Layer.build(Layer.fresh(LockerLive)).pipe(
    Effect.map((context) => Context.get(context, Locker)),
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env)))
  )
