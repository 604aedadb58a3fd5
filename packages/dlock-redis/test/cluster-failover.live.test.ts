import { assert, describe, it } from "@effect/vitest"
import { command, recordLag, type Server, startCluster, startWorker } from "dlock-testing"
import { Effect, Fiber, Scope } from "effect"
import * as Path from "node:path"
import { eventually, group, locker, plainClient, type Section, violations, within } from "./support.ts"

type Message =
  | { readonly key: string; readonly token: string; readonly enteredAt: number; readonly leftAt: number }
  | { readonly failed: string }
  | { readonly started: number }

/** The machine's clock, which all processes share. The origin of `performance` differs between processes. */
const now = () => Number(process.hrtime.bigint()) / 1_000_000

const processes = 3
const keys = 50

/** How many milliseconds a server's time may differ from ours. */
const clocksApart = 50

/** Runs sections of several processes on fifty keys, while `fault` hits the primary of a third of the keys. */
const underLoad = (fault: (primary: Server) => void, wake?: (primary: Server) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    const { servers } = yield* group(() => startCluster({ replicas: 1, nodeTimeoutMs: 1_000 }))
    const [primary, second, , replica] = servers as [Server, Server, Server, Server]
    const cluster = servers.map(({ port }) => `127.0.0.1:${port}`)
    // This test does not measure how long the workers take to start.
    const options = JSON.stringify({ cluster, connectTimeout: "50 seconds" })
    const workers = yield* Effect.forEach(Array.from({ length: processes }), () =>
      Effect.acquireRelease(
        Effect.sync(() =>
          startWorker<Message>(Path.join(import.meta.dirname, "programs/contender.ts"), {
            args: [options, String(keys)]
          })
        ),
        (worker) => Effect.promise(() => worker.kill())
      ))
    const sections = () =>
      workers.flatMap(({ messages }) =>
        messages.flatMap((one): ReadonlyArray<Section> => "key" in one ? [{ ...one, token: BigInt(one.token) }] : [])
      )
    yield* eventually(
      "all processes run",
      async () => workers.every(({ messages }) => messages.length > 5 * keys),
      60_000
    )
    const concerned = yield* keysOn(primary)
    assert.isAbove(concerned.size, 5)
    const recorded = recordLag()
    const struckAt = now()
    fault(primary)
    yield* eventually(
      "a failover",
      async () =>
        (await command(replica.port, "INFO replication")).includes("role:master") &&
        (await command(second.port, "CLUSTER INFO")).includes("cluster_state:ok"),
      20_000
    )
    const failedOverAt = now()
    yield* eventually(
      "sections on every key go on",
      async () => {
        const since = new Set(sections().flatMap((one) => one.enteredAt > failedOverAt ? [one.key] : []))
        return since.size === keys
      }
    )
    const back = now() - failedOverAt
    const wokenAt = wake === undefined ? Infinity : Date.now()
    if (wake !== undefined) yield* wake(primary)
    const replacedAt = Date.now()
    yield* Effect.sleep("1 second")
    for (const worker of workers) worker.send({ stop: true })
    yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.exited))
    recorded.stop()
    const all = sections()
    const failed = workers.flatMap(({ messages }) => messages.flatMap((one) => "failed" in one ? [one.failed] : []))
    // Only a grant from before the fault may have been lost, and only to a claim that came afterwards.
    const lost = ({ enteredAt, key }: Section) =>
      concerned.has(key) && enteredAt > struckAt && enteredAt < struckAt + 15_000
    const strict = violations(all)
    yield* Effect.log(
      `${all.length} sections, failover after ${(failedOverAt - struckAt).toFixed(0)} ms, all keys back ${
        back.toFixed(0)
      } ms`
        + ` later; ${strict.length} overlaps by lost writes; ${
          JSON.stringify(Object.fromEntries(
            Array.from(Map.groupBy(failed, (tag) => tag), ([tag, list]) => [tag, list.length])
          ))
        }`
    )
    // A node that wakes answers the requests in its sockets before it hears that it was replaced. Those grants are the
    // newest of their moment. A holder of the new primary may hear of its own, older grant only afterwards. It enters
    // behind them, and the resource refuses its smaller token. A token is the time of its grant, in microseconds.
    const woken = ({ key, token }: Section) => {
      const grantedAt = Number(token) / 1_000
      return concerned.has(key) && grantedAt > wokenAt - clocksApart && grantedAt < replacedAt + clocksApart
    }
    assert.deepStrictEqual(
      violations(all, { overlap: lost, token: woken }),
      [],
      `struck at ${struckAt}, failed over at ${failedOverAt}, woken at ${wokenAt}, replaced at ${replacedAt}`
    )
    // The other shards stop only for a short time. While the cluster is incomplete, it serves no requests.
    const others = all.filter(({ key }) => !concerned.has(key)).toSorted((a, b) => a.enteredAt - b.enteredAt)
    assert.isAbove(others.filter(({ enteredAt }) => enteredAt > struckAt).length, keys)
  })

const keysOn = (server: Server) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* plainClient(server.url)
    const found = new Set<string>()
    yield* eventually("its keys are known", async () => {
      for (const key of await client.keys("*")) {
        const name = /dlock:(key-\d+)/.exec(key)
        if (name !== null) found.add(name[1]!)
      }
      return found.size > 10
    })
    return found
  }))

describe("a cluster of three primaries, each with a replica, under load on fifty keys", () => {
  it.live(
    "goes on after a primary was killed",
    () => Effect.scoped(underLoad((primary) => primary.signal("SIGKILL"))),
    150_000
  )

  it.live(
    "goes on after a primary fell silent, and is not served by it when it is back",
    () =>
      Effect.scoped(underLoad((primary) => primary.signal("SIGSTOP"), (primary) =>
        Effect.gen(function*() {
          primary.signal("SIGCONT")
          yield* eventually(
            "it is a replica",
            async () => (await command(primary.port, "INFO replication")).includes("role:slave"),
            10_000
          )
        }))),
    150_000
  )
})

describe("a primary that was replaced while it was silent", () => {
  it.live("has those who wait there ask the new one at once", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ primaries: 2, replicas: 1, nodeTimeoutMs: 1_000 }))
      const slot = Number((yield* Effect.promise(() => command(servers[0]!.port, "CLUSTER KEYSLOT dlock:k"))).slice(1))
      const [primary, replica] = slot < 8192 ? [servers[0]!, servers[2]!] : [servers[1]!, servers[3]!]
      const admin = yield* plainClient(primary.url)
      // The replica is in sync once it has replicated something.
      yield* Effect.promise(() => admin.set("{dlock:k}", ""))
      yield* eventually("the replica is listed", async () =>
        JSON.stringify(await admin.cluster("SLOTS")).includes(String(replica.port)))
      const { scoped, withLock } = yield* locker({ cluster: `127.0.0.1:${primary.port}` })
      yield* Scope.provide(scoped("k"), yield* Scope.make())
      const waiters = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 10 }), () =>
          withLock("k", Effect.void), { concurrency: "unbounded" })
      )
      yield* eventually("they wait", async () => (await admin.zcard("{dlock:k}:\0q")) === 10)
      primary.signal("SIGSTOP")
      yield* Effect.promise(() => command(replica.port, "CLUSTER FAILOVER TAKEOVER"))
      // As if the new primary had received none of the data.
      yield* Effect.promise(() => command(replica.port, "FLUSHALL"))
      yield* within(Fiber.join(waiters), 6_000)
    }).pipe(Effect.scoped))

  it.live("lets nobody in when it wakes", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster({ replicas: 1, nodeTimeoutMs: 1_000 }))
      const [primary, , , replica] = servers as [Server, Server, Server, Server]
      const admin = yield* plainClient(primary.url)
      const key = yield* Effect.promise(async () => {
        for (let n = 0;; n++) if (Number(await admin.cluster("KEYSLOT", `dlock:k${n}`)) < 16384 / 3 - 1) return `k${n}`
      })
      const options = { cluster: servers.map(({ port }) => `127.0.0.1:${port}`) }
      const one = yield* locker(options)
      const other = yield* locker(options)
      const lease = yield* one.scoped(key, { ttl: "8 seconds" })
      const waiter = yield* Effect.forkChild(other.withLock(key, Effect.succeed("in"), { ttl: "1 minute" }))
      yield* eventually("it waits", async () => (await admin.zcard(`{dlock:${key}}:\0q`)) === 1)
      yield* Effect.sleep("1500 millis")
      primary.signal("SIGSTOP")
      // The old primary will find this request in its sockets, after the lock has expired, and hand the lock over.
      const asking = yield* Effect.forkChild(Effect.exit(other.withLockIfAvailable(key, Effect.void)))
      yield* eventually(
        "a failover",
        async () => (await command(replica.port, "INFO replication")).includes("role:master"),
        20_000
      )
      yield* Effect.sleep("10 seconds")
      yield* Fiber.join(asking)
      primary.signal("SIGCONT")
      yield* Effect.sleep("2 seconds")
      yield* lease.ensureHeld
      assert.isUndefined(waiter.pollUnsafe(), "the other is in beside the holder")
      yield* lease.release
      assert.strictEqual(yield* within(Fiber.join(waiter), 5_000), "in")
    }).pipe(Effect.scoped))
})
