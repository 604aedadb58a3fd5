import { Redis } from "ioredis"
import { Mutex, Semaphore } from "redis-semaphore"
import { type Lock, promised } from "./contender.ts"

export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url)
  await redis.ping()
  const options = { lockTimeout: ttl, acquireTimeout: Infinity }
  return promised(async (key, body, shared) => {
    const lock = shared?.kind === "semaphore"
      ? new Semaphore(redis, key, shared.permits, options)
      : new Mutex(redis, key, options)
    await lock.acquire()
    try {
      await body()
    } finally {
      await lock.release()
    }
  }, async () => redis.disconnect())
}
