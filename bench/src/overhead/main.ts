// What metrics, and spans that are not sampled, cost a section: this tree against an older one that has neither, in turns
// within one process, over a store in memory, or with `--redis` over this tree's store on a Redis of its own.
// `node bench/src/overhead/main.ts --against FOLDER` takes the folder of the older tree, for example of
// `git worktree add FOLDER COMMIT` with this tree's node_modules linked into it.
import { startRedis } from "dlock-testing"
import { Context, Effect, Layer, References, Scope, Tracer } from "effect"
import type { Locker, LockStore } from "effect-dlock"
import { RedisLockStore } from "effect-dlock-redis"
import * as Path from "node:path"
import * as Url from "node:url"
import { parseArgs } from "node:util"
import { median, percentile } from "../measure/stats.ts"

const { values } = parseArgs({
  options: {
    against: { type: "string" },
    redis: { type: "boolean", default: false },
    rounds: { type: "string" },
    sections: { type: "string" }
  }
})
if (values.against === undefined) {
  console.error("Say which older tree to compare with: --against FOLDER")
  process.exit(2)
}

const here = Path.resolve(import.meta.dirname, "../../..")
const rounds = Number(values.rounds ?? (values.redis ? 100 : 600))
const sections = Number(values.sections ?? (values.redis ? 500 : 2_000))
const redis = values.redis ? await startRedis() : undefined

/** Each locker has a client of its own. The service of the store is the same one for both trees, by its name. */
const storeOf = (): Layer.Layer<LockStore, unknown> | undefined =>
  redis && RedisLockStore.layer({ url: `redis://127.0.0.1:${redis.port}` })

const lockerOf = async (tree: string): Promise<Locker["Service"]> => {
  const file = Path.resolve(tree, "packages/dlock/src/index.ts")
  const module: { readonly Locker: typeof Locker } = await import(Url.pathToFileURL(file).href)
  const store = storeOf()
  const layer = store === undefined ? module.Locker.layerMemory : Layer.provide(module.Locker.layer(), store)
  const built = Layer.buildWithScope(layer, Scope.makeUnsafe())
  return Context.get(await Effect.runPromise(built), module.Locker)
}

/** Nanoseconds for each section of a tight loop. */
const run = (locker: Locker["Service"]): Effect.Effect<number> =>
  Effect.gen(function*() {
    const startedAt = performance.now()
    for (let index = 0; index < sections; index++) yield* Effect.orDie(locker.withLock("k", Effect.void))
    return (performance.now() - startedAt) / sections * 1_000_000
  })

/** A request whose trace is not sampled, as most are. */
const unsampled = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withParentSpan(
    effect,
    Tracer.externalSpan({ traceId: "1".repeat(32), spanId: "2".repeat(16), sampled: false })
  )

const ways = [
  ["no trace", (effect: Effect.Effect<number>) => effect],
  ["a trace that is not sampled", unsampled],
  ["no tracer", (effect: Effect.Effect<number>) => Effect.provideService(effect, References.TracerEnabled, false)]
] as const

const older = await lockerOf(values.against)
const newer = await lockerOf(here)
for (const [name, way] of ways) {
  const measure = (locker: Locker["Service"]) => Effect.runPromise(way(run(locker)))
  for (let warm = 0; warm < 20; warm++) {
    await measure(older)
    await measure(newer)
  }
  const before: Array<number> = []
  const after: Array<number> = []
  for (let round = 0; round < rounds; round++) {
    // In turns, so that neither has the better half of each pair.
    const [first, second] = round % 2 === 0 ? [older, newer] : [newer, older]
    const [one, other] = [await measure(first), await measure(second)]
    before.push(round % 2 === 0 ? one : other)
    after.push(round % 2 === 0 ? other : one)
  }
  const ratios = after.map((nanos, index) => nanos / before[index]!).toSorted((a, b) => a - b)
  const percent = (part: number) => `${((percentile(ratios, part) - 1) * 100).toFixed(1)} %`
  console.log(
    `${name}: ${Math.round(median(before))} ns before, ${Math.round(median(after))} ns now: ${
      percent(0.5)
    } more (half of the pairs: ${percent(0.25)} to ${percent(0.75)})`
  )
}
await redis?.stop()
process.exit(0)
