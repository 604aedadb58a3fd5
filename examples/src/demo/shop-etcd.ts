import { Config, Effect, FileSystem, Layer, Option, Redacted, Schema } from "effect"
import { Etcd3 } from "etcd3"
import { Shop, ShopUnreachable, StaleToken } from "./shop.ts"

/** The stock and the newest token that the shop has seen, in one key, so that both change in one transaction. */
const Shelf = Schema.fromJsonString(Schema.Struct({ left: Schema.Int, newest: Schema.BigIntFromString }))
type Shelf = typeof Shelf.Type

/** In the same etcd as the locks, but independent of them. */
export const ShopInEtcd = Layer.effect(
  Shop,
  Effect.gen(function*() {
    const key = `${yield* Config.String("DLOCK_PREFIX")}stock`
    const options = yield* address
    const etcd = yield* Effect.acquireRelease(
      Effect.sync(() => new Etcd3(options)),
      (etcd) => Effect.sync(() => etcd.close())
    )
    const send = <A>(call: (options: { readonly deadline: number }) => Promise<A>) =>
      Effect.tryPromise({
        try: () => call({ deadline: Date.now() + 2_000 }),
        catch: (cause) => new ShopUnreachable({ cause })
      })

    const look = Effect.gen(function*() {
      const { kvs: [found] } = yield* send((options) => etcd.get(key).options(options).exec())
      const shelf = yield* Effect.orDie(
        Schema.decodeEffect(Shelf)(found?.value.toString() ?? `{"left":0,"newest":"0"}`)
      )
      return { shelf, revision: found?.mod_revision ?? "0" }
    })

    // The client connects with its first call. Better now than in the middle of a sale.
    yield* look

    /** One transaction, which fails if another worker was faster: then it reads again. */
    const visit: (
      token: bigint | undefined,
      change: (left: number) => number
    ) => Effect.Effect<number, StaleToken | ShopUnreachable> = Effect.fnUntraced(function*(token, change) {
      const { revision, shelf } = yield* look
      if (token !== undefined && token < shelf.newest) return yield* new StaleToken({ token, newest: shelf.newest })
      const after: Shelf = { left: change(shelf.left), newest: token ?? shelf.newest }
      const { succeeded } = yield* send((options) =>
        etcd.if(key, "Mod", "==", revision)
          .then(etcd.put(key).value(Schema.encodeSync(Shelf)(after)).ignoreLease())
          .options(options)
          .commit()
      )
      return succeeded ? after.left : yield* visit(token, change)
    })

    return Shop.of({
      // A lease that nobody keeps alive: the key goes with it, a minute later.
      restock: (items) =>
        Effect.gen(function*() {
          const minute = yield* send((options) => etcd.leaseClient.leaseGrant({ TTL: 60 }, options))
          const shelf = Schema.encodeSync(Shelf)({ left: items, newest: 0n })
          yield* send((options) => etcd.put(key).value(shelf).lease(minute.ID).options(options).exec())
        }),
      read: (token) => visit(token, (left) => left),
      write: (left, token) => Effect.asVoid(visit(token, () => left))
    })
  })
)

/** Where and as whom: the variables that `EtcdLockerLive` reads, for a client of the shop's own. */
const address = Effect.gen(function*() {
  const hosts = yield* Config.String("DLOCK_ETCD_HOSTS")
  const username = yield* Config.option(Config.String("DLOCK_ETCD_USERNAME"))
  const password = yield* Config.option(Config.Redacted("DLOCK_ETCD_PASSWORD"))
  const ca = yield* contentOf("DLOCK_ETCD_CA")
  const cert = yield* contentOf("DLOCK_ETCD_CERT")
  const key = yield* contentOf("DLOCK_ETCD_KEY")
  return {
    hosts: hosts.split(","),
    ...(Option.isSome(username) && Option.isSome(password) && {
      auth: { username: username.value, password: Redacted.value(password.value) }
    }),
    ...(ca !== undefined && {
      credentials: {
        rootCertificate: ca,
        ...(cert !== undefined && { certChain: cert }),
        ...(key !== undefined && { privateKey: key })
      }
    })
  }
})

const contentOf = Effect.fnUntraced(function*(variable: string) {
  const files = yield* FileSystem.FileSystem
  const path = yield* Config.option(Config.String(variable))
  if (Option.isNone(path)) return undefined
  return Buffer.from(yield* Effect.mapError(files.readFile(path.value), (cause) => new ShopUnreachable({ cause })))
})
