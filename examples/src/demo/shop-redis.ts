import { Config, Effect, Layer, Redacted } from "effect"
import { Redis } from "ioredis"
import { Shop, ShopUnreachable, StaleToken } from "./shop.ts"

// Tokens are compared as the digits that they are: a number of Lua's would round them.
const visit = `
local token, left = ARGV[1], ARGV[2]
if token ~= "" then
  local newest = redis.call("GET", KEYS[2]) or "0"
  if #token < #newest or (#token == #newest and token < newest) then return { "stale", newest } end
  redis.call("SET", KEYS[2], token, "EX", 60)
end
if left ~= "" then redis.call("SET", KEYS[1], left, "KEEPTTL") end
return { "done", redis.call("GET", KEYS[1]) }
`

/** In the same Redis as the locks, but independent of them: a plain key for the stock and one for the newest token. */
export const ShopInRedis = Layer.effect(
  Shop,
  Effect.gen(function*() {
    const url = yield* Config.Redacted("DLOCK_REDIS_URL")
    const prefix = yield* Config.String("DLOCK_PREFIX")
    const stock = `${prefix}stock`
    const newest = `${prefix}newest-token`

    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis(Redacted.value(url), { lazyConnect: true, maxRetriesPerRequest: 0 })),
      (redis) => Effect.sync(() => redis.disconnect())
    )
    // A command only says that there is no connection; this says why.
    let failure: Error | undefined
    redis.on("error", (error) => {
      failure = error
    })
    const send = <A>(command: () => Promise<A>) =>
      Effect.tryPromise({ try: command, catch: (cause) => new ShopUnreachable({ cause: failure ?? cause }) })

    yield* send(() => redis.connect())

    const call = Effect.fnUntraced(function*(token: bigint | undefined, left: number | undefined) {
      const reply = yield* send(() => redis.eval(visit, 2, stock, newest, `${token ?? ""}`, `${left ?? ""}`))
      const [outcome, value] = reply as [string, string]
      if (outcome === "done") return Number(value)
      return yield* new StaleToken({ token: token ?? 0n, newest: BigInt(value) })
    })

    return Shop.of({
      restock: (items) => Effect.asVoid(send(() => redis.multi().set(stock, items, "EX", 60).del(newest).exec())),
      read: (token) => call(token, undefined),
      write: (left, token) => Effect.asVoid(call(token, left))
    })
  })
)
