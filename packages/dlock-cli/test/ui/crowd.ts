/** Holds thousands of locks, and gives some of them up and takes them again each second, until it is stopped. */
import { report } from "dlock-testing/report"
import { Deferred, Effect, type Layer, ManagedRuntime } from "effect"
import { type Locker, withLock } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [url, count, changes] = process.argv.slice(2) as [string, string, string]
const lockers = Array.from({ length: 20 }, (_, index) =>
  ManagedRuntime.make(
    RedisLocker.layer({ url, holder: `worker-${index}`, defaultTtl: "60 seconds" }) as Layer.Layer<Locker, unknown>
  ))

const releases = new Map<number, () => void>()
const hold = (index: number): Promise<void> =>
  new Promise((held) => {
    const release = Deferred.makeUnsafe<void>()
    const section = withLock(
      `service-${index % 17}:shard/${index}`,
      Effect.suspend(() => {
        releases.set(index, () => Deferred.doneUnsafe(release, Effect.void))
        held()
        return Deferred.await(release)
      })
    )
    // Another one takes it the next time.
    void lockers[Math.floor(Math.random() * lockers.length)]!.runPromise(section).catch(() => held())
  })

const total = Number(count)
for (let from = 0; from < total; from += 250) {
  await Promise.all(Array.from({ length: Math.min(250, total - from) }, (_, offset) => hold(from + offset)))
}
report({ held: total })

let done = 0
const started = performance.now()
setInterval(() => {
  // As many as are due by now, whatever the timer was late by.
  const due = Math.floor((performance.now() - started) / 1_000 * Number(changes))
  for (; done < due; done++) {
    const index = Math.floor(Math.random() * total)
    releases.get(index)?.()
    void hold(index)
  }
}, 20)
setInterval(() => report({ changes: done }), 1_000)
