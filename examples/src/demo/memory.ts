import { Effect, Latch, Layer } from "effect"
import { Locker, LockStore, MemoryLockStore } from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { type Journal, Worker } from "./journal.ts"
import { Payment, sellLocked, sellUnlocked } from "./sale.ts"
import type { Shop } from "./shop.ts"
import { type Order, WorkerFailed, workerNames, Workers } from "./workers.ts"

/** A worker with its own locker, as every process has one, and a network that can fail. */
const startWorker = Effect.fnUntraced(function*(worker: string, store: LockStore["Service"]) {
  const toStore = yield* FaultyLockStore.make(store)
  const toBank = yield* Latch.make(true)
  const locker = yield* Layer.build(
    Locker.layer({ holder: worker }).pipe(Layer.provide(Layer.succeed(LockStore, toStore.store)))
  )
  const cut = Effect.all([toStore.hang("renew"), toStore.fail("withdraw"), toBank.close])
  const mend = Effect.all([toStore.heal(), toBank.open])

  return {
    serve: ({ customers, locked, payment }: Order) =>
      Effect.repeat(locked ? sellLocked : sellUnlocked, { times: customers - 1 }).pipe(
        Effect.provideService(Worker, worker),
        Effect.provideService(Payment, Effect.andThen(Effect.sleep(payment), toBank.await)),
        Effect.provide(locker),
        Effect.mapError((cause) => new WorkerFailed({ worker, cause }))
      ),
    cutOff: (from: Effect.Effect<unknown>, until: Effect.Effect<unknown>) =>
      Effect.andThen(from, Effect.acquireUseRelease(cut, () => until, () => mend))
  }
})

/** Each worker is a fiber of this process, and the locks are in its memory. */
export const WorkersInMemory = Layer.effect(
  Workers,
  Effect.gen(function*() {
    const context = yield* Effect.context<Shop | Journal>()
    const store = yield* MemoryLockStore.make
    const staff = new Map<string, Effect.Success<ReturnType<typeof startWorker>>>()
    for (const worker of workerNames) staff.set(worker, yield* startWorker(worker, store))

    return Workers.of({
      described: "Each worker is a fiber of this process, and the locks are in its memory.",
      fault: "his network fails: neither his renewals nor the bank's answer come through",
      serve: (worker, order) => Effect.provide(Effect.asVoid(staff.get(worker)!.serve(order)), context),
      cutOff: (worker, from, until) => Effect.asVoid(staff.get(worker)!.cutOff(from, until))
    })
  })
)
