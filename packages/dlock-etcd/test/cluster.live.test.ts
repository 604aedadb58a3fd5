import { assert, describe, it } from "@effect/vitest"
import { startWorker } from "dlock-testing"
import { Duration, Effect } from "effect"
import * as Path from "node:path"
import { eventually, lag, locker, type Member, members, plainClient } from "./support.ts"

/** Set `DLOCK_ETCD_KILLS=50 DLOCK_ETCD_PROCESSES=8` for a longer run. */
const kills = Number(process.env.DLOCK_ETCD_KILLS ?? 3)
const contenders = Number(process.env.DLOCK_ETCD_PROCESSES ?? 4)

interface Section {
  readonly key: string
  readonly token: string
  readonly enter: number
  readonly exit: number
}

type Message = Section | { readonly failed: string } | { readonly started: number }

const leaderOf = (all: ReadonlyArray<Member>) =>
  Effect.promise(async () => {
    while (true) {
      for (const one of all) if (await one.leads().catch(() => false)) return one
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })

const hostsOf = (all: ReadonlyArray<Member>): string => all.map(({ url }) => url).join()

describe("three members", () => {
  it.live(
    `go on when their leader is killed under load: ${kills} times`,
    () =>
      Effect.gen(function*() {
        const all = yield* members(3)
        const workers = yield* Effect.forEach(Array.from({ length: contenders }), (_, index) =>
          Effect.acquireRelease(
            Effect.sync(() =>
              startWorker<Message>(Path.join(import.meta.dirname, "programs/contender.ts"), {
                args: [hostsOf(all), `w${index}`]
              })
            ),
            (worker) => Effect.promise(() => worker.kill())
          ))
        yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.waitFor((one) => "started" in one)))
        const now = () => Number(process.hrtime.bigint()) / 1_000_000
        const killedAt: Array<number> = []
        yield* Effect.sleep("3 seconds")
        for (let kill = 0; kill < kills; kill++) {
          const leader = yield* leaderOf(all)
          killedAt.push(now())
          yield* Effect.promise(() => leader.kill())
          yield* Effect.sleep("6 seconds")
          yield* Effect.promise(() => leader.start())
          yield* Effect.sleep("3 seconds")
        }
        for (const worker of workers) worker.send({ stop: true })
        yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.exited))

        const messages = workers.flatMap((worker) => worker.messages)
        const byKey = Map.groupBy(
          messages.filter((one): one is Section => "enter" in one),
          ({ key }) => key
        )
        assert.strictEqual(byKey.size, 1 + 8 * contenders)
        for (const [key, sections] of byKey) {
          sections.sort((a, b) => a.enter - b.enter)
          for (let index = 1; index < sections.length; index++) {
            const [before, after] = [sections[index - 1]!, sections[index]!]
            assert.isAtMost(before.exit, after.enter, `two were inside ${key}`)
            assert.isTrue(BigInt(before.token) < BigInt(after.token), `a token of ${key} went back`)
          }
        }
        const hot = byKey.get("hot")!
        const outages = killedAt.map((at) => hot.find(({ enter }) => enter > at + 50)!.enter - at).toSorted((a, b) =>
          a - b
        )
        const failures = Map.groupBy(messages.flatMap((one) => "failed" in one ? [one.failed] : []), (one) => one)
        const all_ = Array.from(byKey.values(), (sections) => sections.length)
        yield* Effect.log(
          `${all_.reduce((sum, count) => sum + count, 0)} sections, ${hot.length} of them on one key; `
            + `back ${outages.map((outage) => outage.toFixed(0)).join(", ")} ms after each kill; `
            + JSON.stringify(Array.from(failures, ([tag, list]) => `${list.length} ${tag}`))
        )
        // Enough sections to prove that there was load at each kill.
        assert.isAbove(hot.length, 10 * killedAt.length)
        assert.isAtMost(outages[Math.floor(outages.length / 2)]!, 5_000)
        // Every lock is served again after the last kill.
        for (const [key, sections] of byKey) {
          const last = killedAt.at(-1)!
          assert.isTrue(sections.some(({ enter }) => enter > last + 1_000), `${key} came back`)
        }
      }).pipe(Effect.scoped),
    60_000 + kills * 12_000
  )

  it.live("keep a lock while one of them, each in turn, is frozen", () =>
    Effect.gen(function*() {
      const all = yield* members(3)
      const { withLock } = yield* locker({ hosts: hostsOf(all) })
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          for (const one of all) {
            one.signal("SIGSTOP")
            yield* Effect.sleep("4 seconds")
            one.signal("SIGCONT")
            yield* lease.ensureHeld
            yield* Effect.sleep("1500 millis")
          }
          yield* lease.ensureHeld
        }), { ttl: "5 seconds" })
    }).pipe(Effect.scoped))

  it.live("leave a hanging or broken one behind within the limit of one operation", () =>
    Effect.gen(function*() {
      const all = yield* members(3)
      const recorded = yield* lag
      const leader = yield* leaderOf(all)
      const [hanging, good] = all.filter((one) => one !== leader) as [Member, Member]
      const admin = yield* plainClient(good.url)
      // The first host does not answer from the start.
      hanging.signal("SIGSTOP")
      const options = { hosts: [hanging.url, good.url, leader.url], operationTimeout: "1200 millis" } as const
      const [built, { withLock }] = yield* Effect.timed(locker(options))
      assert.isAtMost(Duration.toMillis(built), 1_200 + 100 + recorded.max())
      const [first] = yield* Effect.timed(withLock("k", Effect.void))
      // A hanging host would cost a third of the limit.
      assert.isBelow(Duration.toMillis(first), 400 + recorded.max(), "it is not asked again")
      hanging.signal("SIGCONT")

      // The host that is in use hangs.
      good.signal("SIGSTOP")
      const [second] = yield* Effect.timed(withLock("k", Effect.void))
      good.signal("SIGCONT")
      assert.isAtMost(Duration.toMillis(second), 2 * 1_200 + 200 + recorded.max())

      // No server listens on the port.
      const dead = yield* locker({ hosts: ["http://127.0.0.1:1", good.url] })
      const [third] = yield* Effect.timed(dead.withLock("k", Effect.void))
      assert.isAtMost(Duration.toMillis(third), 500 + recorded.max())
      yield* Effect.log(
        `built in ${Duration.toMillis(built).toFixed(0)} ms; sections ${
          [first, second, third].map((took) => Duration.toMillis(took).toFixed(0)).join(", ")
        } ms`
      )
      yield* eventually("nothing is left", async () => (await admin.getAll().prefix("dlock:k/").keys()).length === 0)
    }).pipe(Effect.scoped))
})
