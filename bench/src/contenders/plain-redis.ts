import { Redis } from "ioredis"
import { type Lock, poll, promised } from "./contender.ts"

const compareAndDelete = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"

interface WithScript extends Redis {
  readonly compareAndDelete: (key: string, token: string) => Promise<number>
}

/** The floor: what the common pattern costs, without renewal and without anything else that a library adds. */
export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url) as WithScript
  redis.defineCommand("compareAndDelete", { numberOfKeys: 1, lua: compareAndDelete })
  await redis.ping()
  return promised(async (key, body) => {
    const token = crypto.randomUUID()
    await poll(async () => await redis.set(key, token, "PX", ttl, "NX") === "OK")
    try {
      await body()
    } finally {
      await redis.compareAndDelete(key, token)
    }
  }, async () => redis.disconnect())
}
