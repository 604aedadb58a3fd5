import { assert } from "@effect/vitest"
import { Clock, type Duration, Effect, Fiber, Option } from "effect"
import { Leader, Lease, Locker, type OwnershipLost } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

export const its = (locker: Locker["Service"]) => Effect.provideService(Locker, locker)

/** Programs that tell when they began and ended, by their names. They run until they are interrupted. */
export const diary = () => {
  const lines: Array<string> = []
  const note = (text: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sync(() => void lines.push(`${now / 1_000} ${text}`)))
  const program = (name: string, ending: Duration.Input = 0) =>
    Effect.flatMap(
      Lease,
      ({ fencingToken }) =>
        Effect.andThen(note(`${name} begins term ${fencingToken}`), Effect.never).pipe(
          Effect.onInterrupt(() =>
            Effect.andThen(ending === 0 ? Effect.void : Effect.sleep(ending), note(`${name} ends`))
          )
        )
    )
  return { lines, note, program }
}

/** A program that cannot be interrupted. It ends in real time too, so that a test that fails does not hang. */
export const deaf = (duration: Duration.Input) =>
  Effect.uninterruptible(Effect.raceFirst(Effect.sleep(duration), TestClock.withLive(Effect.sleep("3 seconds"))))

/** Ends a leader whose program takes a while to end. */
export const end = (leader: Fiber.Fiber<unknown, unknown>) =>
  Effect.andThen(fork(Fiber.interrupt(leader)), TestClock.adjust("2 minutes"))

/** Two processes: two lockers over one store. */
export const two = Effect.gen(function*() {
  const { faulty, locker, memory, sent } = yield* setting({ holder: "one" })
  const other = yield* lockerOver(memory, { defaultTtl: "9 seconds", holder: "two" })
  return { faulty, sent, one: its(locker), two: its(other), locker }
})

export const lostBy = (error: { readonly _tag: string }): OwnershipLost => {
  assert.strictEqual(error._tag, "OwnershipLost")
  return error as OwnershipLost
}

export const checkFree = (locker: Locker["Service"]) =>
  Effect.orDie(Effect.map(outside(locker.withLockIfAvailable("role", Effect.void)), Option.isSome))

export const stateOf = (locker: Locker["Service"], name = "role") =>
  its(locker)(Effect.map(Leader.status(name), ({ state }) => state))
