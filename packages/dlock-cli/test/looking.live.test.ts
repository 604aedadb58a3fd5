import { startEtcdCluster, startRedis } from "dlock-testing"
import { DistributedSemaphore, Locker, withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"
import { RedisLocker } from "effect-dlock-redis"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { dlock, linesOf } from "./program.ts"

const hostile = "evil\x1b[31m\u202ekey"

/** Locks that are held and waited for, until the runtime is disposed of. */
const scene = Effect.gen(function*() {
  const locker = yield* Locker
  const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(Effect.ignore(effect))
  yield* fork(locker.withLock("report", Effect.never, { metadata: { pod: "report-1" } }))
  yield* fork(locker.withLock(hostile, Effect.never, { metadata: { "a\x07": "\x9b2J" } }))
  const semaphore = yield* DistributedSemaphore.make("permits", { permits: 3 })
  yield* fork(semaphore.withPermits(2)(Effect.never))
  yield* untilHeld("report", "permits")
  for (const pod of ["first", "second"]) {
    yield* fork(locker.withLock("report", Effect.never, { metadata: { pod } }))
    yield* untilQueued("report", pod === "first" ? 1 : 2)
  }
  const both = (one: string, other: string) =>
    locker.withLock(one, Effect.andThen(untilHeld("x", "y"), locker.withLock(other, Effect.never)))
  yield* fork(both("x", "y"))
  yield* fork(both("y", "x"))
  yield* untilQueued("x", 1)
  yield* untilQueued("y", 1)
  return yield* Effect.never
})

const untilHeld = (...keys: ReadonlyArray<string>) =>
  Effect.forEach(keys, (key) => Effect.repeat(Locker.inspect(key), { until: ({ holderCount }) => holderCount > 0 }), {
    discard: true
  })

const untilQueued = (key: string, length: number) =>
  Effect.repeat(Locker.inspect(key), { until: ({ queueLength }) => queueLength === length })

const backends = {
  redis: async () => {
    const server = await startRedis()
    const url = `redis://127.0.0.1:${server.port}`
    return { server, variables: { DLOCK_REDIS_URL: url }, layer: RedisLocker.layer({ url, holder: "shop" }) }
  },
  etcd: async () => {
    const server = await startEtcdCluster(1)
    const hosts = server.servers[0]!.url
    return { server, variables: { DLOCK_ETCD_HOSTS: hosts }, layer: EtcdLocker.layer({ hosts, holder: "shop" }) }
  }
}

describe.each(["redis", "etcd"] as const)("on %s", (name) => {
  let variables: Readonly<Record<string, string>> = {}
  let runtime: ManagedRuntime.ManagedRuntime<Locker, unknown>
  let stop: () => Promise<void>
  const run = <A, E>(effect: Effect.Effect<A, E, Locker>) => runtime.runPromise(effect)

  beforeAll(async () => {
    const backend = await backends[name]()
    variables = backend.variables
    runtime = ManagedRuntime.make(backend.layer as Layer.Layer<Locker, unknown>)
    runtime.runFork(scene)
    await run(Effect.andThen(untilHeld("report"), Effect.andThen(untilQueued("y", 1), untilQueued("x", 1))))
    stop = async () => {
      await runtime.dispose()
      await backend.server.stop()
    }
  })
  afterAll(() => stop())

  test("inspect shows the holder with its token, and the queue in its order", async () => {
    const [text, json] = await Promise.all([
      dlock(variables, "inspect", "report"),
      dlock(variables, "inspect", "report", "--json")
    ])
    const info = JSON.parse(json.stdout)
    expect(info).toMatchObject({
      key: "report",
      kind: "mutex",
      holders: [{ holder: "shop", metadata: { pod: "report-1" }, permits: 1, foreign: false }],
      waiting: [{ metadata: { pod: "first" } }, { metadata: { pod: "second" } }],
      queueLength: 2
    })
    expect(info.holders[0].token).toMatch(/^\d+$/)
    expect(text.stdout).toContain(info.holders[0].token)
    expect(text.stdout).toMatch(/report {2}held {2}mutex[^]*2 wait:[^]*1 {2}shop .*pod=first[^]*2 {2}shop .*pod=second/)
    expect(text.stderr).toBe("")
  })

  test("list shows each lock in a table, and by its filters in lines of JSON", async () => {
    const [all, waited, some] = await Promise.all([
      dlock(variables, "list"),
      dlock(variables, "list", "--waiting", "--json"),
      dlock(variables, "list", "perm", "--held", "--json")
    ])
    // Sorted by their keys, and what a server says is shown escaped.
    expect(all.stdout.split("\n").map((line) => line.split(" ")[0])).toEqual([
      "KEY",
      "evil\\u001b[31m\\u202ekey",
      "permits",
      "report",
      "x",
      "y",
      ""
    ])
    expect(all.stdout).not.toMatch(/[\x1b\u202e\x9b\x07]/)
    expect(linesOf(waited).map(({ key }) => String(key)).toSorted()).toEqual(["report", "x", "y"])
    expect(linesOf(some)).toMatchObject([{ key: "permits", kind: "semaphore", capacity: 3, permitsHeld: 2 }])
  })

  // What follows from the command alone is seen on one of them.
  const testOnce = name === "redis" ? test : undefined

  testOnce?.("nothing that a server says reaches the terminal raw, be it as JSON, which keeps its value", async () => {
    const json = await dlock(variables, "inspect", hostile, "--json")
    expect(json.stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
    expect(JSON.parse(json.stdout)).toMatchObject({ key: hostile, holders: [{ metadata: { "a\x07": "\x9b2J" } }] })
  })

  test("deadlocks shows the circle, and what to revoke; revoking that ends it", async () => {
    const [text, json] = await Promise.all([dlock(variables, "deadlocks"), dlock(variables, "deadlocks", "--json")])
    const [found] = linesOf(json)
    expect(found.cycle).toMatchObject([
      { key: "x", holder: "shop", waitsFor: "y" },
      { key: "y", holder: "shop", waitsFor: "x" }
    ])
    expect(text.stdout).toMatch(/a deadlock of 2 callers\n┌▶ x {2}held by shop.*\n[^]*│ {2}y[^]*└──── who waits for x/)
    expect(text.stdout).toContain(`dlock revoke ${found.revoke.key} --token ${found.revoke.token}`)
    expect([text.code, json.code]).toEqual([1, 1])
    const revoked = await dlock(variables, "revoke", found.revoke.key, "--token", found.revoke.token)
    expect(revoked).toMatchObject({ code: 0, stdout: "released: the hold has ended\n" })
    expect(await dlock(variables, "deadlocks")).toMatchObject({ code: 0, stdout: "no deadlock\n" })
  })

  testOnce?.("deadlocks says of which locks not all that wait are told", async () => {
    const crowd = runtime.runFork(
      Effect.forEach(
        Array.from({ length: 102 }),
        () => Locker.use((locker) => locker.withLock("crowd", Effect.never)),
        {
          concurrency: "unbounded"
        }
      )
    )
    await run(untilQueued("crowd", 101))
    const told = await dlock(variables, "deadlocks", "crowd")
    expect(told).toMatchObject({ code: 0, stdout: "no deadlock among those that are told\n" })
    expect(told.stderr).toContain("(crowd)")
    await Effect.runPromise(Fiber.interrupt(crowd))
  })

  testOnce?.("revoke without a token shows who holds it and the command, and changes nothing", async () => {
    const [asked, free, wrong] = await Promise.all([
      dlock(variables, "revoke", "report"),
      dlock(variables, "revoke", "free"),
      dlock(variables, "revoke", "report", "--token", "1", "--json")
    ])
    const info = await run(Locker.inspect("report"))
    const { token } = info.holders[0]!
    expect(asked).toMatchObject({ code: 64, stdout: "" })
    expect(asked.stderr).toContain(`dlock revoke report --token ${token}\n`)
    expect(free).toMatchObject({ code: 1, stdout: "" })
    expect(wrong).toMatchObject({ code: 1, stdout: "{\"answer\":\"notHeld\"}\n", stderr: "" })
    expect(info.queueLength).toBe(2)
  })

  test("revoke of a holder that does not end says when its hold runs out", async () => {
    const deaf = Effect.uninterruptible(Effect.sleep("4 seconds"))
    const program = withLock("deaf", deaf, { ttl: "5 seconds", guardGap: "20 seconds" })
    const fiber = runtime.runFork(Effect.ignore(program))
    await run(untilHeld("deaf"))
    const { token } = (await run(Locker.inspect("deaf"))).holders[0]!
    const variablesOfShortGap = { ...variables, DLOCK_GUARD_GAP: "500 millis" }
    const told = await dlock(variablesOfShortGap, "revoke", "deaf", "--token", String(token), "--json", "--why", "test")
    expect(told.code).toBe(0)
    const { answer, endsWithinMs } = JSON.parse(told.stdout)
    expect(answer).toBe("running")
    // etcd does not tell how long a hold lasts that was asked to leave.
    if (name === "redis") expect(endsWithinMs).toBeGreaterThan(0)
    if (name === "redis") expect(endsWithinMs).toBeLessThanOrEqual(25_000)
    await runtime.runPromise(Effect.sync(() => fiber.interruptUnsafe()))
  })

  testOnce?.("break needs its confirmation, and lets the next one in", async () => {
    const before = await run(Locker.inspect("report"))
    const token = String(before.holders[0]!.token)
    const refused = await dlock(variables, "break", "report", "--token", token)
    expect(refused).toMatchObject({ code: 64, stdout: "" })
    expect(refused.stderr).toContain("two run")
    expect((await run(Locker.inspect("report"))).holders[0]!.token).toBe(before.holders[0]!.token)
    const broken = await dlock(variables, "break", "report", "--token", token, "--yes-two-may-run")
    expect(broken.code).toBe(0)
    await run(untilQueued("report", 1))
    const again = await dlock(variables, "break", "report", "--token", token, "--yes-two-may-run", "--json")
    expect(again).toMatchObject({ code: 1, stdout: "{\"answer\":\"notHeld\"}\n" })
  })

  test("epoch raises the tokens of etcd, and says why Redis needs none", async () => {
    const raised = await dlock(variables, "epoch", "raise", "--above", "1000000", "--json")
    if (name === "redis") {
      expect(raised).toMatchObject({ code: 64, stdout: "" })
      expect(raised.stderr).toContain("time of its clock")
      return
    }
    expect(raised).toMatchObject({ code: 0, stdout: "{\"base\":\"1000000\",\"previous\":\"0\"}\n" })
    const [shown, other] = await Promise.all([
      dlock(variables, "epoch", "show"),
      dlock(variables, "epoch", "show", "--prefix", "other:", "--json")
    ])
    expect(shown.stdout).toBe("every new token is above 1000000\n")
    expect(other.stdout).toBe("{\"base\":\"0\"}\n")
  })
})
