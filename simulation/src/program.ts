import type { Lease, Locker } from "effect-dlock"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { Observer } from "./observer.ts"
import type { Outcome, Section } from "./section.ts"

/** What a program does with a lock: it enters, takes its steps at the resource, and leaves. */
const body = (observer: Observer, section: Section, lease: Lease) =>
  Effect.suspend(() => {
    const { careful, pause, steps } = section.plan
    section.lease = lease as HeldLease
    observer.recordEntry(section)
    const step = Effect.sync(() => observer.recordStep(section))
    const one = careful ? Effect.andThen(lease.ensureHeld, step) : step
    const more = (left: number): Effect.Effect<void, unknown> =>
      left === 0
        ? Effect.void
        : Effect.andThen(Effect.sleep(pause), Effect.andThen(one, Effect.suspend(() => more(left - 1))))
    return Effect.andThen(one, more(steps - 1))
  }).pipe(Effect.onExit((exit) => {
    const leave = Effect.sync(() => observer.recordExit(section))
    const { windDown } = section.plan
    return windDown === 0 || Exit.isSuccess(exit) ? leave : Effect.andThen(Effect.sleep(windDown), leave)
  }))

/** A section from its beginning to any of its ends. */
export const run = (observer: Observer, locker: Locker["Service"], section: Section): Effect.Effect<void> => {
  const { form, key, releasesEarly, timeout, ttl } = section.plan
  const options = { ttl: Duration.millis(ttl) }
  const waiting = timeout === undefined ? options : { ...options, timeout: Duration.millis(timeout) }
  const program = (lease: Lease) => body(observer, section, lease)

  const inScope = (lease: Lease) =>
    Effect.gen(function*() {
      yield* section.plan.careful ? program(lease) : lease.whileHeld(program(lease))
      if (releasesEarly) {
        yield* lease.release
        // The scope goes on, and others may hold the lock meanwhile.
        yield* Effect.sleep(section.plan.pause)
      }
    })

  const whole: Effect.Effect<unknown, unknown> = form === "section"
    ? locker.withLock(key, program, waiting)
    : form === "trySection"
    ? Effect.flatMap(locker.withLockIfAvailable(key, program, options), ifBusy)
    : form === "scope"
    ? Effect.scoped(Effect.flatMap(locker.scoped(key, waiting), inScope))
    : Effect.scoped(
      Effect.flatMap(
        locker.scopedIfAvailable(key, options),
        (lease) => Option.isNone(lease) ? Effect.fail(busy) : inScope(lease.value)
      )
    )

  return Effect.uninterruptibleMask((restore) => {
    observer.recordRequest(section)
    return Effect.matchCause(restore(whole), {
      onFailure: (cause) => observer.recordEnd(section, outcomeOf(observer, section, cause)),
      onSuccess: () => observer.recordEnd(section, "done")
    })
  })
}

const busy = "busy"
const ifBusy = (taken: Option.Option<unknown>) => Option.isNone(taken) ? Effect.fail(busy) : Effect.void

/** Every way to end has a name; any other is a defect. */
const outcomeOf = (observer: Observer, section: Section, cause: Cause.Cause<unknown>): Outcome => {
  const reasons = cause.reasons
  for (const reason of reasons) {
    if (reason._tag === "Die") {
      observer.report("S8", `${section.title} died: ${String((reason.defect as Error)?.stack ?? reason.defect)}`)
    }
    if (reason._tag !== "Fail") continue
    if (reason.error === busy) return "busy"
    switch ((reason.error as { readonly _tag?: string })._tag) {
      case "OwnershipLost":
        return "lost"
      case "LockTimeout":
        if (section.plan.timeout === undefined) observer.report("S8", `${section.title} timed out without a limit`)
        return "timed out"
      case "LockBackendError":
        return "backend failed"
      default:
        observer.report("S8", `${section.title} failed with ${String(reason.error)}`)
        return "refused"
    }
  }
  if (!section.interrupted && Cause.hasInterruptsOnly(cause)) {
    observer.report("S8", `${section.title} was interrupted, and by nobody`)
  }
  return "interrupted"
}
