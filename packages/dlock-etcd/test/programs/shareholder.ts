/** Works under one lock and gives way to those who wait. Arguments: url, milliseconds. */
import { takeShare } from "dlock-testing/shares"
import { Effect, References } from "effect"
import { withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"

const [url, millis] = process.argv.slice(2) as [string, string]
await Effect.runPromise(
  takeShare(Number(millis), (key, body) => withLock(key, body, { ttl: "20 seconds" })).pipe(
    Effect.provide(EtcdLocker.layer({ hosts: url })),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
)
process.exit(0)
