import type { Locker } from "effect-dlock"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { LeaseGroup } from "../../packages/dlock/src/internal/lease/leaseGroup.ts"
import { LeaseView } from "../../packages/dlock/src/internal/lease/leaseView.ts"
import { type Front, frontOf, type Reentered } from "./front.ts"
import type { Observer } from "./observer.ts"
import type { Outcome, Section } from "./section.ts"

/** The lease of one of the locks. */
const leaseOf = (lease: HeldLease | LeaseGroup, { plan: { key } }: Section): HeldLease =>
  (lease instanceof HeldLease ? lease : lease.members.find((one) => one.key === key)) as HeldLease

/** The lease that a section of one of the locks has re-entered. */
const reenteredIn = (view: Reentered, { plan: { key } }: Section): HeldLease | undefined => {
  const one = view instanceof LeaseView ? view : view.members.find((one) => one.key === key)
  return one instanceof LeaseView ? one.outer : undefined
}

/** What a program does with its locks: it enters, takes its steps at the resources, and leaves. */
const body = (observer: Observer, section: Section, lease: HeldLease | LeaseGroup, lock: Front) =>
  Effect.suspend(() => {
    const { careful, downgradesAfter, pause, reenters, steps } = section.plan
    for (const part of section.all) part.lease = leaseOf(lease, part)
    for (const part of section.all) observer.recordEntry(part)
    const step = Effect.sync(() => section.all.forEach((part) => observer.recordStep(part)))
    const next = careful ? Effect.andThen(lease.ensureHeld, step) : step
    const downgrade = lease instanceof HeldLease
      ? Effect.andThen(Effect.sync(() => observer.recordDowngrade(section)), lease.downgrade)
      : Effect.void
    const one = (number: number) => number === downgradesAfter ? Effect.andThen(next, downgrade) : next
    const [first, last] = reenters ?? []
    /** A step, and those after it up to `end`. */
    const from = (number: number, end: number): Effect.Effect<void, unknown> =>
      number === first ? Effect.andThen(inside(number, last!), after(last!, end)) : outside(number, end)
    const outside = (number: number, end: number) => Effect.andThen(one(number), after(number, end))
    const after = (number: number, end: number): Effect.Effect<void, unknown> =>
      number >= end ? Effect.void : Effect.andThen(Effect.sleep(pause), Effect.suspend(() => from(number + 1, end)))
    const inside = (number: number, end: number) =>
      Effect.andThen(
        lease.ensureHeld,
        lock.reenter((view) => {
          for (const part of section.all) observer.recordReentry(part, reenteredIn(view, part))
          return outside(number, end)
        })
      )
    const taken = from(1, steps)
    /** Whoever obeys leaves when it is asked to. */
    const asked = Effect.flatMap(lease.revocation, (revocation) => {
      for (const part of section.all) observer.recordRevocation(part, revocation)
      return section.plan.obeys ? Effect.void : Effect.never
    })
    const all = observer.watchesRevocations ? Effect.raceFirst(taken, asked) : taken
    if (!section.plan.givesWay) return all
    observer.recordAsking(section)
    return Effect.raceFirst(all, Effect.map(lease.contended, () => observer.recordContention(section)))
  }).pipe(Effect.onExit((exit) => {
    const leave = Effect.sync(() => section.all.forEach((part) => observer.recordExit(part)))
    const { windDown } = section.plan
    return windDown === 0 || Exit.isSuccess(exit) ? leave : Effect.andThen(Effect.sleep(windDown), leave)
  }))

/** A section from its beginning to any of its ends. */
export const run = (observer: Observer, locker: Locker["Service"], section: Section): Effect.Effect<void> => {
  const { form, maxHold, releasesEarly, timeout, ttl } = section.plan
  const options = { ttl: Duration.millis(ttl), ...(maxHold !== undefined && { maxHold: Duration.millis(maxHold) }) }
  const waiting = timeout === undefined ? options : { ...options, timeout: Duration.millis(timeout) }
  const inScope = (lock: Front) => (lease: HeldLease | LeaseGroup) =>
    Effect.gen(function*() {
      const program = body(observer, section, lease, lock)
      yield* section.plan.careful ? program : lease.whileHeld(program)
      if (releasesEarly) {
        yield* lease.release
        // The scope goes on, and others may hold the lock meanwhile.
        yield* Effect.sleep(section.plan.pause)
      }
    })

  const use = (lock: Front): Effect.Effect<unknown, unknown> => {
    const program = (lease: HeldLease | LeaseGroup) => body(observer, section, lease, lock)
    return form === "section"
      ? lock.withLock(program, waiting)
      : form === "trySection"
      ? Effect.flatMap(lock.withLockIfAvailable(program, options), ifBusy)
      : form === "scope"
      ? Effect.scoped(Effect.flatMap(lock.scoped(waiting), inScope(lock)))
      : Effect.scoped(
        Effect.flatMap(
          lock.scopedIfAvailable(options),
          (lease) => Option.isNone(lease) ? Effect.fail(busy) : inScope(lock)(lease.value)
        )
      )
  }
  const whole = Effect.flatMap(frontOf(locker, section.plan), use)

  return Effect.uninterruptibleMask((restore) => {
    for (const part of section.all) observer.recordRequest(part)
    const end = (outcome: Outcome) => section.all.forEach((part) => observer.recordEnd(part, outcome))
    return Effect.matchCause(restore(whole), {
      onFailure: (cause) => end(outcomeOf(observer, section, cause)),
      onSuccess: () => end("done")
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
