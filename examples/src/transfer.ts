// Transfer: two accounts at once, whichever way the money goes, and a cap on how many transfers run in the whole fleet.
//
// What to learn from it:
// - `withLocks` takes all that it names at one instant. Transfers from 1 to 2 and from 2 to 1 never wait for each other in a
//   circle, and nobody has to agree on an order of the keys.
// - Mutexes, permits and read locks go together: `Want.permits` is one of the twelve permits of this bank.
// - Either all are held or none, within one `timeout`. `LockTimeout` names the account that was still missing.
// - `tokenOf` is the fencing token of each account. A database would compare it in each of the two writes.
import { NodeRuntime } from "@effect/platform-node"
import { Array, Effect } from "effect"
import { DistributedSemaphore, type Leases, Want, withLocks } from "effect-dlock"
import { LockerLive } from "./locker.ts"

interface Account {
  readonly balance: number
  readonly fence: bigint
}

/** A table in a database: between a read and the write that follows, another process may write. */
const accounts = new Map(Array.range(1, 4).map((number): [number, Account] => [number, { balance: 100, fence: 0n }]))
const read = (number: number) => Effect.sync(() => accounts.get(number)!.balance).pipe(Effect.delay("5 millis"))
const write = (number: number, balance: number, fence: bigint) =>
  Effect.sync(() => accounts.set(number, { balance, fence })).pipe(Effect.delay("5 millis"))

const keyOf = (account: number) => `{account}:${account}`

const move = Effect.fn("move")(function*(leases: Leases, from: number, to: number, amount: number) {
  const [left, right] = [yield* read(from), yield* read(to)]
  if (left < amount) return false
  yield* write(from, left - amount, leases.tokenOf(keyOf(from)))
  yield* write(to, right + amount, leases.tokenOf(keyOf(to)))
  return true
})

const transfer = (bank: DistributedSemaphore, from: number, to: number, amount: number) =>
  withLocks([keyOf(from), keyOf(to), Want.permits(bank)], (leases) => move(leases, from, to, amount), {
    ttl: "3 seconds",
    timeout: "20 seconds"
  }).pipe(
    Effect.flatMap((isDone) => Effect.log(`${amount} from ${from} to ${to}${isDone ? "" : ": not enough"}`)),
    Effect.catchTag("LockTimeout", (timeout) => Effect.logWarning(`later: ${timeout.message}`))
  )

const program = Effect.gen(function*() {
  const bank = yield* DistributedSemaphore.make("{account}:transfers", { permits: 12 })
  const pairs = Array.range(1, 4).flatMap((from) => Array.range(1, 4).map((to) => [from, to] as const))
    .filter(([from, to]) => from !== to)
  // All pairs at once, in both directions.
  yield* Effect.forEach(pairs, ([from, to]) => transfer(bank, from, to, 10 * from), { concurrency: "unbounded" })
  const total = Array.fromIterable(accounts.values()).reduce((sum, { balance }) => sum + balance, 0)
  yield* Effect.log(`${pairs.length} transfers, and ${total} in all`)
})

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))
