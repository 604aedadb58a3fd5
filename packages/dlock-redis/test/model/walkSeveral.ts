/**
 * A random walk over two locks that are often acquired together. Each step runs in the model and on a real server, and
 * the test compares their answers and their states.
 */
import { assert } from "@effect/vitest"
import { random } from "dlock-testing/random"
import { readWriteCapacity } from "effect-dlock/LockStore"
import type { Redis } from "ioredis"
import * as Scripts from "../../src/internal/protocol/index.ts"
import { keysOf } from "../../src/internal/protocol/keys.ts"
import * as Real from "./real.ts"
import * as Model from "./server.ts"
import type { Walk } from "./walk.ts"

/** Two claims that were asked for together, or a single one. */
interface Asked {
  readonly claims: ReadonlyArray<{ readonly lock: number; readonly id: string }>
}

type Shape = Pick<Model.Holder, "kind" | "permits" | "capacity">

export const walkSeveral = async (redis: Redis, subscriber: Redis, seed: number, steps: number): Promise<Walk> => {
  const { below, chance, pick } = random(seed)
  // Of its own, so that every seed keeps its walk.
  const limits = random(seed + 1_000_000)
  const locks = [0, 1].map((index) => keysOf(`{several${seed}}:${index}`) ?? assert.fail("no common slot"))
  const kinds = locks.map(() => pick<Model.Kind>(["mutex", "mutex", "semaphore", "readWrite"]))
  const inboxes = [`inbox:several:${seed}:0`, `inbox:several:${seed}:1`] as const
  const subscribed = new Set<string>()
  const subscribers: Model.Subscribers = (inbox) => subscribed.has(inbox) ? 1 : 0
  const models = locks.map(() => Model.empty)
  const log: Array<string> = []
  const shapes = new Map<string, Shape>()
  let asked: Array<Asked> = []
  let born = 0
  let scripts = 0

  const fresh = (): string => `${"ab"[below(2)]}-${born++}`.padEnd(22, "_")
  const inboxOf = (id: string): string => inboxes[id.startsWith("a") ? 0 : 1]
  const shapeOf = (lock: number): Shape => {
    const kind = chance(0.03) ? pick<Model.Kind>(["mutex", "semaphore"]) : kinds[lock]!
    if (kind === "mutex") return { kind, permits: 1, capacity: 1 }
    if (kind === "readWrite") return { kind, permits: pick([1, 1, readWriteCapacity]), capacity: readWriteCapacity }
    const capacity = chance(0.8) ? 3 : 2
    return { kind, permits: 1 + below(capacity), capacity }
  }
  const ids = (): ReadonlyArray<string> => asked.flatMap(({ claims }) => claims.map(({ id }) => id))

  const sameStates = async (): Promise<void> => {
    for (const [index, keys] of locks.entries()) {
      const { now, holders, queue } = models[index]!
      const real = await Real.readState(redis, keys, ids())
      const byId = (a: { id: string }, b: { id: string }) => a.id < b.id ? -1 : 1
      assert.deepStrictEqual({
        holders: [...real.server.holders].sort(byId),
        queue: real.server.queue.map((waiter) => ({ ...waiter, arrival: 0 }))
      }, {
        holders: holders.map((one) => ({ ...one, token: 0, expiry: one.expiry - now })).sort(byId),
        queue: queue.map((waiter) => ({ ...waiter, arrival: 0, deadline: waiter.deadline - now }))
      })
    }
  }

  const step = async (): Promise<void> => {
    const dice = below(100)
    const ttl = 2 + below(2)
    const guard = below(2)
    const real = { ttl: ttl * Real.tick, guard: guard * Real.tick }
    const known = asked.length > 0 ? pick(asked) : undefined
    if (dice < 45) {
      const isSeveral = chance(0.7)
      const again = chance(0.3) ? known : undefined
      const first = fresh()
      const mine: Asked = again ?? {
        claims: (isSeveral ? chance(0.5) ? [0, 1] : [1, 0] : [below(2)]).map((lock, nth) => ({
          lock,
          id: nth === 0 ? first : `${first[0]}-${born++}`.padEnd(22, "_")
        }))
      }
      if (again === undefined) asked = [mine, ...asked].slice(0, 5)
      const inbox = inboxOf(mine.claims[0]!.id)
      const mode = chance(0.25) ? "try" : "queue"
      for (const { id, lock } of mine.claims) if (!shapes.has(id)) shapes.set(id, shapeOf(lock))
      const claims = mine.claims.map(({ id }) => ({ id, ttl, guard, ...shapes.get(id)! }))
      const before = mine.claims.map(({ lock }) => models[lock]!)
      const maxQueue = limits.chance(0.2) ? limits.below(4) : undefined
      const { reply, steps } = Model.acquireAll(before, { inbox, mode, maxQueue, claims }, subscribers)
      log.push(`acquireAll ${mode} ${JSON.stringify(claims)} -> ${JSON.stringify(reply)}`)
      steps.forEach(({ server }, nth) => (models[mine.claims[nth]!.lock] = server))
      const got = await Real.run(redis, Scripts.acquireAll, {
        inbox,
        mode,
        maxQueue,
        claims: mine.claims.map(({ id, lock }) => ({
          keys: locks[lock]!,
          id,
          ...real,
          ...shapes.get(id)!,
          label: Real.labelOf(id)
        }))
      })
      scripts++
      assert.strictEqual(got._tag, reply._tag)
      if ("claims" in got && "claims" in reply) {
        assert.deepStrictEqual<unknown>(got.claims.map((one) => one?._tag), reply.claims.map((one) => one?._tag))
        got.claims.forEach((one, nth) => {
          const ours = reply.claims[nth]
          if (one?._tag === "Queued" && ours?._tag === "Queued") {
            assert.deepStrictEqual([one.place, one.length], [ours.place, ours.length])
          }
        })
      }
    } else if (dice < 60) {
      const lock = below(2)
      const claims = asked.flatMap(({ claims }) => claims.filter((one) => one.lock === lock))
      const inbox = pick(inboxes)
      const its = claims.filter(({ id }) => inboxOf(id) === inbox && chance(0.7)).map(({ id }) => ({ id, ttl, guard }))
      const { reply, server } = Model.refresh(models[lock]!, { inbox, claims: its }, subscribers)
      log.push(`refresh ${lock} ${its.map(({ id }) => id).join()} -> ${JSON.stringify(reply)}`)
      models[lock] = server
      const [got] = await Real.run(redis, Scripts.refresh, {
        inbox,
        locks: [{ keys: locks[lock]!, kind: undefined, claims: its.map(({ id }) => ({ id, ...real })) }]
      })
      scripts++
      assert(got?._tag === "Refreshed")
      assert.deepStrictEqual(got.claims.map(({ _tag }) => _tag), reply.map(({ _tag }) => _tag))
    } else if (dice < 80) {
      if (known === undefined) return
      // Mostly all claims that were asked for together leave together, and sometimes one is deleted.
      const leaving = chance(0.8) ? known.claims : [pick(known.claims)]
      const tombstone = chance(0.15)
      const isTogether = !tombstone && leaving.length > 1
      if (isTogether) {
        const claims = leaving.map(({ id, lock }) => ({ keys: locks[lock]!, id, kind: shapes.get(id)!.kind }))
        const ours = leaving.map(({ id, lock }) => {
          const args = { id, tombstone, interop: false }
          const released = Model.release(models[lock]!, args, Scripts.tombstoneTtl / Real.tick, subscribers)
          models[lock] = released.server
          return released.reply
        })
        log.push(`releaseAll ${JSON.stringify(leaving)} -> ${JSON.stringify(ours)}`)
        const got = await Real.run(redis, Scripts.releaseAll, { claims })
        scripts++
        got.forEach((one, nth) => {
          const { _tag, ...reply } = ours[nth]!
          assert.strictEqual(one._tag, _tag)
          if ("length" in one && "length" in reply) assert.strictEqual(one.length, reply.length)
        })
      }
      for (const { id, lock } of isTogether ? [] : leaving) {
        const args = { id, tombstone, interop: false }
        const released = Model.release(models[lock]!, args, Scripts.tombstoneTtl / Real.tick, subscribers)
        log.push(`release ${JSON.stringify(args)} -> ${JSON.stringify(released.reply)}`)
        models[lock] = released.server
        await Real.run(redis, Scripts.release, { keys: locks[lock]!, kind: undefined, ...args })
        scripts++
      }
    } else if (dice < 90) {
      const ticks = 1 + below(2)
      log.push(`advance ${ticks}`)
      for (const [index, keys] of locks.entries()) {
        models[index] = Model.advance(models[index]!, ticks)
        await Real.advance(redis, keys, ids(), ticks)
      }
    } else {
      const inbox = pick(inboxes)
      log.push(`subscription of ${inbox}`)
      if (subscribed.delete(inbox)) await subscriber.unsubscribe(inbox)
      else {
        await subscriber.subscribe(inbox)
        subscribed.add(inbox)
      }
    }
    await sameStates()
  }

  try {
    for (let number = 0; number < steps; number++) await step()
  } catch (error) {
    throw new Error(`seed ${seed} after ${log.length} steps:\n${log.slice(-8).join("\n")}\n${String(error)}`, {
      cause: error
    })
  } finally {
    await subscriber.unsubscribe(...inboxes)
  }
  return { steps: log.length, scripts }
}
