/**
 * Runs sections on all keys at once until it is told to stop, and reports each section by a clock that all processes of
 * this machine share.
 */
import { onMessage, report } from "dlock-testing/report"
import { Effect, Fiber, References } from "effect"
import { withLock } from "effect-dlock"
import { RedisLocker, type RedisLockerOptions } from "effect-dlock-redis"

const [options, keys] = process.argv.slice(2) as [string, string]
const now = () => Number(process.hrtime.bigint()) / 1_000_000

const section = (key: string) =>
  withLock(
    key,
    (lease) =>
      Effect.suspend(() => {
        const enteredAt = now()
        return Effect.ensuring(
          Effect.sleep(3),
          Effect.sync(() => report({ key, token: String(lease.fencingToken), enteredAt, leftAt: now() }))
        )
      }),
    { ttl: "30 seconds" }
  ).pipe(Effect.catch((error) => Effect.delay(Effect.sync(() => report({ failed: error._tag })), 20)))

const fiber = Effect.runFork(
  Effect.forEach(
    Array.from({ length: Number(keys) }, (_, index) => `key-${index}`),
    (key) => Effect.forever(Effect.andThen(section(key), Effect.sleep(30))),
    { concurrency: "unbounded", discard: true }
  ).pipe(
    Effect.provide(RedisLocker.layer(JSON.parse(options) as RedisLockerOptions)),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
)
onMessage(() => {
  Effect.runFork(Effect.andThen(Fiber.interrupt(fiber), Effect.sync(() => process.exit(0))))
})
report({ started: now() })
