import { Effect } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { now } from "../events.ts"
import type { Outcome } from "../events.ts"
import { subjectOf } from "./promised.ts"
import type { Ask, Make } from "./subject.ts"

const same = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "

/**
 * A lock with every rule right but one: a deadline that counts from the sending, a release and a renewal that compare,
 * a clean-up, and a client with the options that it comes with.
 */
const run = async (
  redis: Redis,
  { key, timeout, ttl, way }: Ask,
  stop: AbortSignal,
  body: (lost: AbortSignal) => Promise<void>
): Promise<Outcome> => {
  const value = randomUUID()
  const until = now() + (way === "try" ? 0 : timeout ?? Infinity)
  const release = () => redis.eval(`${same} return redis.call('DEL', KEYS[1])`, 1, key, value)
  let confirmedAt: number
  while (true) {
    confirmedAt = now()
    if (await redis.set(key, value, "PX", ttl + 100, "NX") === "OK") break
    if (now() >= until || stop.aborted) return way === "try" ? "busy" : "timeout"
    await sleep(30)
  }
  const lost = new AbortController()
  const timer = setInterval(() => {
    const sentAt = now()
    redis.eval(`${same} return redis.call('PEXPIRE', KEYS[1], ARGV[2])`, 1, key, value, ttl + 100).then((kept) => {
      if (kept === 1) confirmedAt = sentAt
      else lost.abort()
    }, () => {})
  }, ttl / 3)
  const watch = setInterval(() => {
    if (now() >= confirmedAt + ttl) lost.abort()
  }, 10)
  try {
    if (!stop.aborted) await body(AbortSignal.any([lost.signal, stop]))
    return lost.signal.aborted ? "lost" : "done"
  } catch {
    return lost.signal.aborted ? "lost" : "interrupted"
  } finally {
    clearInterval(timer)
    clearInterval(watch)
    await release()
  }
}

export const defaultClient: Make = (address) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Redis(address.kind === "redis" ? address.port : 0).on("error", () => {})),
      (redis) => Effect.sync(() => redis.disconnect())
    ),
    (redis) => subjectOf({ run: (ask, stop, body) => run(redis, ask, stop, body), close: async () => {} })
  )
