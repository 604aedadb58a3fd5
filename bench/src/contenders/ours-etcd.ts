import { EtcdLocker } from "effect-dlock-etcd"
import type { Lock } from "./contender.ts"
import { over } from "./ours.ts"

export const open = (url: string, ttl: number): Promise<Lock> => over(EtcdLocker.layer({ hosts: url, defaultTtl: ttl }))
