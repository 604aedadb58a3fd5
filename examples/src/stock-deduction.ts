// Stock deduction: many orders at once, and no piece is sold twice.
//
// What to learn from it:
// - A key for each item: orders for other items do not wait.
// - `ttl` and `timeout` are a call's own. An order is quick, and an instance that dies in the middle of one should
//   block the item for seconds; stocktaking may as well survive an outage of a minute.
// - What the backend grants may be more than what was asked for (etcd counts in whole seconds): `lease.ttl` says it.
// - Errors have tags. To be sold out is the shop's business; `LockTimeout` names the holder that an order has waited for in vain.
import { NodeRuntime } from "@effect/platform-node"
import { Array, Duration, Effect, Schema } from "effect"
import { Lease, withLock } from "effect-dlock"
import { LockerLive } from "./locker.ts"

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { item: Schema.Int }) {}

/** A table in a database: between a read and the write that follows, another process may write. */
const stock = new Map([[42, 7]])
const read = (item: number) => Effect.sync(() => stock.get(item) ?? 0).pipe(Effect.delay("10 millis"))
const write = (item: number, left: number) => Effect.sync(() => stock.set(item, left)).pipe(Effect.delay("10 millis"))

const deductStock = Effect.fn("deductStock")(function*(item: number) {
  const left = yield* read(item)
  if (left === 0) return yield* new SoldOut({ item })
  yield* write(item, left - 1)
  return left - 1
})

const order = (item: number, customer: number) =>
  withLock(`inventory:${item}`, deductStock(item), { ttl: "3 seconds", timeout: "10 seconds" }).pipe(
    Effect.flatMap((left) => Effect.log(`customer ${customer} has one, ${left} left`)),
    Effect.catchTags({
      SoldOut: () => Effect.log(`customer ${customer} comes too late`),
      LockTimeout: (timeout) => Effect.logWarning(`customer ${customer} should come back: ${timeout.message}`)
    })
  )

const stocktaking = Effect.gen(function*() {
  const { fencingToken, ttl } = yield* Lease
  const left = yield* read(42)
  yield* Effect.log(`counted ${left} under token ${fencingToken}, good for ${Duration.format(ttl)} at a time`)
}).pipe(withLock("inventory:42", { ttl: "1 minute" }))

const program = Effect.forEach(Array.range(1, 10), (customer) => order(42, customer), { concurrency: "unbounded" })
  .pipe(
    Effect.andThen(stocktaking)
  )

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))
