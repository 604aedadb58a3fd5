/**
 * Holds many locks, renews them, and reports when it is asked to leave one. Arguments: url, what it does then (`leaves` or
 * `stays`), prefix, number of locks, ttl. Times are milliseconds of a clock that all processes of this machine share.
 */
import { recordLag } from "dlock-testing"
import { report } from "dlock-testing/report"
import { Clock, Duration, Effect, References, Stream } from "effect"
import { RedisLockStore } from "effect-dlock-redis"
import { type Claim, type Held, LockStore } from "effect-dlock/LockStore"
import { randomBytes } from "node:crypto"

const [url, mode, prefix, count, ttl] = process.argv.slice(2) as [string, "leaves" | "stays", string, string, string]
const now = () => Number(process.hrtime.bigint()) / 1_000_000
const lag = recordLag()

const claimOf = (index: number): Claim => ({
  id: randomBytes(17).toString("base64url").slice(0, 22),
  key: `${prefix}${index}`,
  prefix,
  kind: "mutex",
  permits: 1,
  capacity: 1,
  ttl: Duration.millis(Number(ttl)),
  guardGap: Duration.millis(Number(ttl) / 10),
  holder: `one that ${mode}`
})

const program = Effect.gen(function*() {
  const store = yield* LockStore
  const clock = yield* Clock.clockWith(Effect.succeed)
  // What the store tells in nanoseconds of its clock, on the clock of the reports.
  const ahead = now() - Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
  const held = new Map<string, Held>()
  const left = new Set<string>()
  yield* Effect.forkScoped(
    Stream.runForEach(store.losses, (news) =>
      Effect.suspend(() => {
        const one = held.get(news.id)
        if (!("revocation" in news) || one === undefined) return Effect.void
        report({ told: one.claim.key, at: now(), by: news.revocation.by })
        if (mode === "stays" || left.has(news.id)) return Effect.void
        left.add(news.id)
        held.delete(news.id)
        report({ left: one.claim.key, at: now() })
        return Effect.forkScoped(store.withdraw(one.claim))
      })),
    { startImmediately: true }
  )
  const confirm = (keys: ReadonlyArray<string>, at: bigint) =>
    report({ confirmed: keys, at: Number(at) / 1_000_000 + ahead })
  yield* Effect.forEach(
    Array.from({ length: Number(count) }, (_, index) => claimOf(index)),
    (claim) =>
      Effect.map(store.request(claim, "try"), (answer) => {
        if (answer._tag !== "Granted") throw new Error(answer._tag)
        held.set(claim.id, { claim, fencingToken: answer.fencingToken })
        confirm([claim.key], answer.confirmedAt)
      }),
    { concurrency: 50 }
  )
  report({ holds: held.size })
  while (held.size > 0) {
    const all = Array.from(held.values())
    const renewals = yield* store.renew(all)
    const confirmed = Map.groupBy(
      renewals.flatMap((renewal, index) =>
        renewal._tag === "Confirmed" ? [{ key: all[index]!.claim.key, at: renewal.confirmedAt }] : []
      ),
      ({ at }) => at
    )
    for (const [at, some] of confirmed) confirm(some.map(({ key }) => key), at)
    renewals.forEach((renewal, index) => {
      const { claim } = all[index]!
      if (renewal._tag === "Revoked") report({ refused: claim.key, at: now() })
      // It stays without another renewal: the claim runs out.
      if (renewal._tag !== "Confirmed" && renewal._tag !== "Unknown") held.delete(claim.id)
    })
    report({ lag: lag.max() })
    yield* Effect.sleep(Number(ttl) / 3)
  }
  report({ lag: lag.max() })
  report({ isDone: true })
  return yield* Effect.never
})

await Effect.runPromise(
  Effect.scoped(program).pipe(
    Effect.provide(RedisLockStore.layer({ url })),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )
)
