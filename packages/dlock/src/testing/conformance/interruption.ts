import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as FaultyLockStore from "../FaultyLockStore.ts"
import { type Bench, type Body, equal, expect, type LockerService } from "./bench.ts"

const scoped = (locker: LockerService, key: string) => Effect.scoped(Effect.andThen(locker.scoped(key), Effect.never))

/** Two clients. The first is wrapped in a `FaultyLockStore`, with a locker over it. */
const setting = Effect.fnUntraced(function*(bench: Bench) {
  const [client, other] = yield* Effect.all([bench.client, bench.client])
  const faulty = yield* FaultyLockStore.make(client)
  return { faulty, other, locker: yield* bench.locker(faulty.store), key: bench.key() }
})

const interrupted = <A, E>(bench: Bench, fiber: Fiber.Fiber<A, E>) =>
  Effect.flatMap(
    bench.fork(Fiber.interrupt(fiber)),
    (interrupting) => bench.drive(interrupting, "the interruption to end", 2 * bench.ttl + bench.soon)
  )

/**
 * Interrupts a fiber, and then waits until other claims can have the key. The interruption waits a moment for the
 * withdrawal. On a busy machine the withdrawal continues in the background, and the next request of the same locker
 * waits for it.
 */
const interruptedToTheEnd = <A, E>(bench: Bench, locker: LockerService, key: string, fiber: Fiber.Fiber<A, E>) =>
  Effect.gen(function*() {
    const began = yield* bench.now
    yield* interrupted(bench, fiber)
    if ((yield* bench.now) - began >= moment) yield* Effect.ignore(locker.withLockIfAvailable(key, Effect.void))
  })

/** Milliseconds. An interruption waits longer than this for its withdrawal. */
const moment = 25

/** Wherever an acquire is interrupted, another client can get the key at once. */
export const interruption: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["interrupted before its request is sent, an acquire leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* faulty.holdCalls("request")
      const taking = yield* bench.fork(scoped(locker, key))
      yield* held.caught
      yield* interrupted(bench, taking)
      yield* bench.expectFree(other, key, "after an interruption before the request was sent")
      yield* held.release
      yield* bench.advance(10)
      yield* bench.expectFree(other, key, "after the interrupted request was executed late")
    })],

  ["interrupted while the reply is on its way, an acquire leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* faulty.holdReplies("request")
      const taking = yield* bench.fork(scoped(locker, key))
      yield* held.caught
      yield* bench.expectHeld(other, key, "once the request was executed")
      const interrupting = yield* bench.fork(Fiber.interrupt(taking))
      yield* held.release
      yield* bench.drive(interrupting, "the interruption to end")
      yield* bench.expectFree(other, key, "after an interruption before the reply came")
    })],

  ["interrupted while the reply never comes, an acquire leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* faulty.holdReplies("request")
      const taking = yield* bench.fork(scoped(locker, key))
      yield* held.caught
      yield* interrupted(bench, taking)
      yield* bench.expectFree(other, key, "after an interruption with the reply lost")
    })],

  ["a program does not begin when the reply comes after its interruption", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const held = yield* faulty.holdReplies("request")
      let began = false
      const taking = yield* bench.fork(locker.withLock(key, Effect.sync(() => began = true)))
      yield* held.caught
      const interrupting = yield* bench.fork(Fiber.interrupt(taking))
      yield* held.release
      yield* bench.drive(interrupting, "the interruption to end")
      equal(began, false, "whether the program began")
      yield* bench.expectFree(other, key, "after the interruption")
    })],

  ["interrupted in the queue, an acquire leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      const holder = bench.claim(key)
      yield* bench.hold(other, holder)
      const waiting = yield* bench.fork(scoped(locker, key))
      yield* bench.until("the acquire to wait", () => faulty.calls.some((call) => call.operation === "wait"))
      yield* interrupted(bench, waiting)
      const next = bench.claim(key)
      equal((yield* bench.queue(other, next)).ahead().waiting, 1, "the queue's length after the interruption")
      yield* other.withdraw(next)
      yield* other.withdraw(holder)
      yield* bench.expectFree(other, key, "after an interruption in the queue and the release")
    })],

  ["interrupted at the moment of the grant, an acquire leaves nothing behind", (bench) =>
    Effect.gen(function*() {
      const { faulty, key, locker, other } = yield* setting(bench)
      for (const inTime of [true, false]) {
        const holder = bench.claim(key)
        yield* bench.hold(other, holder)
        const held = yield* faulty.holdReplies("wait")
        const waiting = yield* bench.fork(scoped(locker, key))
        yield* bench.until("the acquire to wait", () => faulty.calls.at(-1)?.operation === "wait")
        yield* other.withdraw(holder)
        const caught = yield* bench.fork(held.caught)
        yield* bench.drive(caught, "the grant to come")
        if (inTime) yield* held.release
        yield* interrupted(bench, waiting)
        yield* bench.expectFree(other, key, `after an interruption ${inTime ? "with" : "before"} the news of the grant`)
        yield* held.release
      }
    })],

  ["interrupted while it holds, a lock is released", (bench) =>
    Effect.gen(function*() {
      const { key, locker, other } = yield* setting(bench)
      let inside = false
      const body = Effect.andThen(Effect.sync(() => inside = true), Effect.never)
      const holding = yield* bench.fork(locker.withLock(key, body))
      yield* bench.until("the program to run", () => inside)
      yield* bench.expectHeld(other, key, "while the program runs")
      yield* interrupted(bench, holding)
      yield* bench.expectFree(other, key, "after the program was interrupted")
    })],

  [
    "an acquire that times out at the moment of the grant leaves nothing behind, or holds",
    (bench) =>
      Effect.gen(function*() {
        const { faulty, key, locker, other } = yield* setting(bench)
        const holder = bench.claim(key)
        yield* bench.hold(other, holder)
        // The one-time costs of a first call are paid here, not in the time of the call below.
        yield* locker.withLock(bench.key(), Effect.void)
        const held = yield* faulty.holdReplies("wait")
        const waiting = yield* bench.fork(Effect.flip(locker.withLock(key, Effect.void, { timeout: bench.ttl / 3 })))
        yield* bench.until("the acquire to wait", () => faulty.calls.at(-1)?.operation === "wait")
        yield* other.withdraw(holder)
        const error = yield* bench.drive(waiting, "the wait to time out", bench.ttl + bench.soon)
        equal(error._tag, "LockTimeout", "the error")
        yield* bench.expectFree(other, key, "after a timeout that met the grant")
        yield* held.release
      })
  ],

  [
    "interrupted after any number of steps, an acquire leaves nothing behind: key free",
    (bench) =>
      Effect.gen(function*() {
        const { key, locker, other } = yield* setting(bench)
        for (const form of [scoped(locker, key), locker.withLock(key, Effect.never)]) {
          for (let steps = 0; steps < 40; steps++) {
            const taking = yield* Effect.forkChild(form)
            for (let i = 0; i < steps; i++) yield* Effect.yieldNow
            yield* interruptedToTheEnd(bench, locker, key, taking)
            yield* bench.expectFree(other, key, `after an interruption ${steps} steps into it`)
          }
        }
      })
  ],

  [
    "interrupted after any number of steps, an acquire leaves nothing behind: key being released",
    (bench) =>
      Effect.gen(function*() {
        const { faulty, key, locker, other } = yield* setting(bench)
        for (let steps = 0; steps < 40; steps++) {
          const holder = bench.claim(key)
          yield* bench.hold(other, holder)
          const asked = faulty.calls.length
          const taking = yield* Effect.forkChild(scoped(locker, key))
          yield* bench.until(
            "the acquire to wait",
            () => faulty.calls.slice(asked).some((call) => call.operation === "wait")
          )
          const releasing = yield* Effect.forkChild(other.withdraw(holder))
          for (let i = 0; i < steps; i++) yield* Effect.yieldNow
          yield* interruptedToTheEnd(bench, locker, key, taking)
          yield* bench.drive(releasing, "the release to end")
          yield* bench.expectFree(other, key, `after an interruption ${steps} steps after the release began`)
        }
      })
  ],

  ["interrupted after any number of steps, a release is completed", (bench) =>
    Effect.gen(function*() {
      const { key, locker, other } = yield* setting(bench)
      for (let steps = 0; steps < 20; steps++) {
        const lease = yield* locker.scoped(key)
        const releasing = yield* Effect.forkChild(lease.release)
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* interrupted(bench, releasing)
        yield* lease.release
        const now = yield* bench.now
        yield* bench.expectFree(other, key, `after an interruption ${steps} steps into the release`)
        expect((yield* bench.now) - now < bench.soon, "it at once")
      }
    })],

  [
    "interrupted anywhere, and at once tried again by the same fiber, the key is never held by its own leavings",
    (bench) =>
      Effect.gen(function*() {
        const { faulty, key, other } = yield* setting(bench)
        // A ttl that leaves time for calls on a busy machine.
        const locker = yield* bench.locker(faulty.store, { defaultTtl: "1 minute" })
        for (let round = 0; round < bench.rounds; round++) {
          const taking = yield* Effect.forkChild(scoped(locker, key))
          for (let i = 0; i < round % 40; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(taking)
          // If the backend takes a second to answer, it has not said that the key is held.
          const tried = yield* locker.withLockIfAvailable(key, Effect.void).pipe(
            Effect.catchTag("LockBackendError", () => Effect.succeedSome(undefined))
          )
          equal(Option.isSome(tried), true, `whether a try was served after an interruption ${round % 40} steps in`)
        }
        yield* bench.expectFree(other, key, "after all interruptions")
      })
  ]
]
