import { Leader, LockBackendError, Locker } from "effect-dlock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { Leaders } from "./leadership.ts"
import type { Observer } from "./observer.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import { prefix, Section } from "./section.ts"

const onPurpose = "on purpose"

/** A candidate from its first request to its end. Each term is a section of its own, since it takes the lock anew. */
export const runLeader = (observer: Observer, locker: Locker["Service"], first: Section): Effect.Effect<void> => {
  const { process } = first
  const { key, pause, steps, ttl, windDown } = first.plan
  const { cooldown, ends, until, wellFor } = first.plan.leads!
  let term = first
  let wellUntil = Infinity
  const candidate = observer.leaders.stand(first)

  const end = ends === "resigns" ? Leader.resign : ends === "fails" ? Effect.fail(onPurpose) : Effect.void
  const program = (lease: HeldLease) =>
    Effect.suspend(() => {
      const mine = term
      mine.lease = lease
      wellUntil = wellFor === undefined ? Infinity : process.monotonic() + wellFor * 1_000
      observer.recordEntry(mine)
      observer.leaders.recordTerm()
      const step = Effect.andThen(Effect.sync(() => observer.recordStep(mine)), Effect.sleep(pause))
      const leave = Effect.sync(() => {
        observer.recordExit(mine)
        observer.recordEnd(mine, "done")
        term = new Section(process, first.plan)
        candidate.coolFor(cooldown)
        observer.recordRequest(term)
      })
      return Effect.andThen(ends === undefined ? Effect.forever(step) : Effect.repeat(step, { times: steps - 1 }), end)
        .pipe(Effect.onExit(() => Effect.andThen(windDown === 0 ? Effect.void : Effect.sleep(windDown), leave)))
    })
  const options = {
    ttl: Duration.millis(ttl),
    cooldown: Duration.millis(cooldown),
    ...(wellFor !== undefined && { healthy: Effect.sync(() => process.monotonic() < wellUntil) })
  }
  const stand: Effect.Effect<void> = Effect.suspend(() =>
    Leader.run(key, (lease) => program(lease as HeldLease), options)
  ).pipe(
    Effect.provideService(Locker, locker),
    Effect.exit,
    Effect.flatMap((exit) => {
      if (Exit.isSuccess(exit)) return Effect.void
      const reasons = exit.cause.reasons
      const died = reasons.find((reason) => reason._tag === "Die")
      if (died !== undefined) observer.report("S8", `a leader died: ${String((died.defect as Error)?.stack)}`)
      const failed = reasons.find((reason) => reason._tag === "Fail")
      if (failed === undefined) return Effect.void
      const { error } = failed
      if (error === onPurpose) return stand
      if (!(error instanceof LockBackendError)) {
        observer.report("S8", `a leader failed with ${String(error)}`)
      }
      return Effect.void
    })
  )
  return Effect.uninterruptibleMask((restore) => {
    observer.recordRequest(term)
    const all = Effect.raceFirst(stand, Effect.sleep(Math.max(0, until - first.plan.delay)))
    return Effect.matchCause(restore(all), {
      onFailure: () => "interrupted" as const,
      onSuccess: () => "done" as const
    }).pipe(Effect.map((outcome) => {
      candidate.leave()
      observer.recordEnd(term, outcome)
      // Of a candidate that was interrupted while it led, the first term may be over.
      if (first.state !== "ended") observer.recordEnd(first, outcome)
    }))
  })
}

/** Observes all leaderships, until all candidates have ended and a while longer. */
export const observeLeaders = (
  leaders: Leaders,
  locker: Locker["Service"],
  process: Process,
  plan: Plan
): Effect.Effect<void> => {
  const lasts = Math.max(...plan.processes.flat(2).map(({ leads }) => leads?.until ?? 0)) + afterwards
  const one = (key: string) =>
    Stream.runForEach(
      Leader.observe(key),
      (leader: Option.Option<Leader.LeaderInfo>) =>
        Effect.sync(() => leaders.recordSighting(prefix + key, process, Option.getOrUndefined(leader)?.term))
    )
  return Effect.raceFirst(
    Effect.ignore(Effect.forEach(plan.keys, one, { concurrency: "unbounded", discard: true })),
    Effect.sleep(lasts)
  ).pipe(Effect.provideService(Locker, locker), Effect.ensuring(Effect.sync(() => leaders.stopObserving(process))))
}

/** Milliseconds. */
const afterwards = 9_000
