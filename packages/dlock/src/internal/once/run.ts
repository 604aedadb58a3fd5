import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Function from "effect/Function"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { AcquireError, LockBackendError, OwnershipLost } from "../../LockError.ts"
import type { LockOptions } from "../../LockOptions.ts"
import type { Period, RunOutcome } from "../../LockStore.ts"
import type { Engine } from "../engine.ts"
import type { HeldLease } from "../lease/heldLease.ts"
import type { Outside } from "../lease/section.ts"
import type { Program } from "../mutex.ts"
import { mutex } from "../options/request.ts"
import type { Restore } from "../scheduling/callTimeouts.ts"
import type { Counts, RunRecords } from "./records.ts"

/** A run of a job, if it is due. */
export interface Attempt<A, E, R> {
  readonly key: string
  readonly period: Period
  readonly counts: Counts
  readonly program: Program<A, E, R>
  readonly options: LockOptions | undefined
  /** Whether to wait for a run of another process, in case that it does not count. */
  readonly mode: "queue" | "try"
}

/**
 * Runs a job under the lock of its key, if it is due then. It returns `Option.none` if another run has counted, or if
 * another one is under way and this one is not to wait for it.
 */
export const run = <A, E, R>(
  engine: Engine,
  records: RunRecords,
  { counts, key, mode, options, period, program }: Attempt<A, E, R>
): Effect.Effect<Option.Option<A>, E | AcquireError | OwnershipLost, Outside<R>> =>
  Effect.map(
    engine.section(key, mutex, (lease) => ifDue(records, lease, period, counts, program), options, mode),
    Option.flatten
  )

/** The same, for a lease that is held. */
const ifDue = <A, E, R>(
  records: RunRecords,
  lease: HeldLease,
  period: Period,
  counts: Counts,
  program: Program<A, E, R>
): Effect.Effect<Option.Option<A>, E | LockBackendError, Exclude<R, Scope.Scope>> =>
  Effect.flatMap(untilAnswered(records, lease, () => records.begin(lease, period, counts)), (begun) => {
    if (begun === "done") return Effect.succeedNone
    const startedAt = records.time.now()
    const end = (outcome: RunOutcome) => records.end(lease, period, counts, outcome, startedAt)
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        // The job's finalizers belong to the run: it has succeeded when they have.
        Effect.exit(restore(Effect.scoped(Effect.suspend(() => Effect.isEffect(program) ? program : program(lease))))),
        (exit) => {
          // Only a holder can record anything.
          if (lease.state !== "held" || !lease.check(records.time.now())) return Effect.asSome(exit)
          const recorded = Exit.isSuccess(exit)
            ? untilAnswered(records, lease, () => end("succeeded"), restore)
            : Effect.ignore(end(Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failed"))
          return Effect.asSome(Effect.andThen(recorded, exit))
        }
      )
    )
  })

/**
 * Asks until the store has answered. The end of the lease interrupts it, as it interrupts every program under a lock. A
 * claim that the store no longer has is lost, and a renewal will find out.
 *
 * With `restore`, each call runs to its end, since it may have been executed, and only the pauses are interruptible.
 */
const untilAnswered = <A extends string>(
  records: RunRecords,
  lease: HeldLease,
  call: () => Effect.Effect<A | "notHeld", LockBackendError>,
  restore: Restore = Function.identity
): Effect.Effect<A, LockBackendError> => {
  const later = Effect.suspend(() =>
    Effect.andThen(restore(records.time.sleep(lease.retryAfter)), untilAnswered(records, lease, call, restore))
  )
  return Effect.matchEffect(Effect.suspend(call), {
    onSuccess: (answer) => answer === "notHeld" ? later : Effect.succeed(answer as A),
    onFailure: (error) => error.retryable ? later : Effect.fail(error)
  })
}
