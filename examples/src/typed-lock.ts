// A lock as a type: functions that need it do not compile without it, and call each other inside it.
//
// What to learn from it:
// - `StockLock` is written once: how its key is made, how long it lasts, and that a call inside it re-enters.
// - `write` asks for `StockLock`. Whoever calls it without the lock does not compile, and neither does a caller that holds
//   another lock.
// - The service is the lease, so the key and the fencing token of a write need no argument that could be the wrong one.
// - `take` and `put` each take the lock. `exchange` holds it around both: nobody sees the shelf with one of them done.
import { NodeRuntime } from "@effect/platform-node"
import { Array, Effect } from "effect"
import { Lock } from "effect-dlock"
import { LockerLive } from "./locker.ts"

class StockLock extends Lock.Service<StockLock>()("stock", {
  key: (shelf: number) => `shelves/${shelf}`,
  ttl: "5 seconds",
  reentrant: true
}) {}

/** A table in a database, which remembers the newest token that it has seen. */
const shelves = new Map<string, { readonly boxes: ReadonlyArray<string>; readonly fence: bigint }>([
  ["shelves/1", { boxes: ["old"], fence: 0n }]
])

const read = StockLock.use(({ key }) => Effect.sync(() => shelves.get(key)?.boxes ?? []).pipe(Effect.delay("5 millis")))

const write = (boxes: ReadonlyArray<string>) =>
  StockLock.use(({ fencingToken, key }) =>
    Effect.sync(() => {
      if (fencingToken >= (shelves.get(key)?.fence ?? 0n)) shelves.set(key, { boxes, fence: fencingToken })
    }).pipe(Effect.delay("5 millis"))
  )

const take = (shelf: number) =>
  Effect.gen(function*() {
    const [first, ...rest] = yield* read
    yield* write(rest)
    return first
  }).pipe(StockLock.withLock(shelf))

const put = (shelf: number, box: string) =>
  Effect.flatMap(read, (boxes) => write([...boxes, box])).pipe(StockLock.withLock(shelf))

const exchange = (shelf: number, box: string) =>
  StockLock.withLock(shelf)(
    Effect.gen(function*() {
      const { fencingToken } = yield* StockLock
      const taken = yield* take(shelf)
      yield* put(shelf, box)
      yield* Effect.log(`token ${fencingToken}: took ${taken}, put ${box}`)
    }),
    { timeout: "1 minute" }
  )

const program = Effect.forEach(Array.range(1, 5), (n) => exchange(1, `box ${n}`), { concurrency: "unbounded" }).pipe(
  Effect.andThen(StockLock.withLock(1)(read)),
  Effect.tap((boxes) => Effect.log(`on the shelf: ${boxes.length}`))
)

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))
