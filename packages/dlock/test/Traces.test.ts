import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Logger, Option, Scope, Tracer } from "effect"
import { DistributedSemaphore, type LockBackendError, Locker, MemoryLockStore, ReadWriteLock, Want } from "effect-dlock"
import { TestClock } from "effect/testing"
import * as Owner from "../src/internal/options/owner.ts"
import { its } from "./leaderSupport.ts"
import { adminSetting, fork, lockerOver, outside, setting } from "./support.ts"

/** Runs an effect with a tracer that keeps its spans. */
const recorded = <A, E, R>(body: (spans: ReadonlyArray<Tracer.Span>) => Effect.Effect<A, E, R>) => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return Effect.withTracer(body(spans), tracer)
}

const named = (spans: ReadonlyArray<Tracer.Span>, name: string) => spans.filter((span) => span.name === name)

const parentOf = ({ parent }: Tracer.Span) => Option.getOrUndefined(parent)?.spanId

const attributesOf = ({ attributes }: Tracer.Span) => Object.fromEntries(attributes)

const linksOf = ({ links }: Tracer.Span) => links.map(({ span }) => span.spanId)

/** From when to when a span was, in milliseconds. */
const timesOf = ({ status }: Tracer.Span) => {
  assert.strictEqual(status._tag, "Ended")
  return status._tag === "Ended"
    ? [Number(status.startTime / 1_000_000n), Number(status.endTime / 1_000_000n)]
    : []
}

const failureOf = ({ status }: Tracer.Span) =>
  status._tag === "Ended" && Exit.isFailure(status.exit) ? status.exit.cause : undefined

/** A request with a trace of its own. */
const request = (name: string, sampled = true) => Effect.withSpan(name, { root: true, sampled })

describe("the spans of a lock", () => {
  it.effect("are one for the acquire and one for the hold, side by side, and the program's are inside the hold", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const holder = yield* fork(locker.withLock("k", Effect.sleep("3 seconds")))
        const work = Effect.withSpan(Effect.sleep("2 seconds"), "work")
        const section = yield* fork(request("request")(locker.withLock("k", work)))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.joinAll([holder, section])
        assert.deepStrictEqual(spans.map(({ name }) => name), ["request", "dlock.acquire", "dlock.hold", "work"])
        const [outer, acquire, hold, inner] = spans as [Tracer.Span, Tracer.Span, Tracer.Span, Tracer.Span]
        assert.strictEqual(parentOf(acquire), outer.spanId)
        assert.strictEqual(parentOf(hold), outer.spanId)
        assert.strictEqual(parentOf(inner), hold.spanId)
        assert.deepStrictEqual(timesOf(acquire), [0, 3_000])
        assert.deepStrictEqual(timesOf(hold), [3_000, 5_000])
        assert.deepStrictEqual(attributesOf(acquire), {
          "dlock.key": "k",
          "dlock.kind": "mutex",
          "dlock.place": 0,
          "dlock.waited_ms": 3_000,
          "dlock.token": "2"
        })
        assert.deepStrictEqual(attributesOf(hold), { "dlock.key": "k", "dlock.kind": "mutex", "dlock.token": "2" })
      })
    ))

  it.effect("are none where the caller has no span, one that is not sampled, or no tracer", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const use = Effect.andThen(locker.withLock("k", Effect.void), Effect.scoped(locker.scoped("k")))
        yield* use
        yield* request("unsampled", false)(use)
        yield* request("sampled")(Effect.withTracerEnabled(use, false))
        assert.deepStrictEqual(named(spans, "dlock.acquire"), [])
        assert.deepStrictEqual(named(spans, "dlock.hold"), [])
        for (const { claims: [claim] } of faulty.calls) assert.notInclude(claim!.holder, "\t")
      })
    ))

  it.effect("say how the acquire and the section ended", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* Effect.scoped(locker.scoped("held"))
        const holder = yield* fork(locker.withLock("held", Effect.never))
        const impatient = locker.withLock("held", Effect.void, { timeout: "1 second" })
        const late = yield* fork(request("late")(Effect.flip(impatient)))
        const stopped = yield* fork(request("stopped")(locker.withLock("held", Effect.void)))
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(late)
        yield* Fiber.interrupt(stopped)
        const [timeout, interrupted] = named(spans, "dlock.acquire") as [Tracer.Span, Tracer.Span]
        assert.include(String(failureOf(timeout)), "LockTimeout")
        assert.strictEqual(attributesOf(timeout)["dlock.waited_ms"], 1_000)
        assert.include(String(failureOf(interrupted)), "Interrupt")
        assert.deepStrictEqual(named(spans, "dlock.hold"), [])

        yield* Effect.exit(request("own")(locker.withLock("k", Effect.fail("own"))))
        yield* faulty.answerRenewals({ _tag: "Replaced" })
        const lost = yield* fork(request("lost")(Effect.flip(locker.withLock("l", Effect.never))))
        yield* TestClock.adjust("4 seconds")
        yield* Fiber.join(lost)
        const [failed, gone] = named(spans, "dlock.hold") as [Tracer.Span, Tracer.Span]
        assert.include(String(failureOf(failed)), "own")
        assert.include(String(failureOf(gone)), "OwnershipLost")
        yield* Fiber.interrupt(holder)
      })
    ))

  it.effect("of a scope end at the release, and a try that finds the lock held has no hold", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const taking = Effect.gen(function*() {
          const lease = yield* locker.scoped("k")
          yield* Effect.sleep("1 second")
          assert.isTrue(Option.isNone(yield* outside(locker.scopedIfAvailable("k").pipe(Effect.scoped))))
          yield* lease.release
          yield* Effect.sleep("1 second")
        })
        const fiber = yield* fork(request("request")(Effect.scoped(taking)))
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(fiber)
        const [hold, ...more] = named(spans, "dlock.hold")
        assert.deepStrictEqual(timesOf(hold!), [0, 1_000])
        assert.deepStrictEqual(more, [])
        for (const acquire of named(spans, "dlock.acquire")) assert.isUndefined(failureOf(acquire))
      })
    ))

  it.effect("are none of their own for a section that enters a lock again", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const inner = locker.withLock("k", Effect.withSpan(Effect.void, "inner"), { reentrant: true })
        yield* request("request")(locker.withLock("k", inner))
        assert.strictEqual(named(spans, "dlock.acquire").length, 1)
        const [hold] = named(spans, "dlock.hold") as [Tracer.Span]
        assert.strictEqual(parentOf(named(spans, "inner")[0]!), hold.spanId)
      })
    ))

  it.effect("are one acquire and one hold for several locks", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const api = yield* its(locker)(DistributedSemaphore.make("api", { permits: 2 }))
        const section = locker.withLocks(["a", Want.permits(api, 1)], Effect.withSpan(Effect.sleep("1 second"), "work"))
        const fiber = yield* fork(request("request")(section))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(fiber)
        const [acquire, hold] = [named(spans, "dlock.acquire"), named(spans, "dlock.hold")]
        assert.deepStrictEqual(acquire.concat(hold).map((span) => attributesOf(span)["dlock.keys"]), [["a", "api"], [
          "a",
          "api"
        ]])
        assert.strictEqual(attributesOf(hold[0]!)["dlock.kind"], "several")
        assert.deepStrictEqual(timesOf(hold[0]!), [0, 1_000])
        assert.strictEqual(parentOf(named(spans, "work")[0]!), hold[0]!.spanId)
      })
    ))

  it.effect("begin where a call waits for its turn to ask", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const kept = yield* faulty.holdCalls("request")
        const others = yield* Effect.forEach(
          Array.from({ length: 2_000 }, (_, index) => `k${index}`),
          (key) => fork(locker.withLock(key, Effect.void))
        )
        const mine = yield* fork(request("request")(locker.withLock("mine", Effect.sleep("1 second"))))
        yield* TestClock.adjust("0.5 seconds")
        yield* kept.release
        yield* TestClock.adjust("1 second")
        yield* Fiber.joinAll([...others, mine])
        assert.deepStrictEqual(named(spans, "dlock.acquire").map(timesOf), [[0, 500]])
        assert.deepStrictEqual(named(spans, "dlock.hold").map(timesOf), [[500, 1_500]])
      })
    ))
})

describe("the lock's own work is in no trace", () => {
  it.effect("neither its calls to the store nor its renewals, wherever its layer was built", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const called = <A>(name: string, call: Effect.Effect<A, LockBackendError>) => Effect.withSpan(call, name)
        const store = {
          ...memory,
          bounded: false,
          request: (...args: Parameters<typeof memory.request>) => called("store.request", memory.request(...args)),
          renew: (...args: Parameters<typeof memory.renew>) => Effect.withSpan(memory.renew(...args), "store.renew"),
          withdraw: (...args: Parameters<typeof memory.withdraw>) => called("store.withdraw", memory.withdraw(...args))
        }
        const locker = yield* request("start")(lockerOver(store))
        const section = request("request")(locker.withLock("k", Effect.sleep("1 minute")))
        const group = request("request")(locker.withLocks(["a", "b"], Effect.sleep("1 minute")))
        const fibers = [yield* fork(section), yield* fork(group)]
        yield* TestClock.adjust("1 minute")
        yield* Fiber.joinAll(fibers)
        assert.deepStrictEqual(spans.filter(({ name }) => name.startsWith("store")), [])
      })
    ))
})

describe("a caller that waits is linked to the holder in its way", () => {
  it.effect("to the acquire of that hold, which is in the trace in which the holder works", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        // Another process.
        const other = yield* lockerOver({ ...memory }, { holder: "other" })
        const holder = yield* fork(request("holder")(other.withLock("k", Effect.sleep("3 seconds"))))
        const waiter = yield* fork(request("waiter")(locker.withLock("k", Effect.void)))
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.joinAll([holder, waiter])
        const [theirs, mine] = named(spans, "dlock.acquire") as [Tracer.Span, Tracer.Span]
        assert.deepStrictEqual(theirs.links, [])
        assert.deepStrictEqual(linksOf(mine), [theirs.spanId])
        const [{ attributes, span }] = mine.links as [Tracer.SpanLink]
        assert.strictEqual(span.traceId, named(spans, "holder")[0]!.traceId)
        assert.isTrue(span.sampled)
        assert.deepStrictEqual(attributes, { "dlock.link": "holder" })
      })
    ))

  it.effect("and once more if it is another one in the end", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory })
        const section = (name: string) => fork(request(name)(other.withLock("k", Effect.sleep("1 second"))))
        const others = yield* Effect.forEach(["first", "second", "third"], section)
        const mine = yield* fork(request("mine")(locker.withLock("k", Effect.void)))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.joinAll([...others, mine])
        const [first, , third, last] = named(spans, "dlock.acquire") as [
          Tracer.Span,
          Tracer.Span,
          Tracer.Span,
          Tracer.Span
        ]
        assert.deepStrictEqual(linksOf(last), [first.spanId, third.spanId])
      })
    ))

  it.effect("and to none where the holder is not sampled, or tells what is no span", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const labels = [
          "theirs",
          "theirs\ttrace 00-zz-11-01",
          `theirs\ttrace 00-${"0".repeat(32)}-${"1".repeat(16)}-01`,
          "theirs\ttrace ",
          `theirs\ttrace ff-${"1".repeat(32)}-${"1".repeat(16)}-01`
        ]
        for (const [index, label] of labels.entries()) {
          const key = `k${index}`
          const request = (claim: Parameters<typeof memory.request>[0], mode: "queue" | "try") =>
            memory.request({ ...claim, holder: label }, mode)
          const other = yield* lockerOver({ ...memory, request })
          const scope = yield* Scope.make()
          yield* Scope.provide(other.scoped(key), scope)
          const impatient = locker.withLock(key, Effect.void, { timeout: "1 second" })
          const waiter = yield* fork(Effect.withSpan(Effect.flip(impatient), "waiter", { root: true }))
          yield* TestClock.adjust("1 second")
          const error = yield* Fiber.join(waiter)
          assert.strictEqual(error._tag === "LockTimeout" ? error.holder : undefined, "theirs")
          yield* Scope.close(scope, Exit.void)
        }
        assert.deepStrictEqual(named(spans, "dlock.acquire").flatMap(linksOf), [])
      })
    ))

  it.effect("also within a process whose store tells nobody of the trace", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { memory } = yield* setting()
        const request = (claim: Parameters<typeof memory.request>[0], mode: "queue" | "try") =>
          memory.request({ ...claim, holder: claim.holder.split("\t")[0]! }, mode)
        const locker = yield* lockerOver({ ...memory, request })
        const holder = yield* fork(Effect.withSpan(locker.withLock("k", Effect.sleep("1 second")), "a", { root: true }))
        const waiter = yield* fork(Effect.withSpan(locker.withLock("k", Effect.void), "b", { root: true }))
        yield* TestClock.adjust("1 second")
        yield* Fiber.joinAll([holder, waiter])
        const [first, second] = named(spans, "dlock.acquire") as [Tracer.Span, Tracer.Span]
        assert.deepStrictEqual(linksOf(second), [first.spanId])
      })
    ))

  it.effect("and to none of those who come in with it", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const { withReadLock, withWriteLock } = yield* ReadWriteLock.make("k").pipe(
          Effect.provideService(Locker, locker)
        )
        const writer = yield* fork(withWriteLock(Effect.sleep("1 second")))
        const readers = yield* Effect.forEach(
          ["a", "b", "c"],
          (name) => fork(request(name)(withReadLock(Effect.sleep("1 second"))))
        )
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.joinAll([writer, ...readers])
        assert.deepStrictEqual(named(spans, "dlock.acquire").map(linksOf), [[], [], []])
      })
    ))
})

/** Runs an effect with a tracer whose spans throw where this says so. */
const broken = <A, E, R>(
  throws: { readonly span?: string; readonly on?: "attribute" | "addLinks" | "end" },
  body: Effect.Effect<A, E, R>
) =>
  Effect.withTracer(
    body,
    Tracer.make({
      span: (options) => {
        if (options.name === throws.span) throw new Error("the tracer is broken")
        const span = new Tracer.NativeSpan(options)
        if (!options.name.startsWith("dlock") || throws.on === undefined) return span
        return Object.assign(span, {
          [throws.on]: (what: unknown) => {
            // These are noted while the span is made, when there is no lock yet.
            if (!["dlock.key", "dlock.keys", "dlock.kind"].includes(String(what))) {
              throw new Error("the tracer is broken")
            }
          }
        })
      }
    })
  )

describe("a tracer that throws", () => {
  const ways = [{ span: "dlock.hold" }, { on: "attribute" }, { on: "addLinks" }, { on: "end" }] as const
  for (const throws of ways) {
    it.effect(`at ${"on" in throws ? throws.on : "the begin of a hold"} leaves no lock behind`, () =>
      Effect.provide(
        Effect.gen(function*() {
          const { locker, memory } = yield* setting()
          const other = yield* lockerOver({ ...memory })
          yield* broken(
            throws,
            Effect.gen(function*() {
              const holder = yield* fork(request("a")(locker.withLock("k", Effect.sleep("1 second"))))
              const waiter = yield* fork(request("b")(locker.withLock("k", Effect.succeed("in"))))
              const group = yield* fork(request("c")(locker.withLocks(["k", "l"], Effect.succeed("in"))))
              yield* TestClock.adjust("2 seconds")
              assert.deepStrictEqual(yield* Fiber.joinAll([waiter, group]), ["in", "in"])
              yield* Fiber.join(holder)
            })
          )
          for (const key of ["k", "l"]) assert.isTrue(Option.isSome(yield* other.withLockIfAvailable(key, Effect.void)))
        }),
        Logger.layer([])
      ))
  }

  it.effect("ends the span of a hold that is lost while it is made", () => {
    const scope = Scope.makeUnsafe()
    const spans: Array<Tracer.Span> = []
    const tracer = Tracer.make({
      span: (options) => {
        if (options.name === "dlock.hold") {
          Effect.runSync(Effect.exit(Effect.forkDetach(Scope.close(scope, Exit.void), { startImmediately: true })))
        }
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return Effect.gen(function*() {
      const { memory } = yield* setting()
      const locker = yield* Scope.provide(lockerOver({ ...memory }), scope)
      yield* fork(Effect.exit(Effect.withTracer(request("a")(locker.withLock("k", Effect.never)), tracer)))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(spans.map(({ name, status }) => [name, status._tag]), [
        ["a", "Ended"],
        ["dlock.acquire", "Ended"],
        ["dlock.hold", "Ended"]
      ])
    })
  })
})

describe("the trace of a holder", () => {
  it.effect("is told by inspect, and is no part of the name that people see", () =>
    recorded((spans) =>
      Effect.gen(function*() {
        const { locker, operator } = yield* adminSetting({ holder: "shop" })
        const metadata = { pod: "a" }
        const started = yield* Deferred.make<string>()
        const holding = locker.withLock(
          "k",
          (lease) => Effect.andThen(Deferred.succeed(started, lease.holder), Effect.never),
          { metadata }
        )
        const fiber = yield* fork(request("request")(locker.withLock("outer", outside(holding))))
        const waiter = yield* fork(request("waiter")(locker.withLock("k", Effect.void)))
        const [, acquire, waiting] = named(spans, "dlock.acquire") as [Tracer.Span, Tracer.Span, Tracer.Span]
        const traceparent = ({ spanId, traceId }: Tracer.Span) => Option.some(`00-${traceId}-${spanId}-01`)
        assert.strictEqual(yield* Deferred.await(started), "shop")
        const info = yield* operator.inspect("k")
        assert.deepInclude(info.holders[0], { holder: "shop", metadata, traceparent: traceparent(acquire) })
        assert.deepInclude(info.waiting[0], { holder: "shop", traceparent: traceparent(waiting) })
        yield* Fiber.interruptAll([fiber, waiter])
      })
    ))

  it("is kept beside the metadata and what the caller holds, and none of them is lost", () => {
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`
    const label = Owner.withHeld(Owner.withTrace(Owner.encode("shop", { pod: "a" }), traceparent), ["p:{a}\ttrace x"])
    assert.deepStrictEqual(Owner.decode(label), {
      name: "shop",
      metadata: { pod: "a" },
      traceparent,
      holds: ["p:{a}\ttrace x"]
    })
    assert.strictEqual(Owner.withoutHeld(label), Owner.encode("shop", { pod: "a" }))
    assert.strictEqual(Owner.withoutHeld(Owner.withHeld("shop", ["k\ttrace x"])), "shop")
    assert.isUndefined(Owner.traceparentOf("trace", "span"))
  })
})

it.effect("a layer that is built in a trace makes no spans of its own", () =>
  recorded((spans) =>
    Effect.gen(function*() {
      yield* request("start")(Layer.build(MemoryLockStore.layer))
      assert.deepStrictEqual(spans.map(({ name }) => name), ["start"])
    })
  ))
