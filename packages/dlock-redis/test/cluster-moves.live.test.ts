import { assert, describe, it } from "@effect/vitest"
import { command, type Server, startCluster } from "dlock-testing"
import { Context, Duration, Effect, Fiber, Layer, References, Scope, Stream } from "effect"
import { RedisLockStore } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { type Claim, LockStore } from "effect-dlock/LockStore"
import { eventually, group, locker, plainClient, within } from "./support.ts"

const cluster = group(() => startCluster())

/**
 * Moves the slot of `{dlock:k}` to the next node, as `redis-cli --cluster reshard` does: key by key, in the order that
 * `rank` gives, with a pause after each key.
 */
const moveSlot = (servers: ReadonlyArray<Server>, rank: (key: string) => number, pauseMs: number) =>
  Effect.scoped(Effect.gen(function*() {
    const nodes = yield* Effect.forEach(servers, ({ url }) => plainClient(url))
    yield* Effect.promise(async () => {
      const slot = await nodes[0]!.cluster("KEYSLOT", "dlock:k")
      const ids = await Promise.all(nodes.map((node) => node.cluster("MYID") as Promise<string>))
      const keys = await Promise.all(
        nodes.map((node) => node.cluster("GETKEYSINSLOT", slot, 100) as Promise<Array<string>>)
      )
      const from = keys.findIndex((found) => found.length > 0)
      const to = (from + 1) % servers.length
      const say = async (at: number, line: string) => {
        const reply = await command(servers[at]!.port, line)
        if (reply.startsWith("-")) throw new Error(`${line}: ${reply}`)
      }
      await say(to, `CLUSTER SETSLOT ${slot} IMPORTING ${ids[from]}`)
      await say(from, `CLUSTER SETSLOT ${slot} MIGRATING ${ids[to]}`)
      for (const key of keys[from]!.toSorted((a, b) => rank(a) - rank(b))) {
        await nodes[from]!.migrate("127.0.0.1", servers[to]!.port, key, 0, 1_000)
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
      for (let at = 0; at < servers.length; at++) await say(at, `CLUSTER SETSLOT ${slot} NODE ${ids[to]}`)
    })
  }))

describe("a locker on a cluster whose slots move", () => {
  it.live("keeps a lock while its slot moves to another node, and lets others in afterwards", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const { scoped, withLock } = yield* locker({ cluster: servers.map(({ port }) => `127.0.0.1:${port}`) })
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(scoped("k", { ttl: "2 seconds" }), scope)
      const waiter = yield* Effect.forkChild(withLock("k", (lease) => Effect.succeed(lease.fencingToken)), {
        startImmediately: true
      })
      const nodes = yield* Effect.forEach(servers, ({ url }) => plainClient(url))
      yield* eventually("it waits", async () => {
        const queued = await Promise.all(nodes.map((node) => node.zcard("{dlock:k}:\0q").catch(() => 0)))
        return queued.includes(1)
      })
      // Moves the lock first. For a while, its companion keys are on the other node.
      yield* moveSlot(servers, (key) => key === "dlock:k" ? 0 : 1, 700)
      yield* lease.ensureHeld
      yield* Effect.sleep("1 second")
      yield* lease.ensureHeld
      assert.isUndefined(waiter.pollUnsafe())
      yield* lease.release
      assert.isTrue((yield* within(Fiber.join(waiter), 5_000)) > lease.fencingToken)
      yield* withLock("k", Effect.void, { timeout: "1 second" })
    }).pipe(Effect.scoped))

  it.live("renews locks of one slot that are on both sides of the move", () =>
    Effect.gen(function*() {
      const { servers } = yield* cluster
      const { scoped } = yield* locker({ cluster: servers.map(({ port }) => `127.0.0.1:${port}`) })
      const leases = yield* Effect.forEach(
        Array.from({ length: 10 }),
        (_, index) => scoped(`{dlock:k}${index}`, { ttl: "4 seconds" }),
        { concurrency: "unbounded" }
      )
      // Ten locks and their ten counters. For twice the ttl, some keys are on one node and some on the other.
      yield* moveSlot(servers, (key) => key.includes("\0") ? 1 : 0, 400)
      yield* Effect.forEach(leases, (lease) => lease.ensureHeld)
    }).pipe(Effect.scoped))
})

describe("the administration of locks on a cluster whose slots move", () => {
  it.live(
    "lists a lock that moves meanwhile or says that it cannot, and revokes it afterwards",
    () =>
      Effect.gen(function*() {
        const { servers } = yield* cluster
        const context = yield* Layer.build(
          RedisLockStore.layer({ cluster: servers.map(({ port }) => `127.0.0.1:${port}`) })
        ).pipe(Effect.provideService(References.MinimumLogLevel, "Error"))
        const [store, admin] = [Context.get(context, LockStore), Context.get(context, LockAdmin)]
        const claimOf = (key: string): Claim => ({
          id: key.padEnd(22, "_").slice(-22).replaceAll(/[^\w-]/g, "_"),
          key,
          prefix: "dlock:",
          kind: "mutex",
          permits: 1,
          capacity: 1,
          ttl: Duration.seconds(30),
          guardGap: Duration.seconds(3),
          holder: "me"
        })
        const keys = ["dlock:k", ...Array.from({ length: 20 }, (_, index) => `dlock:other:${index}`)]
        const tokens = new Map<string, bigint>()
        for (const key of keys) {
          const answer = yield* store.request(claimOf(key), "try")
          if (answer._tag !== "Granted") return assert.fail(answer._tag)
          tokens.set(key, answer.fencingToken)
        }
        const within = { key: "dlock:", prefix: "dlock:" }
        const listed = Effect.match(Stream.runCollect(admin.list(within)), {
          onSuccess: (states) => Array.from(new Set(states.map(({ key }) => key))).sort(),
          onFailure: ({ message, retryable }) => `${retryable ? "not now" : "never"}: ${message}`
        })
        assert.deepStrictEqual(yield* listed, keys.toSorted())
        const outcomes: Array<string> = []
        const listing = yield* Effect.forkChild(Effect.forever(Effect.map(listed, (found) => {
          if (typeof found === "string") assert.match(found, /^not now/)
          else assert.deepStrictEqual(found, keys.toSorted())
          outcomes.push(typeof found === "string" ? "refused" : "whole")
        })))
        yield* moveSlot(servers, (key) => key === "dlock:k" ? 0 : 1, 1_500)
        yield* Effect.sleep(1_000)
        assert.isUndefined(listing.pollUnsafe())
        yield* Fiber.interrupt(listing)
        const refused = outcomes.filter((outcome) => outcome === "refused").length
        console.log(`lists while a slot moved: ${outcomes.length - refused} whole, ${refused} refused`)
        assert.deepStrictEqual(yield* listed, keys.toSorted())
        for (const [key, token] of tokens) {
          const on = { key, prefix: "dlock:" }
          assert.strictEqual(yield* admin.revoke(on, { token: token + 1n, grace: 0, by: "me" }), "notHeld")
          assert.strictEqual(yield* admin.revoke(on, { token, grace: 0, by: "me" }), "asked")
          const [renewal] = yield* store.renew([{ claim: claimOf(key), fencingToken: token }])
          assert.strictEqual(renewal?._tag, "Revoked", key)
          assert.isTrue(yield* admin.breakLock(on, token))
        }
        assert.deepStrictEqual(yield* listed, [])
      }).pipe(Effect.scoped),
    60_000
  )
})
