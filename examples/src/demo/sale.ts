import { Context, Duration, Effect } from "effect"
import { Lease, withLock } from "effect-dlock"
import { Journal, monotonicMillis } from "./journal.ts"
import { Shop } from "./shop.ts"

/** How a customer pays: it takes its time. */
export const Payment = Context.Reference("examples/Payment", {
  defaultValue: (): Effect.Effect<void> => Effect.sleep("90 millis")
})

/** One sale: read the stock, take the payment, write the stock. Nothing in here keeps two workers apart. */
const sell = Effect.fnUntraced(function*(token?: bigint) {
  const shop = yield* Shop
  const payment = yield* Payment
  const left = yield* shop.read(token)
  if (left === 0) return yield* Journal.note({ _tag: "SoldOut" })

  // A payment cannot be left half-way, so nothing interrupts what belongs to it: neither Ctrl-C nor a lost lock. This
  // is the step that no lock can stop in time, and that the shop itself has to refuse.
  yield* Journal.note({ _tag: "Paying", left }).pipe(
    Effect.andThen(payment),
    Effect.andThen(shop.write(left - 1, token)),
    Effect.andThen(Journal.note({ _tag: "Sold" })),
    Effect.catchTag("StaleToken", ({ newest, token }) =>
      // The customer gets the money back.
      Journal.note({ _tag: "Refused", wanted: left - 1, token, newest })),
    Effect.uninterruptible
  )
})

/** A sale of Act 1, without a lock. */
export const sellUnlocked = Effect.andThen(Journal.note({ _tag: "Entered" }), sell()).pipe(
  Effect.ensuring(Journal.note({ _tag: "Left" }))
)

/** The same sale as the holder of a lock, whose fencing token goes along with every access. */
const deductStock = Effect.gen(function*() {
  const lease = yield* Lease
  yield* Journal.note({ _tag: "Entered", token: lease.fencingToken })
  yield* Effect.forkScoped(noteLoss)
  yield* sell(lease.fencingToken)
}).pipe(Effect.ensuring(Journal.note({ _tag: "Left" })))

/** For the picture: when the lease ended, by its own clock, and when this worker heard of it. */
const noteLoss = Effect.gen(function*() {
  const lease = yield* Lease
  const lost = yield* Effect.flip(lease.lost)
  const at = yield* monotonicMillis
  const deadline = at - Duration.toMillis(lost.lastConfirmedAgo) + Duration.toMillis(lease.ttl)
  yield* Journal.note({ _tag: "Lost", reason: lost.reason, endedAt: Math.min(at, deadline) })
})

const attempt = Effect.andThen(
  Journal.note({ _tag: "Asked" }),
  withLock("inventory:42", deductStock, { ttl: "1 second" })
)

/** A sale of Acts 2 and 3. A worker that loses the lock tries again, once. */
export const sellLocked = attempt.pipe(
  Effect.catchTag(
    "OwnershipLost",
    (lost) => Effect.andThen(Journal.note({ _tag: "Handled", reason: lost.reason }), attempt)
  )
)
