import type { TestProject } from "vitest/node"
import type {} from "./context.ts"
import { describe, flavour, startEtcd, startRedis } from "./index.ts"

/** One redis and one etcd for the whole run; tests keep to keys of their own. */
export default async (project: TestProject): Promise<() => Promise<void>> => {
  console.log(`Servers: ${describe(flavour())}\n         ${describe("etcd")}`)
  const starting = await Promise.allSettled([startRedis(), startEtcd()])
  const stop = async () => {
    await Promise.all(starting.flatMap((one) => one.status === "fulfilled" ? [one.value.stop()] : []))
  }
  const [redis, etcd] = starting
  if (redis.status === "rejected" || etcd.status === "rejected") {
    await stop()
    throw redis.status === "rejected" ? redis.reason : (etcd as PromiseRejectedResult).reason
  }
  project.provide("redisUrl", redis.value.url)
  project.provide("etcdUrl", etcd.value.url)
  return stop
}
