// A process whose locks or waiters are another's to meet: it holds, or waits, until it is ended.
import { report } from "dlock-testing/report"
import { Effect, Layer, Logger, ManagedRuntime } from "effect"
import { Locker } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [url, what, count] = process.argv.slice(2) as [string, "hold" | "wait", string]
const runtime = ManagedRuntime.make(Layer.merge(RedisLocker.layer({ url }), Logger.layer([])))
const all = Array.from({ length: Number(count) }, (_, index) => index)

if (what === "hold") {
  const held = Effect.forEach(all, (index) => Locker.scoped(`k${index}`, { ttl: "5 minutes" }), { concurrency: 500 })
  await runtime.runPromise(
    Effect.scoped(Effect.andThen(held, Effect.andThen(Effect.sync(() => report({ done: true })), Effect.never)))
  )
} else {
  const waiting = Effect.forEach(
    all,
    () => Effect.ignore(Effect.scoped(Locker.scoped("hot", { ttl: "5 minutes" }))),
    { concurrency: "unbounded", discard: true }
  )
  runtime.runFork(waiting)
  report({ done: true })
}
