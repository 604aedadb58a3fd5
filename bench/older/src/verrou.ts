import { Verrou } from "@verrou/core"
import { redisStore } from "@verrou/core/drivers/redis"
import { Redis } from "ioredis"
import { type Lock, promised } from "../../src/contenders/contender.ts"

export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url)
  await redis.ping()
  const verrou = new Verrou({ default: "redis", stores: { redis: { driver: redisStore({ connection: redis }) } } })
  return promised(async (key, body) => {
    const [ran] = await verrou.createLock(key, ttl).run(body)
    if (!ran) throw new Error("it gave up")
  }, async () => redis.disconnect())
}
