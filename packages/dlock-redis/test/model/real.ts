/** Runs the scripts on a real server, and reads the result in the terms of the model. */
import { assert } from "@effect/vitest"
import type { Redis } from "ioredis"
import { kindOf } from "../../src/internal/protocol/format.ts"
import { type Mark, type Script, textOfMark } from "../../src/internal/protocol/index.ts"
import type { LockKeys } from "../../src/internal/protocol/keys.ts"
import type * as Model from "./server.ts"

/** One tick in milliseconds. It is so long that the real duration of a walk rounds to nothing. */
export const tick = 100_000

/** The text of every mark in a walk. */
export const mark: Mark = { by: "an operator; or |", why: "because" }
const markText = textOfMark(mark)

export const labelOf = (id: string): string => `of|${id}: `

export const run = async <Args, Reply>(redis: Redis, script: Script<Args, Reply>, args: Args): Promise<Reply> => {
  const call = script.encode(args)
  const rest = [...call.keys, ...call.args]
  const raw = await redis.evalsha(script.sha, call.keys.length, ...rest).catch((error: Error) => {
    if (!error.message.startsWith("NOSCRIPT")) throw error
    return redis.eval(script.lua, call.keys.length, ...rest)
  })
  return script.decode(raw)
}

const ticksOf = (ms: number): number => ms === -1 ? Infinity : Math.ceil(ms / tick)

/** What the model does not contain: the tokens themselves, and whether the counter exists. */
export interface Real {
  readonly server: Pick<Model.Server, "foreign" | "holders" | "queue" | "tombstones">
  readonly tokens: ReadonlyMap<string, bigint>
  readonly counter: bigint | undefined
}

const pairs = (flat: ReadonlyArray<string>): ReadonlyArray<readonly [string, string]> =>
  Array.from({ length: flat.length / 2 }, (_, index) => [flat[index * 2] as string, flat[index * 2 + 1] as string])

type Parts = readonly [string, string, string, string, string, string, string, string, string, ...ReadonlyArray<string>]

const partsOf = (value: string): Parts => value.split("|") as unknown as Parts

/** Compares the sums over the shared holders with a count of all of them. */
const assertSums = (sums: string | null, details: Record<string, string>, holders: number): void => {
  const all = Object.values(details).map(partsOf)
  assert.strictEqual(all.length, holders, "as many values as holders")
  if (sums === null) return assert.strictEqual(holders, 0, "holders without their sums")
  const [, kind, count, permits, token, name, progress, capacities] = partsOf(sums)
  const counted = new Map<string, number>()
  for (const [, , , capacity] of all) counted.set(capacity, (counted.get(capacity) ?? 0) + 1)
  assert.deepStrictEqual({
    kinds: new Set(all.map(([, , , , kind]) => kind)),
    count: Number(count),
    permits: Number(permits),
    names: new Set(all.map(([, , , , , name]) => name)),
    progress,
    capacities: capacities.split(",").toSorted()
  }, {
    kinds: new Set([kind]),
    count: all.length,
    permits: all.reduce((sum, [, , permits]) => sum + Number(permits), 0),
    names: new Set([name]),
    progress: "-",
    capacities: Array.from(counted, ([capacity, number]) => `${capacity}:${number}`).toSorted()
  })
  for (const [, its] of all) assert.isAtLeast(Number(token), Number(its))
}

/** The inbox of a holder, and from when on it is never extended. A moment that has passed counts as now. */
const inboxIn = (
  where: string,
  now: number
): { readonly inbox: string; readonly mark: { readonly moment: number } | undefined } => {
  const [inbox, moment, text] = where.split(";") as [string, string | undefined, string | undefined]
  if (moment === undefined) return { inbox, mark: undefined }
  assert.strictEqual(text, markText)
  return { inbox, mark: { moment: ticksOf(Math.max(0, Number(moment) - now)) } }
}

/**
 * Reads every key of the lock. Times are ticks from now. Also asserts the rules that the keys must keep on their own.
 */
export const readState = async (redis: Redis, keys: LockKeys, ids: ReadonlyArray<string>): Promise<Real> => {
  const { counter, deadlines, holders, lock, parked, queue, totals, values, waiters } = keys
  const results = await redis.multi()
    .time()
    .get(lock)
    .pttl(lock)
    .get(counter)
    .pttl(counter)
    .zrange(queue, "0", "-1", "WITHSCORES")
    .zrange(parked, "0", "-1", "WITHSCORES")
    .zrange(deadlines, "0", "-1", "WITHSCORES")
    .hgetall(waiters)
    .zrange(holders, "0", "-1", "WITHSCORES")
    .hgetall(values)
    .get(totals)
    .pttl(queue)
    .pttl(deadlines)
    .pttl(waiters)
    .pttl(parked)
    .pttl(holders)
    .pttl(values)
    .pttl(totals)
    .exec()
  const [time, value, pttl, last, lastPttl, queued, resting, due, wanted, expiries, details, sums, ...lives] =
    (results ?? [])
      .map(
        ([error, result]) => {
          if (error !== null) throw error
          return result
        }
      ) as [
        [string, string],
        string | null,
        number,
        string | null,
        number,
        Array<string>,
        Array<string>,
        Array<string>,
        Record<string, string>,
        Array<string>,
        Record<string, string>,
        string | null,
        ...Array<number>
      ]
  const now = Number(time[0]) * 1_000 + Number(time[1]) / 1_000
  const tombstones = await Promise.all(
    ids.map(async (id) => ({ id, until: ticksOf(await redis.pttl(keys.tombstone(id))) }))
  )
  const tokens = new Map<string, bigint>()
  const held: Array<Model.Holder> = []
  const own = value === null ? null : /^([\w-]{22}):(\d+):([^|]*)\|(.*)$/s.exec(value)
  if (own !== null) {
    const [, id, token, where, label] = own as unknown as [string, string, string, string, string]
    const { inbox, mark } = inboxIn(where, now)
    assert.strictEqual(label, labelOf(id))
    assert.isAbove(pttl, 0)
    tokens.set(id, BigInt(token))
    held.push({ id, inbox, token: 0, kind: "mutex", permits: 1, capacity: 1, expiry: ticksOf(pttl), ...mark })
  }
  assertSums(sums, details, expiries.length / 2)
  for (const [id, expiry] of pairs(expiries)) {
    if (Number(expiry) <= now) continue
    const [, token, permits, capacity, kind, , where] = partsOf(details[id] ?? assert.fail(`half a holder: ${id}`))
    const { inbox, mark } = inboxIn(where, now)
    tokens.set(id, BigInt(token))
    held.push({
      id,
      inbox,
      token: 0,
      kind: kindOf(kind),
      permits: Number(permits),
      capacity: Number(capacity),
      expiry: ticksOf(Number(expiry) - now),
      ...mark
    })
  }
  const deadline = new Map(pairs(due).map(([id, at]) => [id, Number(at) - now]))
  const order = [
    ...pairs(queued).map(([id, score]) => ({ id, score: Number(score), parked: false })),
    ...pairs(resting).map(([id, score]) => ({ id, score: Number(score), parked: true }))
  ].sort((a, b) => a.score - b.score)
  assert.strictEqual(new Set(order.map(({ id }) => id)).size, order.length, "queued and parked")
  const waiting = order.flatMap(({ id, parked, score }) => {
    const left = deadline.get(id)
    const fields = wanted[id]
    if (left === undefined || fields === undefined) return assert.fail(`half a waiter: ${id}`)
    if (left <= 0) return []
    const [, inbox, , guard, kind, permits, capacity, listening, group] = partsOf(fields)
    return [{
      id,
      inbox,
      deadline: ticksOf(left),
      guard: Number(guard) / tick,
      kind: kindOf(kind),
      permits: Number(permits),
      capacity: Number(capacity),
      listening: listening === "1",
      arrival: score,
      parked,
      ...(group === "1" && { isGrouped: true as const })
    }]
  })
  assert.deepStrictEqual(
    Array.from(deadline).filter(([, left]) => left > 0).map(([id]) => id).sort(),
    waiting.map(({ id }) => id).sort(),
    "half a waiter"
  )
  assert.sameMembers(Object.keys(wanted), Array.from(deadline.keys()))

  // Every key expires, and no companion key expires before the data that it belongs to.
  const lastDeadline = Math.max(0, ...deadline.values())
  const lastParked = Math.max(0, ...pairs(resting).map(([id]) => deadline.get(id) ?? 0))
  const lastExpiry = Math.max(0, ...pairs(expiries).map(([, at]) => Number(at) - now))
  if (last !== null) assert.isAbove(lastPttl, 0)
  lives.forEach((life, index) => {
    assert.notStrictEqual(life, -1, `companion ${index} never expires`)
    if (life >= 0) assert.isAtLeast(life + 2, index < 3 ? lastDeadline : index === 3 ? lastParked : lastExpiry)
  })
  return {
    server: {
      foreign: value !== null && own === null ? ticksOf(pttl) : undefined,
      holders: held,
      queue: waiting,
      tombstones: tombstones.filter(({ until }) => until > 0)
    },
    tokens,
    counter: last === null ? undefined : BigInt(last)
  }
}

/** Lets `ticks` pass on the server, by moving every expiry of this lock closer by that time. */
export const advance = async (
  redis: Redis,
  keys: LockKeys,
  ids: ReadonlyArray<string>,
  ticks: number
): Promise<void> => {
  const by = ticks * tick
  const { counter, deadlines, holders, lock, parked, queue, totals, values, waiters } = keys
  for (const key of [deadlines, holders]) {
    for (const id of await redis.zrange(key, "0", "-1")) await redis.zincrby(key, -by, id)
  }
  const sooner = (value: string): string =>
    value.replace(/^([^;]*;)(\d+)(;)/, (_, start, moment, end) => start + (Number(moment) - by) + end)
  const value = await redis.get(lock)
  if (value !== null && /^[\w-]{22}:\d+:[^|]*;\d+;/.test(value)) await redis.set(lock, sooner(value), "KEEPTTL")
  for (const [id, one] of Object.entries(await redis.hgetall(values))) {
    if (/^(?:[^|]*\|){6}[^|]*;\d+;/.test(one)) await redis.hset(values, id, sooner(one))
  }
  for (
    const key of [
      lock,
      counter,
      queue,
      deadlines,
      waiters,
      parked,
      holders,
      totals,
      values,
      ...ids.map((id) => keys.tombstone(id))
    ]
  ) {
    const life = await redis.pttl(key)
    if (life > by) await redis.pexpire(key, life - by)
    else if (life >= 0) await redis.del(key)
  }
}
