import { Locker } from "effect-dlock"

/** The locker that DLOCK_DRIVER names: `memory`, `redis` or `etcd`. Only the client of that one is loaded. */
export const LockerLive = Locker.layerDriver({
  redis: async () => (await import("effect-dlock-redis")).RedisLockerLive,
  etcd: async () => (await import("effect-dlock-etcd")).EtcdLockerLive
})
