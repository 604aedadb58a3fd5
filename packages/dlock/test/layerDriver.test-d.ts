import { type Config, Context, type Layer } from "effect"
import { type LockBackendError, Locker, MemoryLockStore } from "effect-dlock"
import { describe, expectTypeOf, it } from "vitest"

declare const redis: Layer.Layer<Locker, Config.ConfigError | LockBackendError>
declare const module: { readonly etcd: Layer.Layer<Locker, LockBackendError, Db> }
class Db extends Context.Service<Db, { readonly url: string }>()("test/Db") {}

describe("Locker.layerDriver", () => {
  it("keeps the errors and the needs of its drivers, promised ones included", () => {
    expectTypeOf(Locker.layerDriver({ redis })).toEqualTypeOf<
      Layer.Layer<Locker, Config.ConfigError | LockBackendError>
    >()
    const promised = Locker.layerDriver({
      redis: () => Promise.resolve(redis),
      etcd: () => Promise.resolve({ module }).then(({ module }) => module.etcd)
    })
    expectTypeOf(promised).toEqualTypeOf<Layer.Layer<Locker, Config.ConfigError | LockBackendError, Db>>()
    expectTypeOf(Locker.layerDriver({ own: () => import("effect-dlock").then((module) => module.Locker.layerMemory) }))
      .toEqualTypeOf<Layer.Layer<Locker, Config.ConfigError>>()
    expectTypeOf(Locker.layerDriver({})).toEqualTypeOf<Layer.Layer<Locker, Config.ConfigError>>()
  })

  it("takes drivers that give a locker, and nothing else", () => {
    // @ts-expect-error: a store is no locker
    Locker.layerDriver({ memory: MemoryLockStore.layer })
    // @ts-expect-error: nor is a promised one
    Locker.layerDriver({ memory: () => Promise.resolve(MemoryLockStore.layer) })
    // @ts-expect-error: nor is a name
    Locker.layerDriver({ redis: "effect-dlock-redis" })
  })
})
