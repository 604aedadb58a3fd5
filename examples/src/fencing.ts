// A lock that is lost in the middle of the work, and a resource that does not take the late write.
//
// What to learn from it:
// - `OwnershipLost` arrives where the lock was asked for, with a reason, once the program has been interrupted. How much
//   was done by then it cannot say: a program that does it again under a new lock checks first.
// - What cannot be interrupted cannot be stopped in time by any lock. So the fencing token goes along with every access,
//   and the resource refuses tokens that are older than the newest it has seen.
// - Reads raise the fence too: from then on nothing older may come in between the read and the write.
//
// The pause stands for a garbage collection: it stops the event loop, with all timers and renewals, for longer
// than the lock lasts.
import { NodeRuntime } from "@effect/platform-node"
import { Duration, Effect, Latch, Schema } from "effect"
import { Lease, withLock } from "effect-dlock"
import { LockerLive } from "./locker.ts"

class StaleToken extends Schema.TaggedError<StaleToken>()("StaleToken", { newest: Schema.BigIntFromString }) {}

/** In SQL this is `UPDATE … WHERE fence <= :token`; see docs/fencing.md. */
const account = { balance: 100, deposits: new Set<string>(), fence: 0n }
const visit = <A>(token: bigint, act: () => A) =>
  Effect.suspend(() => {
    if (token < account.fence) return Effect.fail(new StaleToken({ newest: account.fence }))
    account.fence = token
    return Effect.succeed(act())
  })

const deposit = Effect.fn("deposit")(function*(name: string, amount: number, pause: Pause) {
  const { fencingToken, key, ttl } = yield* Lease
  const { balance, deposits } = yield* visit(fencingToken, () => ({ ...account }))
  if (deposits.has(name)) return yield* Effect.log(`${name}'s deposit is in already`)

  yield* Effect.log(`${name} read ${balance} of ${key}, token ${fencingToken}, good for ${Duration.format(ttl)}`)
  yield* pause.pipe(
    Effect.andThen(visit(fencingToken, () => {
      account.balance = balance + amount
      account.deposits.add(name)
    })),
    Effect.andThen(Effect.log(`${name} wrote ${balance + amount}`)),
    Effect.catchTag(
      "StaleToken",
      ({ newest }) => Effect.log(`${name}'s late write was refused: the account has seen token ${newest}`)
    ),
    Effect.uninterruptible // as a request is that is on its way
  )
})

type Pause = Effect.Effect<unknown, never, Lease>

const locked = (name: string, amount: number, pause: Pause = Effect.void) =>
  withLock("accounts/7", deposit(name, amount, pause), { ttl: "1 second" })

/** Past the end of the lease, however long the backend has granted it. */
const stopTheWorld = Lease.use(({ ttl }) =>
  Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Duration.toMillis(ttl) + 500))
)

const program = Effect.gen(function*() {
  const annIsIn = yield* Latch.make()
  const bobIsDone = yield* Latch.make()
  const pause = annIsIn.open.pipe(
    Effect.andThen(Effect.sleep("100 millis")),
    Effect.andThen(stopTheWorld),
    Effect.andThen(bobIsDone.await)
  )

  const ann = locked("Ann", 10, pause).pipe(
    Effect.catchTag(
      "OwnershipLost",
      (lost) =>
        Effect.log(`Ann has lost the lock (${lost.reason}) and does it again`).pipe(
          Effect.andThen(locked("Ann", 10))
        )
    )
  )
  const bob = annIsIn.await.pipe(Effect.andThen(locked("Bob", 5)), Effect.andThen(bobIsDone.open))

  yield* Effect.all([ann, bob], { concurrency: "unbounded" })
  yield* Effect.log(`the balance is ${account.balance}, of 100 + 10 + 5`)
})

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))
