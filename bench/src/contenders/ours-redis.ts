import { RedisLocker } from "effect-dlock-redis"
import type { Lock } from "./contender.ts"
import { over } from "./ours.ts"

export const open = (url: string, ttl: number): Promise<Lock> => over(RedisLocker.layer({ url, defaultTtl: ttl }))
