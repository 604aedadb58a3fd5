import { Config, Effect, type FileSystem, Layer } from "effect"
import type { Shop, ShopUnreachable } from "./shop.ts"

type ShopLayer = Layer.Layer<Shop, Config.ConfigError | ShopUnreachable, FileSystem.FileSystem>

/** The shop is where the locks are, and as with the locks only the client that is needed is loaded. */
const shops: Readonly<Record<"redis" | "etcd", () => Promise<ShopLayer>>> = {
  redis: async () => (await import("./shop-redis.ts")).ShopInRedis,
  etcd: async () => (await import("./shop-etcd.ts")).ShopInEtcd
}

export const ShopByDriver = Layer.unwrap(Effect.gen(function*() {
  const driver = yield* Config.Literals(["redis", "etcd"], "DLOCK_DRIVER")
  return yield* Effect.promise(shops[driver])
}))
