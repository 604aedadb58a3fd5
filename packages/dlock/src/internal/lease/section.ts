import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { Lease } from "../../Lease.ts"
import type { OwnershipLost } from "../../LockError.ts"
import type { Restore } from "../scheduling/callTimeouts.ts"
import type { Time } from "../scheduling/time.ts"

/** What a program runs under, as far as it must know: the end of it interrupts the program. */
export interface Ending {
  readonly state: "held" | "lost" | "released"
  readonly loss: OwnershipLost | undefined
  readonly host: { readonly time: Time }
  /** In how many sections it was taken. */
  readonly depth: number
  readonly check: (now: number) => boolean
  readonly beginRun: (onEnd: () => void) => void
  readonly endRun: (onEnd: () => void) => void
}

/** What a program under a lock still needs from outside: its scope and its lease come with the lock. */
export type Outside<R> = Exclude<Exclude<R, Scope.Scope>, Lease>

/**
 * Runs a section's program, interrupts it when the lease is lost, and tells how it ended. An early release inside
 * the section is the program's own wish and stops nothing. For an uninterruptible region, whose `restore` it takes.
 *
 * The program has a scope of its own, which is closed when it ends.
 */
export const runSection = <A, E, R>(
  lease: Ending & Lease,
  program: Effect.Effect<A, E, R>,
  restore: Restore
): Effect.Effect<Exit.Exit<A, E>, never, Outside<R>> =>
  untilEnd(lease, restore, "lost", (context) => {
    const scope = Scope.makeUnsafe()
    const inside = Context.add(Context.add(context, Scope.Scope, scope), Lease, lease) as Context.Context<R>
    const closed = Effect.onExit(restore(program), (exit) => Scope.close(scope, exit))
    return Effect.runForkWith(inside)(closed, { uninterruptible: true })
  })

/** The section's result: its own, unless the lease was lost before it ended. */
export const reportLoss = <A, E>(lease: Ending, exit: Exit.Exit<A, E>): Exit.Exit<A, E | OwnershipLost> => {
  if (lease.state === "held") lease.check(lease.host.time.now())
  return lease.loss === undefined ? exit : settled(exit, lease.loss)
}

/**
 * Forked, so that the end of the lease can interrupt it without a second fiber to race with. It does not begin where
 * its caller has been interrupted meanwhile, for example while the lock was on its way.
 */
export const untilEnd = <A, E, R>(
  lease: Ending,
  restore: Restore,
  stops: "lost" | "lost or released",
  fork: (context: Context.Context<R>) => Fiber.Fiber<A, E>
): Effect.Effect<Exit.Exit<A, E>, never, R> => {
  const ended = Effect.matchCauseEffect(restore(Effect.context<R>()), {
    onSuccess: (context) => watch(lease, fork(context), restore, stops),
    onFailure: (cause) => Effect.succeed(Exit.failCause(cause))
  })
  // A section begins and ends within its caller's step where nothing is waited for. So that those inside one another
  // do not fill the stack, one in many begins and ends in a step of its own.
  if (lease.depth % sectionsAStack !== sectionsAStack - 1) return ended
  return Effect.andThen(Effect.yieldNow, Effect.tap(ended, () => Effect.yieldNow))
}

const sectionsAStack = 32

const watch = <A, E>(
  lease: Ending,
  fiber: Fiber.Fiber<A, E>,
  restore: Restore,
  stops: "lost" | "lost or released"
): Effect.Effect<Exit.Exit<A, E>> => {
  const done = fiber.pollUnsafe()
  if (done !== undefined) return Effect.succeed(done)
  const stop = () => {
    if (lease.state === "lost" || stops === "lost or released") fiber.interruptUnsafe()
  }
  lease.beginRun(stop)
  const over = <B>(exit: B): B => {
    lease.endRun(stop)
    return exit
  }
  const ended = Effect.callback<Exit.Exit<A, E>>((resume) => {
    fiber.addObserver((exit) => resume(Exit.succeed(exit)))
  })
  return Effect.matchCauseEffect(restore(ended), {
    onSuccess: (exit) => Effect.succeed(over(exit)),
    onFailure: (_interrupted) => Effect.map(Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber)), over)
  })
}

/** A program's own failure is kept, with the end of the lease beside it; a success or our interruption is not. */
export const settled = <A, E, E2>(exit: Exit.Exit<A, E>, end: E2): Exit.Exit<A, E | E2> => {
  const own = Exit.isSuccess(exit) ? [] : exit.cause.reasons.filter((reason) => !Cause.isInterruptReason(reason))
  return own.length === 0
    ? Exit.fail(end)
    : Exit.failCause(Cause.combine(Cause.fromReasons(own), Cause.fail(end)))
}
