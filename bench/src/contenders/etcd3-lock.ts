import { Etcd3, EtcdLockFailedError } from "etcd3"
import { type Lock, poll, promised } from "./contender.ts"

/** It does not wait for a lock: the polling is ours. */
export const open = async (url: string, ttl: number): Promise<Lock> => {
  const etcd = new Etcd3({ hosts: url })
  await etcd.get("nothing")
  return promised(async (key, body) => {
    const taken = async () => {
      const lock = etcd.lock(key).ttl(Math.ceil(ttl / 1_000))
      try {
        return await lock.acquire()
      } catch (error) {
        if (error instanceof EtcdLockFailedError) return undefined
        throw error
      }
    }
    let lock: Awaited<ReturnType<typeof taken>>
    await poll(async () => (lock = await taken()) !== undefined)
    try {
      await body()
    } finally {
      await lock!.release()
    }
  }, async () => etcd.close())
}
