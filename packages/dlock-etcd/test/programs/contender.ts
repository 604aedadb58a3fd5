/**
 * Runs sections on one hot key and on keys that only this process uses, until it gets a message to stop. Reports the times of
 * each section on the monotonic clock, which all processes of the machine share.
 */
import { onMessage, report } from "dlock-testing/report"
import { Effect, Fiber } from "effect"
import { withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"

const [hosts, name] = process.argv.slice(2) as [string, string]
const now = () => Number(process.hrtime.bigint()) / 1_000_000

const section = (key: string) =>
  withLock(
    key,
    (lease) =>
      Effect.gen(function*() {
        const enter = now()
        yield* Effect.ensuring(
          Effect.sleep(3),
          Effect.sync(() => report({ key, token: String(lease.fencingToken), enter, exit: now() }))
        )
      }),
    { ttl: "5 seconds" }
  ).pipe(Effect.catch((error) => Effect.delay(Effect.sync(() => report({ failed: error._tag })), 20)))

const fiber = Effect.runFork(
  Effect.forEach(
    ["hot", ...Array.from({ length: 8 }, (_, index) => `${name}:${index}`)],
    (key) => Effect.forever(Effect.andThen(section(key), Effect.sleep(key === "hot" ? 0 : 10))),
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.provide(EtcdLocker.layer({ hosts })))
)
onMessage(() => {
  Effect.runFork(Effect.andThen(Fiber.interrupt(fiber), Effect.sync(() => process.exit(0))))
})
report({ started: now() })
