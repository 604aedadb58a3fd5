/** Measures what a lock costs on this server. */
import { Lease } from "effect-dlock/Lease"
import type { Locker } from "effect-dlock/Locker"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Samples, type Times, timesOf } from "./samples.ts"

type Locks = Locker["Service"]

/** The sections of some callers, each with a lock of its own. */
export interface Sections extends Times {
  readonly callers: number
  readonly perSecond: number
}

export interface Measured {
  readonly alone: Sections | undefined
  readonly together: Sections | undefined
  /** From the end of a section to the beginning of the next one on the same lock, which is another process's. */
  readonly handOver: Times | undefined
  /** From the sending of a renewal to its answer, at most, while all else ran. */
  readonly renewal: Times | undefined
}

/** What is measured, for the progress. */
export type Phase = "alone" | "together" | "handOver"

/**
 * Runs all of it in so many milliseconds. The lockers are two clients of the same server, with a prefix that nobody else
 * uses. An interruption releases all locks.
 */
export const measure = (
  [one, other]: readonly [Locks, Locks],
  millis: number,
  begins: (phase: Phase) => Effect.Effect<void>
) =>
  Effect.gen(function*() {
    const share = millis / 3
    // The first calls make connections and compile programs.
    yield* Effect.forEach([one, other], (locker) => locker.withLock("first", Effect.void), { discard: true })
    const renewals = new Samples()
    const renewing = yield* Effect.forkChild(renewed(one, renewals))
    yield* begins("alone")
    const alone = yield* sections(one, 1, share)
    yield* begins("together")
    const together = yield* sections(one, mostCallers, share)
    yield* begins("handOver")
    const handOver = yield* handOvers(one, other, share)
    renewing.interruptUnsafe()
    const measured: Measured = { alone, together, handOver, renewal: timesOf(renewals) }
    return measured
  })

export const mostCallers = 16

const now = Effect.sync(() => performance.now())

/** Repeats an effect until the time is over. What is under way then comes to its end. */
const during = <A, E, R>(effect: Effect.Effect<A, E, R>, millis: number) =>
  Effect.flatMap(now, (startedAt) =>
    Effect.whileLoop({
      while: () => performance.now() < startedAt + millis,
      body: () => effect,
      step: () => {}
    }))

const sections = (locker: Locks, callers: number, millis: number) =>
  Effect.gen(function*() {
    const samples = new Samples()
    const caller = (nth: number) => {
      const section = locker.withLock(`alone:${nth}`, Effect.void)
      const timed = Effect.flatMap(now, (startedAt) =>
        Effect.andThen(section, Effect.sync(() => samples.add(performance.now() - startedAt))))
      return during(timed, millis)
    }
    const startedAt = yield* now
    yield* Effect.forEach(
      Array.from({ length: callers }, (_, nth) =>
        nth),
      caller,
      {
        concurrency: "unbounded",
        discard: true
      }
    )
    const times = timesOf(samples)
    const seconds = ((yield* now) - startedAt) / 1_000
    return times === undefined ? undefined : { ...times, callers, perSecond: samples.count / seconds }
  })

/** Two clients take turns, so that each grant is a hand-over to the one that waits. */
const handOvers = (one: Locks, other: Locks, millis: number) =>
  Effect.gen(function*() {
    const samples = new Samples()
    let last: { readonly nth: number; readonly endedAt: number } | undefined
    const turns = (client: Locks, nth: number) => {
      const section = client.withLock(
        "turns",
        Effect.gen(function*() {
          // Only the grant to one that waited is a hand-over.
          if (last !== undefined && last.nth !== nth) samples.add((yield* now) - last.endedAt)
          // Long enough for the other to ask meanwhile.
          yield* Effect.sleep(sectionMillis)
          last = { nth, endedAt: yield* now }
        })
      )
      return during(section, millis)
    }
    yield* Effect.all([turns(one, 1), turns(other, 2)], { concurrency: 2, discard: true })
    return timesOf(samples)
  })

const sectionMillis = 5

/**
 * Holds a lock and looks how much time it has left. A renewal counts from its sending, so what is missing from the whole ttl
 * when it is confirmed is the time that it took, and up to a millisecond or two until this looks.
 */
const renewed = (locker: Locks, samples: Samples) => {
  const look = Effect.gen(function*() {
    const lease = yield* Lease
    const ttl = Duration.toMillis(lease.ttl)
    let before = Duration.toMillis(yield* lease.remaining)
    while (true) {
      yield* Effect.sleep(1)
      const left = Duration.toMillis(yield* lease.remaining)
      if (left > before + 1) samples.add(ttl - left)
      before = left
    }
  })
  // A loss is a renewal that took longer than the ttl. Where another call fails, the sections fail as well.
  return Effect.forever(
    Effect.catch(
      locker.withLock("renewed", look, { ttl: renewalTtl }),
      () => Effect.sync(() => samples.add(renewalTtl))
    )
  )
}

/** Milliseconds: about ten renewals in a second. */
const renewalTtl = 300
