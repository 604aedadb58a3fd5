import { assert, describe, it } from "@effect/vitest"
import { startWorker, type Worker } from "dlock-testing"
import { Context, Effect, Layer, Stream } from "effect"
import { EtcdLockStore } from "effect-dlock-etcd"
import { LockAdmin } from "effect-dlock/LockAdmin"
import * as Path from "node:path"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import { open } from "../src/internal/client/connection.ts"
import { parse } from "../src/internal/options.ts"
import { encode } from "../src/internal/protocol/format.ts"
import { lag, plainClient, server } from "./support.ts"

/** How many holds are revoked, and how many locks are listed: more with these variables. */
const revocations = Number(process.env["DLOCK_REVOCATIONS"] ?? 120)
const listed = Number(process.env["DLOCK_LISTED"] ?? 10_000)

interface Report {
  readonly key?: string
  readonly token?: string
  readonly manner?: "obeys" | "ignores"
  readonly enter?: number
  readonly exit?: number
  readonly confirmedAt?: number
  readonly lease?: number
  readonly told?: string
  readonly at?: number
  readonly lag?: number
  readonly failed?: string
}

/** Locks that are requested together may get one token. */
const nameOf = ({ key, token }: Pick<Report, "key" | "token">): string => `${key} ${token}`

const now = () => Number(process.hrtime.bigint()) / 1_000_000

const admin = (hosts: string) =>
  Effect.map(Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts }))), (context) => Context.get(context, LockAdmin))

const percentile = (values: ReadonlyArray<number>, part: number): string =>
  (values.toSorted((a, b) => a - b)[Math.floor(part * (values.length - 1))] ?? NaN).toFixed(1)

describe("revocations under load", () => {
  it.live(
    "let nobody in too early, tell each holder at once, and free each key in time",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const recorded = yield* lag
        const service = yield* admin(url)
        const keys = Array.from({ length: Math.min(100, revocations / 4) }, (_, index) => `k${index}`)
        const start = (manner: string) =>
          Effect.acquireRelease(
            Effect.sync(() =>
              startWorker<Report>(Path.join(import.meta.dirname, "programs/revoked.ts"), {
                args: [url, JSON.stringify(keys), manner, "2000"]
              })
            ),
            (worker) => Effect.promise(() => worker.kill())
          )
        // When each claim was deleted, by what the server tells.
        const freedAt = new Map<string, number>()
        const plain = yield* plainClient(url)
        const watcher = yield* Effect.promise(() => plain.watch().prefix("dlock:k").create())
        const created = new Map<string, string>()
        watcher.on("put", ({ create_revision, key }) => void created.set(String(key), create_revision))
        watcher.on("delete", ({ key }) => {
          const lock = String(key).slice("dlock:".length, String(key).indexOf("/"))
          freedAt.set(nameOf({ key: lock, token: created.get(String(key))! }), now())
        })
        yield* Effect.addFinalizer(() => Effect.promise(() => watcher.cancel()))

        // The one that is frozen at first holds all locks.
        const frozen = yield* start("obeys")
        const waitForStart = (worker: Worker<Report>) =>
          Effect.promise(() => worker.waitFor((message) => "started" in message))
        yield* waitForStart(frozen)
        yield* Effect.sleep("1 second")
        const obeying = yield* start("obeys")
        const ignoring = yield* start("ignores")
        const workers = [obeying, ignoring, frozen]
        yield* Effect.forEach([obeying, ignoring], waitForStart)

        /** When the third process was frozen, and when it went on. */
        const frozenTimes: Array<{ readonly from: number; until: number }> = []
        yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
          frozenTimes.push({ from: now(), until: Infinity })
          frozen.signal("SIGSTOP")
          yield* Effect.sleep("4500 millis")
          frozen.signal("SIGCONT")
          frozenTimes[frozenTimes.length - 1]!.until = now()
          yield* Effect.sleep("1500 millis")
        })))

        const asked = new Map<string, number>()
        let [foreign, gone] = [0, 0]
        const revoke = (key: string) =>
          Effect.gen(function*() {
            const name = { key: `dlock:${key}`, prefix: "dlock:" }
            const { holders: [holder] } = yield* service.inspect(name)
            if (holder === undefined || holder.isRevoked) return yield* Effect.sleep(30)
            const answer = yield* service.revoke(name, {
              token: holder.token,
              grace: Math.floor(Math.random() * 200),
              by: "the test"
            })
            if (answer === "asked") asked.set(nameOf({ key, token: String(holder.token) }), now())
            else if (answer === "foreign") foreign++
            else gone++
            yield* Effect.sleep(200)
          })
        yield* Effect.forEach(
          keys,
          (key) => Effect.repeat(revoke(key), { while: () => asked.size < revocations }),
          { concurrency: "unbounded", discard: true }
        )
        // The last of them end.
        yield* Effect.sleep("7 seconds")

        const reports = workers.map(({ messages }) => messages)
        const all = reports.flat()
        const grants = all.filter((one) => one.enter !== undefined && one.exit === undefined)
        const exits = new Map(all.flatMap((one) => one.exit === undefined ? [] : [[nameOf(one), one] as const]))
        assert.strictEqual(foreign, 0)

        // Exclusion: by the resource's clock, a section ends before the next begins, and tokens grow.
        /** By process, how many milliseconds after the end of the claim's last confirmation its key was free. */
        const later = workers.map((): Array<number> => [])
        const processOf = new Map(
          reports.flatMap((messages, index) => messages.map((one) => [nameOf(one), index] as const))
        )
        for (const key of keys) {
          const inOrder = grants.filter((one) => one.key === key).toSorted((a, b) => a.enter! - b.enter!)
          inOrder.forEach((one, index) => {
            const next = inOrder[index + 1]
            if (next === undefined) return
            assert.isBelow(Number(one.token), Number(next.token))
            const exit = exits.get(nameOf(one))
            // A process that is frozen at the end has not reported yet.
            if (exit === undefined) return
            assert.isAtMost(exit.exit!, next.enter!, `${JSON.stringify(exit)} and ${JSON.stringify(next)}`)
            const freed = freedAt.get(nameOf(one))
            if (asked.has(nameOf(one)) && freed !== undefined) {
              later[processOf.get(nameOf(one))!]!.push(freed - (exit.confirmedAt! + exit.lease!))
            }
          })
        }

        // Told at once, where the process could hear.
        const isFrozen = (from: number, until: number): boolean =>
          frozenTimes.some((one) => one.from - 50 < until && one.until + 1_500 > from)
        const delays: Array<number> = []
        let unheard = 0
        reports.forEach((messages, index) => {
          const told = new Map(messages.flatMap((one) => one.told === undefined ? [] : [[one.told, one] as const]))
          for (const one of messages.filter((one) => one.enter !== undefined && one.exit === undefined)) {
            const name = nameOf(one)
            const at = asked.get(name)
            if (at === undefined) continue
            const heard = told.get(name)
            if (index === 2 && isFrozen(at, heard?.at ?? at)) continue
            const left = exits.get(name)?.exit
            if (heard === undefined && left !== undefined && left < at + 100) {
              unheard++
              continue
            }
            assert.isDefined(heard, `${name} of process ${index} was never told`)
            // It counts from the grant, for a holder that did not know of it yet.
            delays.push(heard!.at! - Math.max(at, one.enter!))
          }
        })
        const late = Math.max(lagOf(obeying), lagOf(ignoring), recorded.max())
        yield* Effect.log(
          `${asked.size} revocations of ${grants.length} holds (${gone} had left): told after ${
            percentile(delays, 0.5)
          } ms ` +
            `(p99 ${percentile(delays, 0.99)}, at most ${Math.max(...delays).toFixed(1)}), ${unheard} left unheard; ` +
            `the keys were free, by the ends of their leases, after ${
              ["obeyed", "ignored", "partly frozen"].map((what, index) =>
                `${percentile(later[index]!, 0.5)} ms (at most ${Math.max(...later[index]!).toFixed(0)}, ${what}: ${
                  later[index]!.length
                })`
              ).join(", ")
            }; ` +
            `frozen ${frozenTimes.length} times; lag ${late.toFixed(0)} ms`
        )
        assert.isAbove(delays.length, revocations / 4)
        assert.isAtMost(Math.max(...delays), 100 + late)
        const [obeyed, ignored, halted] = later.map((some) => Math.max(...some)) as [number, number, number]
        assert.isAtMost(obeyed, 100 + late)
        assert.isAtMost(ignored, 100 + late)
        // The server looks for ended leases twice a second.
        assert.isAtMost(halted, 1_250 + late)
        for (const some of later) assert.isAbove(some.length, 0)
        assert.isAbove(frozenTimes.length, 1)
      }).pipe(Effect.scoped),
    Math.max(90_000, revocations * 300)
  )
})

const lagOf = ({ messages }: Worker<Report>): number => Math.max(0, ...messages.map(({ lag = 0 }) => lag))

describe("a list of many locks", () => {
  it.live(
    "finds every lock that is held throughout, in short calls and with little memory",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server("--metrics=extensive")
        const plain = yield* plainClient(url)
        const port = yield* open(yield* parse({ hosts: url }))
        const id = "i".repeat(22)
        const value = encode(
          { kind: "mutex", permits: 1, capacity: 1, holder: "x".repeat(100), id },
          { process: undefined, base: 0n, granted: 33_000 }
        )
        const putAll = (keys: ReadonlyArray<string>) =>
          Effect.forEach(
            Array.from({ length: Math.ceil(keys.length / 100) }, (_, nth) => keys.slice(nth * 100, nth * 100 + 100)),
            (some) => port.txn({ success: some.map((key) => ({ request_put: { key: Buffer.from(key), value } })) }),
            { discard: true }
          )
        const names = Array.from({ length: listed }, (_, index) => `dlock:order:${index}`)
        yield* putAll(names.map((name) => `${name}/${"a".repeat(22)}-0`))
        // A queue in the midst of them that is as long as all others together.
        yield* putAll(Array.from({ length: listed }, (_, index) => `dlock:order:5/${"b".repeat(22)}-${index}`))
        const service = yield* admin(url)

        // Others come and go meanwhile.
        let goesOn = true
        const others = Array.from({ length: 50 }, (_, index) => `dlock:order:${index * 7}x/${"c".repeat(22)}-0`)
        const churn = (async () => {
          for (let nth = 0; goesOn; nth++) {
            const key = others[nth % others.length]!
            await plain.put(key).value(value)
            await plain.delete().key(others[(nth + 25) % others.length]!)
          }
        })()

        const list = Effect.gen(function*() {
          const before = yield* Effect.promise(() => timesOf(url))
          collect()
          const heapBefore = process.memoryUsage().heapUsed
          let heap = 0
          const found = new Set<string>()
          const began = performance.now()
          yield* Stream.runForEach(
            service.list({ key: "dlock:", prefix: "dlock:" }),
            ({ holderCount, key, queueLength }) =>
              Effect.sync(() => {
                if (found.size % 500 === 0) {
                  collect()
                  heap = Math.max(heap, process.memoryUsage().heapUsed - heapBefore)
                }
                found.add(key)
                assert.strictEqual(holderCount, 1)
                if (key === "dlock:order:5") assert.strictEqual(queueLength, listed)
              })
          )
          const took = performance.now() - began
          const after = yield* Effect.promise(() => timesOf(url))
          const calls = (limit: string) => after.get(limit)! - before.get(limit)!
          yield* Effect.log(
            `${found.size} locks in ${took.toFixed(0)} ms and ${calls("+Inf")} transactions, of which ` +
              `${calls("+Inf") - calls("0.005")} took the server more than 5 ms, ${
                calls("+Inf") - calls("0.025")
              } more ` +
              `than 25 ms; heap at most ${(heap / 1e6).toFixed(1)} MB more`
          )
          // 512 names and 256 states at a time, and the names of the long queue.
          assert.isBelow(heap, 40e6)
          assert.deepStrictEqual(names.filter((name) => !found.has(name)), [])
          // A transaction for each 16 locks, and the names of the locks and of the long queue.
          assert.isAtMost(calls("+Inf"), listed / 11 + 20)
        })
        yield* list
        yield* list
        goesOn = false
        yield* Effect.promise(() => churn)
      }).pipe(Effect.scoped),
    120_000
  )
})

v8.setFlagsFromString("--expose-gc")
const collect = vm.runInNewContext("gc") as () => void

/** How many transactions the server answered within each limit, in seconds. */
const timesOf = async (url: string): Promise<ReadonlyMap<string, number>> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  const buckets = text.matchAll(/^grpc_server_handling_seconds_bucket\{grpc_method="Txn".*le="(.*)"\} (\S+)$/gm)
  return new Map(Array.from(buckets, ([, limit, count]) => [limit!, Number(count)]))
}
