// A catalogue that many read and few rebuild: a read-write lock.
//
// What to learn from it:
// - Readers share the lock, and a writer has it alone: no reader sees a catalogue half rebuilt.
// - A writer that waits stops later readers, so a stream of readers cannot starve it.
// - After the change the writer downgrades: readers come in while it checks its work, and no other writer does.
// - A read lock cannot become a write lock. Read, release, take the write lock, and read again, for the catalogue may have
//   changed in between.
// - A writer has a fencing token for the resource to check. A reader has none.
//
// Here the instances are fibers of one process. Run it in several terminals, on one server, and they are processes.
import { NodeRuntime } from "@effect/platform-node"
import { Array, Effect } from "effect"
import { ReadWriteLock } from "effect-dlock"
import { LockerLive } from "./locker.ts"

/** Two tables that belong together. */
const catalogue = { version: 1, items: ["a", "b"], prices: [1, 2], fence: 0n }

const render = Effect.gen(function*() {
  const { items, version } = catalogue
  yield* Effect.sleep("20 millis")
  const { prices } = catalogue
  yield* Effect.log(
    items.length === prices.length
      ? `shows version ${version}: ${items.length} items with their prices`
      : `shows a catalogue half rebuilt: ${items.length} items, ${prices.length} prices`
  )
})

const rebuild = Effect.fn("rebuild")(function*(fencingToken: bigint) {
  if (fencingToken < catalogue.fence) return yield* Effect.die("a late writer")
  catalogue.fence = fencingToken
  catalogue.items = [...catalogue.items, "c"]
  yield* Effect.sleep("50 millis")
  catalogue.prices = [...catalogue.prices, 3]
  catalogue.version++
  yield* Effect.log(`rebuilt as version ${catalogue.version}, under token ${fencingToken}`)
})

const program = Effect.gen(function*() {
  const lock = yield* ReadWriteLock.make("catalogue")

  const reader = Effect.forEach(
    Array.range(1, 3),
    () => Effect.andThen(lock.withReadLock(render), Effect.sleep("10 millis")),
    {
      discard: true
    }
  )

  const writer = lock.withWriteLock((write) =>
    Effect.gen(function*() {
      yield* rebuild(write.fencingToken)
      yield* write.downgrade
      yield* Effect.sleep("30 millis")
      yield* Effect.log(`checked version ${catalogue.version}, while others read it`)
    })
  )

  const upgrade = lock.withReadLock(lock.withWriteLock(rebuild(0n))).pipe(
    Effect.catchTag("LockAlreadyHeld", (error) => Effect.log(`no upgrade: ${error.held} lock in hand`))
  )

  yield* Effect.all([
    Effect.annotateLogs(reader, { instance: "north" }),
    Effect.annotateLogs(reader, { instance: "east" }),
    Effect.annotateLogs(Effect.delay(writer, "15 millis"), { instance: "south" })
  ], { concurrency: "unbounded", discard: true })
  yield* upgrade
})

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))
