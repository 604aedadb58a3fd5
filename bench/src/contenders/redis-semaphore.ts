import { Redis } from "ioredis"
import { Mutex } from "redis-semaphore"
import { type Lock, promised } from "./contender.ts"

export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url)
  await redis.ping()
  return promised(async (key, body) => {
    const mutex = new Mutex(redis, key, { lockTimeout: ttl, acquireTimeout: Infinity })
    await mutex.acquire()
    try {
      await body()
    } finally {
      await mutex.release()
    }
  }, async () => redis.disconnect())
}
