/**
 * A random walk. Each step runs in the model and on a real server, and the test compares their answers and their
 * states.
 */
import { assert } from "@effect/vitest"
import { random } from "dlock-testing/random"
import { readWriteCapacity } from "effect-dlock/LockStore"
import type { Redis } from "ioredis"
import * as Scripts from "../../src/internal/protocol/index.ts"
import { keysOf } from "../../src/internal/protocol/keys.ts"
import * as Real from "./real.ts"
import * as Model from "./server.ts"

const tombstoneTtl = Scripts.tombstoneTtl / Real.tick
const lockNames = ["plain", "a:b|c", "{tag}x", "{open", "x{y}z}", "ä€😀 \n"]
const foreignValues = ["7c0e3b1e-9f5a-4a39-8d1e-0a4c8d2f6b11", "A".repeat(22), "not:ours:1", "worker:42:job", ""]

const kinds: ReadonlyArray<Model.Kind> = ["mutex", "semaphore", "readWrite"]

/** Holders that expire in one millisecond have no order. */
const sorted = (message: string): string =>
  message.startsWith("c:") ? `c:${message.slice(2).split(",").sort().join()}` : message

/** A reply to a renewal as the model has it. */
const tagOf = (reply: Scripts.RenewReply): Model.RenewReply =>
  typeof reply !== "object" ? reply : reply._tag === "Asked" ? "asked" : "revoked"

export interface Walk {
  readonly steps: number
  readonly scripts: number
}

export const walk = async (redis: Redis, subscriber: Redis, seed: number, steps: number): Promise<Walk> => {
  const { below, chance, pick } = random(seed)
  // Of their own, so that every seed keeps its walk.
  const limits = random(seed + 1_000_000)
  const operator = random(seed + 2_000_000)
  const kind: Model.Kind = chance(0.5) ? "mutex" : chance(0.7) ? "semaphore" : "readWrite"
  const keys = keysOf(`${pick(lockNames)}${seed}`)
  if (keys === undefined) return assert.fail("no common slot")
  const inboxes = [`inbox:${seed}:0`, `inbox:${seed}:1`] as const
  const subscribed = new Set<string>()
  const heard: Array<string> = []
  const hear = (channel: string, message: string) => {
    if (channel.startsWith(`inbox:${seed}:`)) heard.push(message)
  }
  subscriber.on("message", hear)

  let model = Model.empty
  let counter = false
  let born = 0
  let ids: Array<string> = []
  const tokens: Array<bigint> = [0n]
  let greatestFloor = 0n
  let scripts = 0
  /** The recent holders, including those that no longer hold. */
  let held: Array<Model.Holder> = []
  const log: Array<string> = []

  const fresh = (): string => {
    const id = `${"abcdef"[below(6)]}-${born++}`.padEnd(22, "_")
    ids = [id, ...ids].slice(0, 7)
    return id
  }
  const someId = (): string => ids.length > 3 || chance(0.5) && ids.length > 0 ? pick(ids) : fresh()
  const inboxOf = (id: string): string => inboxes[Number(id.charCodeAt(0) % 2) as 0 | 1]
  const subscribers: Model.Subscribers = (inbox) => subscribed.has(inbox) ? 1 : 0

  /** The kind that a client names: a mutex, otherwise unknown. */
  const known = (): Model.Kind | undefined =>
    chance(0.8) && [...model.holders, ...model.queue].every((one) => one.kind === "mutex") ? "mutex" : undefined

  /** What a claim asks for. The claims of a semaphore need not know the same capacity. */
  const anyShape = (): Pick<Model.Holder, "kind" | "permits" | "capacity"> => {
    const chosen = chance(0.05) ? pick(kinds) : kind
    if (chosen === "mutex") return { kind: chosen, permits: 1, capacity: 1 }
    const capacity = chosen === "readWrite" ? readWriteCapacity : chance(0.7) ? 3 : 1 + below(4)
    const permits = chosen === "readWrite" ? pick([1, 1, capacity]) : 1 + below(capacity)
    return { kind: chosen, permits, capacity }
  }

  const token = (number: number): bigint => tokens[number] ?? assert.fail(`token ${number} is not known`)

  /** The model's tokens count up from 1. The server's tokens only have to grow. */
  const learn = (number: number, real: bigint): void => {
    if (tokens[number] === undefined) {
      assert.strictEqual(number, tokens.length)
      assert.isTrue(real > token(number - 1), "a token did not grow")
      assert.isTrue(real > greatestFloor, "a token is not above an earlier floor")
      tokens.push(real)
    }
    assert.strictEqual(token(number), real)
  }

  const sameSituation = (real: { length: number; holder: Scripts.Holder | undefined }, ours: Model.Situation): void => {
    assert.strictEqual(real.length, ours.length)
    assert.strictEqual(real.holder?.foreign ?? false, ours.holder === "foreign")
    if (real.holder === undefined || ours.holder === undefined) {
      assert.strictEqual(real.holder, ours.holder as undefined)
      return
    }
    const remaining = real.holder.remaining === -1 ? Infinity : Math.ceil(real.holder.remaining / Real.tick)
    assert.strictEqual(remaining, ours.remaining)
    const first = model.holders.filter((one) => one.expiry - model.now === remaining).map((one) => Real.labelOf(one.id))
    assert.include(ours.holder === "foreign" ? [""] : first, real.holder.label)
  }

  const sameReply = (
    real: Scripts.AcquireReply | Scripts.Granted | Scripts.Queued | Scripts.Gone,
    ours: Model.AcquireReply
  ): void => {
    assert.strictEqual(real._tag, ours._tag)
    if (real._tag === "Granted" && ours._tag === "Granted") {
      learn(ours.token, real.token)
      assert.strictEqual(real.isContended, Model.isContended(model), "whether others wait behind a grant")
    }
    if (real._tag === "Queued" && ours._tag === "Queued") {
      sameSituation(real, ours)
      assert.strictEqual(real.place, ours.place)
      assert.isTrue(real.floor >= token(ours.floor), "a floor below a token that was granted before")
      if (real.floor > greatestFloor) greatestFloor = real.floor
    }
    if (real._tag === "Busy" && ours._tag === "Busy") sameSituation(real, ours)
  }

  const sameState = async (): Promise<void> => {
    const real = await Real.readState(redis, keys, ids)
    const now = model.now
    const byToken = [...model.holders].sort((a, b) => a.token - b.token)
    for (const one of byToken) learn(one.token, real.tokens.get(one.id) ?? assert.fail(`not held: ${one.id}`))
    const byId = (a: { id: string }, b: { id: string }) => a.id < b.id ? -1 : 1
    assert.deepStrictEqual({
      foreign: real.server.foreign,
      holders: [...real.server.holders].sort(byId),
      queue: real.server.queue.map((waiter) => ({ ...waiter, arrival: 0 })),
      tombstones: [...real.server.tombstones].sort(byId)
    }, {
      foreign: model.foreign === undefined ? undefined : model.foreign - now,
      holders: model.holders.map(({ moment, ...one }) => ({
        ...one,
        token: 0,
        expiry: one.expiry - now,
        ...(moment !== undefined && { moment: Math.max(0, moment - now) })
      })).sort(byId),
      queue: model.queue.map((waiter) => ({ ...waiter, arrival: 0, deadline: waiter.deadline - now })),
      tombstones: model.tombstones.filter((tombstone) => ids.includes(tombstone.id))
        .map((tombstone) => ({ id: tombstone.id, until: Math.ceil(tombstone.until - now) })).sort(byId)
    })
    assert.strictEqual(real.counter, counter ? tokens.at(-1) : undefined)
  }

  const textOf = ({ id, isContended, token: number }: Model.Notification): string =>
    number === undefined ? `w:${keys.lock}` : `g:${id}:${isContended ? "0" : ""}${token(number)}:${keys.lock}`

  const sameNotifications = async (
    { notifications, rings }: Pick<Model.Step<unknown>, "notifications" | "rings">,
    first: ReadonlyArray<string> = []
  ): Promise<void> => {
    const isHeard = ({ inbox }: { readonly inbox: string }): boolean => subscribed.has(inbox)
    const expected = [
      ...first,
      ...notifications.filter(isHeard).map(textOf),
      ...rings.filter(isHeard).map(({ ids }) => sorted(`c:${ids.join()}`))
    ]
    const deadline = Date.now() + 2_000
    while (heard.length < expected.length && Date.now() < deadline) await new Promise((go) => setImmediate(go))
    assert.deepStrictEqual(heard.splice(0).map(sorted), expected)
    for (const notification of notifications) {
      if (notification.token === undefined) continue
      assert.deepStrictEqual(Scripts.decodeNotification(textOf(notification)), {
        _tag: "Granted",
        id: notification.id,
        token: token(notification.token),
        isContended: notification.isContended,
        lock: keys.lock
      })
    }
    for (const { ids } of rings) {
      assert.deepStrictEqual(Scripts.decodeNotification(`c:${ids.join()}`), { _tag: "Contended", ids })
    }
  }

  /** Runs a script on both sides. Sometimes it runs twice, and the second run must not change anything. */
  const both = async <Reply, Ours>(
    name: string,
    ours: () => Model.Step<Ours>,
    real: () => Promise<Reply>,
    same: (real: Reply, ours: Ours) => void
  ): Promise<void> => {
    const repeat = chance(0.2)
    for (let time = 0; time < (repeat ? 2 : 1); time++) {
      const before = model
      const step = ours()
      log.push(`${name} -> ${JSON.stringify(step.reply)}`)
      model = step.server
      held = [...model.holders, ...held].slice(0, 6)
      if (step.grants.length > 0) counter = true
      const reply = await real()
      scripts++
      await sameState()
      same(reply, step.reply)
      await sameNotifications(step)
      if (time === 1) assert.deepStrictEqual(model, { ...before })
    }
  }

  const step = async (): Promise<void> => {
    const dice = below(100)
    const ttl = 2 + below(2)
    const guard = below(2)
    const real = { ttl: ttl * Real.tick, guard: guard * Real.tick }
    if (dice < 32) {
      const id = chance(0.45) ? fresh() : someId()
      const inbox = inboxOf(id)
      const before = [...model.queue, ...held].find((one) => one.id === id)
      const shape = before === undefined || chance(0.05) ? anyShape() : before
      const mode = chance(0.2) ? "try" : "queue"
      const { capacity, kind, permits } = shape
      const isStrict = chance(0.1)
      const maxQueue = limits.chance(0.2) ? limits.below(4) : undefined
      const args = { id, inbox, kind, permits, capacity, isStrict, mode, maxQueue, ttl, guard } as const
      await both(
        `acquire ${JSON.stringify(args)}`,
        () => Model.acquire(model, args, subscribers),
        () => Real.run(redis, Scripts.acquire, { ...args, ...real, keys, label: Real.labelOf(id) }),
        sameReply
      )
    } else if (dice < 46) {
      const inbox = pick(inboxes)
      const claims = [...new Set([someId(), someId(), someId()])].filter((id) => inboxOf(id) === inbox)
      const said = known()
      await both(
        `refresh ${inbox} ${claims.join()}`,
        () => Model.refresh(model, { inbox, claims: claims.map((id) => ({ id, ttl, guard })) }, subscribers),
        () =>
          Real.run(redis, Scripts.refresh, {
            inbox,
            locks: [{ keys, kind: said, claims: claims.map((id) => ({ id, ...real })) }]
          }),
        ([reply], ours) => {
          if (reply?._tag !== "Refreshed") return assert.fail(reply?.message)
          const { claims: replies, more } = reply
          assert.isFalse(more)
          assert.strictEqual(replies.length, ours.length)
          replies.forEach((reply, index) => sameReply(reply, ours[index] as Model.ClaimReply))
        }
      )
    } else if (dice < 56) {
      const now = model.holders.length > 0 && chance(0.5) ? pick(model.holders) : undefined
      const once = now ?? (held.length > 0 && chance(0.7) ? pick(held) : undefined)
      const id = once?.id ?? someId()
      const number = once !== undefined && chance(0.9) ? once.token : below(tokens.length)
      const { capacity, kind, permits } = model.holders.find((one) => one.id === id) ?? once ?? anyShape()
      const args = { id, token: number, ttl, guard, kind, permits, capacity, isWatched: chance(0.4) }
      const claim = { ...args, ...real, keys, token: token(number) }
      if (kind !== "mutex" && chance(0.4)) {
        const kept = 1 + below(3)
        await both(
          `shrink ${JSON.stringify(args)} to ${kept}`,
          () => Model.shrink(model, args, kept, subscribers),
          () => Real.run(redis, Scripts.shrink, { ...claim, kept }),
          ({ more, outcome }, ours) => {
            assert.strictEqual(tagOf(outcome), ours)
            assert.isFalse(more)
          }
        )
      } else {
        await both(
          `renew ${JSON.stringify(args)}`,
          () => Model.renew(model, args),
          () => Real.run(redis, Scripts.renew, { claims: [claim] }),
          ([reply], ours) => assert.strictEqual(tagOf(reply!), ours)
        )
      }
    } else if (dice < 74) {
      const id = model.holders.length > 0 && chance(0.6) ? pick(model.holders).id : someId()
      const args = { id, tombstone: chance(0.3), interop: chance(0.15) }
      const said = known()
      await both(
        `release ${JSON.stringify(args)}`,
        () => Model.release(model, args, tombstoneTtl, subscribers),
        () => Real.run(redis, Scripts.release, { keys, kind: said, ...args }),
        (reply, ours) => {
          // A shared holder that expired a moment ago may still count as one that is released.
          const hadExpired = held.some((one) => one.id === id && one.kind !== "mutex" && one.expiry <= model.now)
          if (reply._tag === "Released" && ours._tag !== "Released" && hadExpired) return
          // A second release finds nothing to release, so only the first replies of a pair are compared.
          assert.strictEqual(reply._tag, ours._tag)
          if (reply._tag !== "Released" && ours._tag !== "Released") sameSituation(reply, ours)
        }
      )
    } else if (dice < 84) {
      const ticks = 1 + below(2)
      log.push(`advance ${ticks}`)
      model = Model.advance(model, ticks)
      await Real.advance(redis, keys, ids, ticks)
      await sameState()
    } else if (dice < 89) {
      const inbox = pick(inboxes)
      log.push(`subscription of ${inbox}`)
      if (subscribed.delete(inbox)) {
        await subscriber.unsubscribe(inbox)
      } else {
        await subscriber.subscribe(inbox)
        subscribed.add(inbox)
      }
    } else if (dice < 93) {
      const forever = chance(0.2)
      const value = pick(foreignValues)
      log.push(`foreign SET NX ${value} ${forever ? "" : "PX"}`)
      model = Model.foreignSet(model, forever ? Infinity : model.now + 2)
      if (forever) await redis.set(keys.lock, value, "NX")
      else await redis.set(keys.lock, value, "PX", 2 * Real.tick, "NX")
      await sameState()
    } else if (dice < 96) {
      if (model.foreign === undefined) return
      log.push("foreign DEL")
      model = Model.foreignDel(model)
      await redis.del(keys.lock)
      await sameState()
    } else if (dice < 98) {
      log.push("the counter is lost")
      counter = false
      await redis.del(keys.counter)
      if (chance(0.5)) {
        log.push("and the sums of the holders")
        await redis.del(keys.totals)
        await Real.run(redis, Scripts.refresh, { inbox: inboxes[0], locks: [{ keys, kind: undefined, claims: [] }] })
        const step = Model.refresh(model, { inbox: inboxes[0], claims: [] }, subscribers)
        model = step.server
        counter = step.grants.length > 0
        await sameState()
        await sameNotifications(step)
      }
    } else if (dice < 99) {
      log.push("SCRIPT FLUSH")
      await redis.script("FLUSH")
    } else {
      log.push("everything is lost")
      counter = false
      model = Model.flush(model)
      const { deadlines, holders, lock, parked, queue, totals, values, waiters } = keys
      await redis.del(
        keys.counter,
        deadlines,
        holders,
        lock,
        parked,
        queue,
        totals,
        values,
        waiters,
        ...ids.map((id) => keys.tombstone(id))
      )
      ids = []
      await sameState()
    }
  }

  /** An operator asks a holder to leave, or breaks its lock, now and then with a token of an earlier hold. */
  const operate = async (): Promise<void> => {
    const once = operator.chance(0.7) && model.holders.length > 0 ? operator.pick(model.holders) : undefined
    const one = once ?? (held.length > 0 ? operator.pick(held) : undefined)
    if (one === undefined) return
    const { id } = one
    const number = operator.chance(0.9) ? one.token : operator.below(tokens.length)
    const holder = model.holders.find((other) => other.id === id && other.token === number)
    const found = await Real.run(redis, Scripts.findHold, { keys, token: token(number), cursor: "0" })
    const named = model.holders.find((other) => other.token === number)
    assert.deepStrictEqual(found, named === undefined ? { _tag: "NotHeld" } : { _tag: "Held", id: named.id })
    if (operator.chance(0.3)) {
      const interop = operator.chance(0.2)
      const step = Model.breakHold(model, { id, token: number, interop }, tombstoneTtl, subscribers)
      log.push(`break ${id} ${number} -> ${step.reply}`)
      model = step.server
      if (step.grants.length > 0) counter = true
      const reply = await Real.run(redis, Scripts.breakHold, { keys, id, token: token(number), interop })
      assert.deepStrictEqual(reply, { isBroken: step.reply, more: false })
      await sameState()
      await sameNotifications(step, step.reply && subscribed.has(one.inbox) ? [`b:${id}`] : [])
      return
    }
    const grace = operator.below(4)
    const before = holder?.moment ?? Infinity
    const step = Model.revoke(model, { id, token: number, grace }, subscribers)
    log.push(`revoke ${id} ${number} within ${grace} -> ${step.reply}`)
    model = step.server
    const args = { keys, id, token: token(number), grace: grace * Real.tick, mark: Real.mark }
    assert.strictEqual(await Real.run(redis, Scripts.revoke, args), step.reply)
    await sameState()
    if (holder === undefined || !subscribed.has(holder.inbox)) return sameNotifications(step)
    const deadline = Date.now() + 2_000
    while (heard.length === 0 && Date.now() < deadline) await new Promise((go) => setImmediate(go))
    const told = Scripts.decodeNotification(heard.shift() ?? assert.fail("the holder was not told"))
    assert.isTrue(told?._tag === "Asked" && told.id === id)
    assert.deepStrictEqual(told?._tag === "Asked" && told.mark, Real.mark)
    const left = Math.max(0, Math.min(before, model.now + grace) - model.now)
    assert.strictEqual(told?._tag === "Asked" && Math.ceil(told.grace / Real.tick), left)
    await sameNotifications(step)
  }

  /** What an operator sees is what there is. */
  const look = async (): Promise<void> => {
    const { now } = model
    const found = await Real.run(redis, Scripts.inspect, { keys }) ?? assert.fail("no lock")
    const shown = found.holders.filter(({ isForeign }) => !isForeign)
    assert.deepStrictEqual(
      shown.map(({ expiresIn, holder, isRevoked, permits, token: its }) => ({
        holder,
        permits,
        isRevoked,
        token: its,
        expiresIn: Math.ceil(expiresIn! / Real.tick)
      })).sort((a, b) => a.holder < b.holder ? -1 : 1),
      model.holders.map((one) => ({
        holder: Real.labelOf(one.id),
        permits: one.permits,
        isRevoked: one.moment !== undefined,
        token: token(one.token),
        expiresIn: one.expiry - now
      })).sort((a, b) => a.holder < b.holder ? -1 : 1)
    )
    assert.strictEqual(found.holders.length - shown.length, model.foreign === undefined ? 0 : 1)
    assert.strictEqual(found.holderCount, found.holders.length)
    const permits = found.holders.reduce((sum, one) => sum + one.permits, 0)
    assert.strictEqual(found.permitsHeld, permits)
    const waiting = model.queue.filter(({ parked }) => !parked)
    assert.deepStrictEqual(
      found.waiting,
      waiting.map(({ id, permits }) => ({ holder: Real.labelOf(id), permits }))
    )
    assert.strictEqual(found.queueLength, waiting.length)
    const first = model.holders[0] ?? (model.foreign === undefined ? waiting[0] : { kind: "mutex" })
    assert.strictEqual(found.kind, first?.kind)
    const capacities = model.holders.map(({ capacity }) => capacity)
    const capacity = capacities.length > 0
      ? Math.min(...capacities)
      : model.foreign === undefined
      ? waiting[0]?.capacity
      : 1
    assert.strictEqual(found.capacity, capacity)
  }

  /** Peeks for a holder that may have been replaced by now, or for a token that was never granted. */
  const peek = async (): Promise<void> => {
    const number = model.holders.length > 0 && chance(0.5) ? pick(model.holders).token : below(tokens.length)
    const others = await Real.run(redis, Scripts.peek, { locks: [{ keys, token: String(token(number)) }] })
    assert.deepStrictEqual(others, Model.hasHolder(model, number) ? [] : [1], `peek ${number}`)
  }

  try {
    for (let number = 0; number < steps; number++) {
      await step()
      if (chance(0.2)) await peek()
      if (operator.chance(0.08)) await operate()
      if (operator.chance(0.1)) await look()
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new Error(`DLOCK_SEED=${seed}, step ${log.length}: ${message}\n${log.slice(-12).join("\n")}`, {
      cause: error
    })
  } finally {
    subscriber.off("message", hear)
    if (subscribed.size > 0) await subscriber.unsubscribe(...subscribed)
  }
  return { steps, scripts }
}
