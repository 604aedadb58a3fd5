import { assert, describe, it } from "@effect/vitest"
import { startWorker, type Worker } from "dlock-testing"
import { Context, Deferred, Duration, Effect, Layer, References } from "effect"
import { RedisLockStore } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { type Claim, LockStore } from "effect-dlock/LockStore"
import { randomBytes } from "node:crypto"
import * as Path from "node:path"
import { lag as recorded, server } from "./support.ts"

/** How many holds are revoked. Set `DLOCK_REVOCATIONS=1000` for a thousand. */
const count = Math.ceil(Number(process.env.DLOCK_REVOCATIONS ?? 300) / 3)

const ttl = 3_000
const guard = ttl / 10
const grace = 200
/** How often the head of a queue asks, and what it may take after that (see docs/guarantees.md). */
const retryInterval = 100

type Message =
  | { readonly told: string; readonly at: number }
  | { readonly left: string; readonly at: number }
  | { readonly refused: string; readonly at: number }
  | { readonly confirmed: ReadonlyArray<string>; readonly at: number }
  | { readonly lag: number }
  | { readonly holds: number }
  | { readonly isDone: true }

const now = () => Number(process.hrtime.bigint()) / 1_000_000

const claimOn = (key: string, prefix: string): Claim => ({
  id: randomBytes(17).toString("base64url").slice(0, 22),
  key,
  prefix,
  kind: "mutex",
  permits: 1,
  capacity: 1,
  ttl: Duration.seconds(30),
  guardGap: Duration.seconds(3),
  holder: "the next"
})

/** The latest time of a key among messages. */
const lastOf = (messages: ReadonlyArray<Message>, what: "told" | "left" | "refused", key: string) =>
  messages.findLast((one) => what in one && (one as Record<string, unknown>)[what] === key) as
    | { readonly at: number }
    | undefined

const timesOf = (messages: ReadonlyArray<Message>) => {
  const told = new Map<string, number>()
  const left = new Map<string, number>()
  const confirmed = new Map<string, number>()
  let lag = 0
  for (const one of messages) {
    if ("told" in one && !told.has(one.told)) told.set(one.told, one.at)
    if ("left" in one) left.set(one.left, one.at)
    if ("confirmed" in one) {
      for (const key of one.confirmed) confirmed.set(key, Math.max(one.at, confirmed.get(key) ?? 0))
    }
    if ("lag" in one) lag = one.lag
  }
  return { told, left, confirmed, lag }
}

describe("revocations", () => {
  it.live(
    `of ${3 * count} holds under load: nobody is let in beside a holder, who is told at once and cannot stay`,
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const program = Path.join(import.meta.dirname, "programs/asked.ts")
        const start = (name: string, mode: "leaves" | "stays") =>
          Effect.acquireRelease(
            Effect.sync(() =>
              startWorker<Message>(program, { args: [redis.url, mode, `${name}:`, String(count), String(ttl)] })
            ),
            (worker) => Effect.promise(() => worker.kill())
          )
        const holders: Record<string, Worker<Message>> = {
          leaves: yield* start("leaves", "leaves"),
          stays: yield* start("stays", "stays"),
          frozen: yield* start("frozen", "stays")
        }
        const context = yield* Layer.build(Layer.fresh(RedisLockStore.layer({ url: redis.url, retryInterval }))).pipe(
          Effect.provideService(References.MinimumLogLevel, "Error")
        )
        const store = Context.get(context, LockStore)
        const admin = Context.get(context, LockAdmin)
        const others = Context.get(
          yield* Layer.build(Layer.fresh(RedisLockStore.layer({ url: redis.url }))).pipe(
            Effect.provideService(References.MinimumLogLevel, "Error")
          ),
          LockStore
        )
        for (const worker of Object.values(holders)) {
          yield* Effect.promise(() => worker.waitFor((one) => "holds" in one, 60_000))
        }
        const lag = yield* recorded

        let sections = 0
        const loading = yield* Effect.forkScoped(Effect.forEach(
          Array.from({ length: 20 }, (_, index) => `load:${index}`),
          (key) =>
            Effect.forever(Effect.gen(function*() {
              const claim = claimOn(key, "load:")
              yield* others.request(claim, "queue")
              yield* others.withdraw(claim)
              sections++
            })),
          { concurrency: "unbounded" }
        ))
        const names = Object.keys(holders)
        const keys = names.flatMap((name) => Array.from({ length: count }, (_, index) => `${name}:${index}`))
        const entered = new Map<string, number>()
        const allEntered = yield* Deferred.make<void>()
        yield* Effect.forEach(keys, (key) =>
          Effect.gen(function*() {
            const claim = claimOn(key, `${key.split(":")[0]}:`)
            const answer = yield* store.request(claim, "queue")
            if (answer._tag !== "Queued") return assert.fail(`${key}: ${answer._tag}`)
            yield* Effect.forkScoped(Effect.gen(function*() {
              assert.strictEqual((yield* answer.granted)._tag, "Granted")
              entered.set(key, now())
              yield* store.withdraw(claim)
              if (entered.size === keys.length) yield* Deferred.succeed(allEntered, undefined)
            }))
          }), { concurrency: 50 })

        holders.frozen!.signal("SIGSTOP")
        const sentAt = new Map<string, number>()
        yield* Effect.forEach(keys, (key) =>
          Effect.gen(function*() {
            const on = { key, prefix: `${key.split(":")[0]}:` }
            const { holders: [holder] } = yield* admin.inspect(on)
            sentAt.set(key, now())
            const answer = yield* admin.revoke(on, { token: holder!.token, grace, by: "an operator" })
            assert.strictEqual(answer, "asked")
          }), { concurrency: 8, discard: true })
        yield* Effect.timeout(Deferred.await(allEntered), ttl + guard + 10_000)
        loading.interruptUnsafe()
        yield* Effect.promise(() => holders.leaves!.waitFor((one) => "isDone" in one))
        yield* Effect.promise(() => holders.stays!.waitFor((one) => "isDone" in one))

        const longest = { told: 0, left: 0, expired: -Infinity }
        for (const name of names) {
          const { confirmed, lag: theirs, left, told } = timesOf(holders[name]!.messages)
          const late = lag.max() + theirs
          for (let index = 0; index < count; index++) {
            const key = `${name}:${index}`
            const enteredAt = entered.get(key)!
            const over = left.get(key) ?? confirmed.get(key)! + ttl
            assert.isAbove(enteredAt, over, `${key}: somebody was let in beside its holder`)
            const free = confirmed.get(key)! + ttl + guard
            longest.expired = Math.max(longest.expired, name === "leaves" ? -Infinity : enteredAt - free)
            assert.isBelow(enteredAt, free + retryInterval + 100 + late, `${key}: not free in time`)
            if (name === "frozen") continue
            const took = told.get(key)! - sentAt.get(key)!
            longest.told = Math.max(longest.told, took)
            assert.isBelow(took, 100 + late, `${key}: told late`)
            if (name === "leaves") longest.left = Math.max(longest.left, enteredAt - left.get(key)!)
            // A renewal that was confirmed later than the grace would be an extension.
            if (name === "stays") {
              assert.isBelow(confirmed.get(key)!, sentAt.get(key)! + grace + took + 100 + late, `${key}: extended`)
              assert.isDefined(lastOf(holders[name]!.messages, "refused", key), key)
            }
          }
        }
        console.log(
          `revocations: ${keys.length} beside ${sections} sections; told after ${
            longest.told.toFixed(1)
          } ms at the longest, ` +
            `the next in ${longest.left.toFixed(1)} ms after a holder left and ${
              longest.expired.toFixed(1)
            } ms after ttl + guard ` +
            `of the last renewal; lag ${lag.max().toFixed(1)} ms`
        )
      }).pipe(Effect.scoped),
    120_000
  )
})
