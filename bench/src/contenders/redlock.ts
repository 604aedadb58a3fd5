import { Redlock } from "@sesamecare-oss/redlock"
import { Redis } from "ioredis"
import { type Lock, promised } from "./contender.ts"

export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url)
  await redis.ping()
  const redlock = new Redlock([redis], { retryCount: -1 })
  // It tells each refusal as an error.
  redlock.on("error", () => {})
  return promised((key, body) => redlock.using([key], ttl, body), async () => redis.disconnect())
}
