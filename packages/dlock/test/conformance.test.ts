import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { LockStore, MemoryLockStore } from "effect-dlock"
import { Conformance } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import * as Path from "node:path"

const packages = Path.resolve(import.meta.dirname, "../..")

/** A backend is a package with a store. */
const backends = Fs.readdirSync(packages).filter((name) =>
  name.startsWith("dlock-") && Fs.globSync("src/*LockStore.ts", { cwd: Path.join(packages, name) }).length > 0
)

it.each(backends)("%s runs the conformance suite", (name) => {
  const tests = Path.join(packages, name, "test")
  const files = Fs.existsSync(tests) ? Fs.readdirSync(tests, { recursive: true, encoding: "utf8" }) : []
  const runs = files.filter((file) =>
    file.endsWith(".test.ts") && Fs.readFileSync(Path.join(tests, file), "utf8").includes("Conformance.cases(")
  )
  assert.isNotEmpty(runs, `no test file of ${name} calls Conformance.cases`)
})

describe("the cost cases", () => {
  /** A memory as several clients share it, in which a call costs as much as `price` says of what it finds. */
  const costing = (price: (holders: number, waiters: number) => number) =>
    Effect.map(MemoryLockStore.make, (memory) => {
      let [requests, holders, waiters] = [0, 0, 0]
      const store = LockStore.of({
        ...memory,
        request: (claim, mode) =>
          Effect.tap(memory.request(claim, mode), ({ _tag }) =>
            Effect.sync(() => {
              requests += price(holders, waiters)
              if (_tag === "Granted") holders++
              if (_tag === "Queued") waiters++
            })),
        withdraw: (claim) =>
          Effect.tap(memory.withdraw(claim), () =>
            Effect.sync(() => {
              requests += price(holders, waiters)
              // One of those who wait takes its place.
              if (waiters > 0) waiters--
              else holders--
            }))
      })
      const client: Effect.Effect<LockStore["Service"], never, Scope.Scope> = Effect.succeed(store)
      const work = Effect.sync((): Conformance.Work => ({ requests }))
      return Conformance.costs({ client, advance: (time) => TestClock.adjust(time), ttl: "2 seconds", work })
    })

  const failures = Effect.fnUntraced(function*(price: (holders: number, waiters: number) => number) {
    const cases = yield* costing(price)
    const failed: Array<string> = []
    for (const { name, run } of cases) {
      const error = yield* Effect.scoped(run).pipe(Effect.sandbox, Effect.flip, Effect.option)
      if (error._tag === "Some") failed.push(name.split(" costs")[0]!)
    }
    return failed
  })

  it.effect("pass for a store whose calls cost the same", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* failures(() => 1), [])
    }))

  it.effect("fail for a store that reads all holders, and for one that reads all waiters", () =>
    Effect.gen(function*() {
      assert.include(yield* failures((holders) => 1 + holders), "a section")
      assert.include(yield* failures((_, waiters) => 1 + waiters), "a hand-over")
    }))
})
