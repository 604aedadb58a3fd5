import { assert, describe, it } from "@effect/vitest"
import { recordLag } from "dlock-testing"
import { fleetRunsOnce } from "dlock-testing/fleet"
import { Effect, Option, Schedule } from "effect"
import { Locker, Once } from "effect-dlock"
import * as Path from "node:path"
import type { CallFailure } from "../src/internal/client/failure.ts"
import type { Port } from "../src/internal/client/port.ts"
import { leases, locker, lockerOver, members, plainClient, server, setting } from "./support.ts"

/** For how many times two seconds the fleet runs. */
const ticks = Number(process.env.DLOCK_TICKS ?? 8)

describe("Once", () => {
  it.live(
    "runs each job of a fleet once, though clocks differ, a process dies in a run and another one joins",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const program = Path.join(import.meta.dirname, "programs/jobber.ts")
        yield* fleetRunsOnce({ program, url, ticks, interval: 2_000 })
      }).pipe(Effect.scoped),
    ticks * 2_000 + 120_000
  )

  it.live(
    "leaves one lease for the record of an interval, however often its writes fail",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const admin = yield* plainClient(etcd.url)
        const failure: CallFailure = {
          _tag: "CallFailure",
          notDone: false,
          retryable: true,
          leaseGone: false,
          cause: new Error("no answer")
        }
        let lost = 0
        const losing = (port: Port): Port => ({
          ...port,
          txn: (request, limit) => {
            const isRecord = request.success?.some(({ request_put }) => String(request_put?.key).endsWith("ran within"))
            const call = port.txn(request, limit)
            if (isRecord !== true || lost === 4) return call
            lost++
            // The last write that is lost was executed.
            return lost === 4 ? Effect.andThen(call, Effect.fail(failure)) : Effect.fail(failure)
          }
        })
        for (const counts of ["success", "start"] as const) {
          lost = 0
          const before = (yield* Effect.promise(() => leases(admin))).length
          yield* Effect.scoped(Effect.gen(function*() {
            const locker = yield* lockerOver(etcd.url, losing)
            const run = Once.within(counts, "300 days", Effect.void, { counts, ttl: "2 seconds" })
            const its = Effect.provideService(run, Locker, locker)
            assert.isTrue(Option.isSome(yield* its))
            assert.isTrue(Option.isNone(yield* its))
          }))
          assert.strictEqual(lost, 4)
          assert.strictEqual((yield* Effect.promise(() => leases(admin))).length, before + 1)
        }
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "ends an interval in time although a restart of the server begins its lease anew",
    () =>
      Effect.gen(function*() {
        const [member] = yield* members(1)
        const recorded = recordLag()
        const its = yield* locker({ hosts: member!.url })
        const run = Effect.provideService(
          Once.within("job", "5 seconds", Effect.void, { counts: "start" }),
          Locker,
          its
        )
        assert.isTrue(Option.isSome(yield* run))
        const ranAt = performance.now()
        yield* Effect.sleep("1 second")
        assert.isTrue(Option.isNone(yield* run))
        yield* Effect.sleep("2 seconds")
        yield* Effect.promise(() => member!.kill())
        yield* Effect.promise(() => member!.start())
        const isDue = Effect.map(Effect.option(run), (ran) => Option.isSome(Option.flatten(ran)))
        yield* Effect.repeat(isDue, { until: (due) => due, schedule: Schedule.spaced("50 millis") })
        const took = performance.now() - ranAt
        assert.isAtLeast(took, 5_000)
        assert.isBelow(took, 5_000 + 1_500 + recorded.max())
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("stays away from a record that another program wrote", () =>
    Effect.gen(function*() {
      const { admin, another } = yield* setting()
      const locker = yield* another
      const broken = [{ slot: "abc", startedAt: 1 }, { slot: "1" }, { startedAt: 1e300 }]
      for (const [index, record] of broken.entries()) {
        const key = `broken ${index}`
        yield* Effect.promise(() =>
          admin.put(`dlock:${key}\0ran`).value(JSON.stringify({ layout: 1, ...record })).exec()
        )
        for (const call of [Effect.asVoid(Once.lastRun(key)), Effect.asVoid(Once.slot(key, 1n, Effect.void))]) {
          const error = yield* Effect.flip(Effect.provideService(call, Locker, locker))
          assert.strictEqual(error._tag, "LockBackendError")
        }
      }
    }).pipe(Effect.scoped))
})
