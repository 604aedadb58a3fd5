import { Redis } from "ioredis"
import { createLock, IoredisAdapter } from "redlock-universal"
import { type Lock, promised } from "./contender.ts"

export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url)
  await redis.ping()
  const adapter = new IoredisAdapter(redis)
  return promised(
    (key, body) => createLock({ adapter, key, ttl, retryAttempts: 1_000_000_000 }).using(body),
    async () => redis.disconnect()
  )
}
