/**
 * Other lock libraries on one Redis, each as its documents say: the clients with the options that they come with, the
 * times scaled to a short time to live, and whatever signal of a loss there is.
 */
import { Redlock } from "@sesamecare-oss/redlock"
import { Effect, Option, Schedule } from "effect"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis"
import { Mutex } from "redis-semaphore"

export interface Ask {
  readonly key: string
  readonly ttl: number
  readonly timeout?: number
  readonly way: "with" | "scoped" | "try"
}

export type Outcome = "done" | "busy" | "timeout" | "lost" | "backend" | "interrupted"

/** What all of them come down to. `stop` is the caller's, `lost` the library's word that the lock has gone. */
export interface Promised {
  readonly run: (ask: Ask, stop: AbortSignal, body: (lost: AbortSignal) => Promise<void>) => Promise<Outcome>
  readonly close: () => Promise<void>
}

export const open = (name: "redis-semaphore" | "redlock" | "effect-distributed-lock", port: number): Promised => {
  const redis = new Redis(port, "127.0.0.1").on("error", () => {})
  const run = name === "redis-semaphore" ? semaphore(redis) : name === "redlock" ? redlock(redis) : effect3(redis)
  return { run, close: async () => redis.disconnect() }
}

const hours = 3_600_000

const semaphore = (redis: Redis): Promised["run"] => async ({ key, timeout, ttl, way }, stop, body) => {
  const lost = new AbortController()
  const mutex = new Mutex(redis, key, {
    lockTimeout: ttl,
    acquireTimeout: way === "try" ? ttl : timeout ?? hours,
    ...(way === "try" && { acquireAttemptsLimit: 1 }),
    onLockLost: () => lost.abort()
  })
  try {
    if (!await mutex.tryAcquire(stop)) return way === "try" ? "busy" : "timeout"
  } catch {
    return stop.aborted ? "interrupted" : "backend"
  }
  try {
    if (!stop.aborted) await body(AbortSignal.any([lost.signal, stop]))
    return lost.signal.aborted ? "lost" : "done"
  } catch {
    return lost.signal.aborted ? "lost" : "interrupted"
  } finally {
    await mutex.release().catch(() => {})
  }
}

const redlock = (redis: Redis): Promised["run"] => {
  const of = (retryCount: number) =>
    new Redlock([redis], { retryCount, retryDelay: 50, retryJitter: 20, automaticExtensionThreshold: 300 })
  return async ({ key, timeout, ttl, way }, stop, body) => {
    let entered = false
    let signal: AbortSignal | undefined
    const library = of(way === "try" ? 0 : timeout === undefined ? -1 : Math.ceil(timeout / 60))
    library.on("error", () => {})
    try {
      await library.using([key], Math.round(ttl), async (lost) => {
        entered = true
        signal = lost
        if (!stop.aborted) await body(AbortSignal.any([lost, stop])).catch(() => {})
      })
      return signal?.aborted === true ? "lost" : "done"
    } catch {
      return entered ? "lost" : way === "try" ? "busy" : "timeout"
    }
  }
}

const effect3 = (redis: Redis): Promised["run"] => {
  const layer = RedisBacking.layer(redis, { keyPrefix: "lock:" })
  return async ({ key, timeout, ttl, way }, stop, body) => {
    const program = Effect.gen(function*() {
      const lock = yield* DistributedSemaphore.make(key, {
        limit: 1,
        ttl,
        acquireRetryPolicy: Schedule.spaced(50),
        backingFailureRetryPolicy: Schedule.spaced(50).pipe(Schedule.compose(Schedule.recurs(3)))
      })
      let entered = false
      const section = Effect.promise((lost) => {
        entered = true
        return body(lost).catch(() => {})
      })
      const held = way === "try"
        ? Effect.map(lock.withPermitsIfAvailable(1)(section), Option.isSome)
        : Effect.as(lock.withPermits(1)(section), true)
      const limited = timeout === undefined
        ? held
        : Effect.raceFirst(
          held,
          Effect.sleep(timeout).pipe(Effect.zipRight(
            Effect.suspend(() => entered ? Effect.never : Effect.succeed(false))
          ))
        )
      return yield* limited.pipe(
        Effect.map((got): Outcome => got ? "done" : way === "try" ? "busy" : "timeout"),
        Effect.catchAll(() => Effect.succeed<Outcome>(entered ? "lost" : "backend"))
      )
    })
    return await Effect.runPromise(Effect.provide(program, layer), { signal: stop }).catch(
      (): Outcome => stop.aborted ? "interrupted" : "backend"
    )
  }
}
