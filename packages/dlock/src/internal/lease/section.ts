import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { Lease } from "../../Lease.ts"
import type { Leases } from "../../Leases.ts"
import type { LockNotHeld, OwnershipLost } from "../../LockError.ts"
import type { SharedLease } from "../../SharedLease.ts"
import type { Restore } from "../scheduling/callTimeouts.ts"
import type { Time } from "../scheduling/time.ts"

/** What a section needs to know of its lease: the end of the lease interrupts the program. */
export interface Ending {
  readonly state: "held" | "lost" | "released"
  readonly loss: OwnershipLost | undefined
  readonly host: { readonly time: Time }
  /** How many sections enclose this one. */
  readonly depth: number
  readonly check: (now: number) => boolean
  readonly beginRun: (onEnd: () => void) => void
  readonly endRun: (onEnd: () => void) => void
  /** Notes that the caller of the section was interrupted, and waits for its program to end. */
  readonly noteLeaving?: () => void
}

/** What a program under a lock needs from its caller. The lock provides its scope and its lease. */
export type Outside<R, Its = Lease> = Exclude<Exclude<R, Scope.Scope>, Its>

/** The service as which a program reads its lease. */
export type LeaseService =
  | Context.Service<any, Lease>
  | Context.Service<any, Leases>
  | Context.Service<any, SharedLease>

/**
 * Runs the program of a section, interrupts it when the lease is lost, and returns its exit. An early release inside
 * the section interrupts nothing, because the program asked for it. It must run in an uninterruptible region and takes
 * that region's `restore`.
 *
 * The program gets its own scope, which closes when the program ends.
 */
export const runSection = <A, E, R>(
  lease: Ending,
  service: LeaseService,
  program: Effect.Effect<A, E, R>,
  restore: Restore
): Effect.Effect<Exit.Exit<A, E>, never, Outside<R>> =>
  untilEnd(lease, restore, "lost", (context) => {
    const scope = Scope.makeUnsafe()
    const inside = Context.add(
      Context.add(context, Scope.Scope, scope),
      service as Context.Service<any, unknown>,
      lease
    ) as Context.Context<R>
    const closed = Effect.onExit(restore(program), (exit) => Scope.close(scope, exit))
    return Effect.runForkWith(inside)(closed, { uninterruptible: true })
  })

/** The result of a section: the program's exit, unless the lease was lost before the program ended. */
export const reportLoss = <A, E>(
  lease: Ending,
  exit: Exit.Exit<A, E>,
  now: number
): Exit.Exit<A, E | OwnershipLost> => {
  if (lease.state === "held") lease.check(now)
  return lease.loss === undefined ? exit : settled(exit, lease.loss)
}

/**
 * Runs an effect and interrupts it at the end of the lease, lost or released. `endOf` is the error of a lease that has
 * ended.
 */
export const whileHeld = <L extends Ending, A, E, R>(
  lease: L & { readonly ensureHeld: Effect.Effect<void, OwnershipLost | LockNotHeld> },
  endOf: (lease: L) => OwnershipLost | LockNotHeld,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | OwnershipLost | LockNotHeld, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.andThen(
      lease.ensureHeld,
      Effect.flatMap(
        untilEnd<A, E, R>(
          lease,
          restore,
          "lost or released",
          (context) => Effect.runForkWith(context)(restore(effect), { uninterruptible: true })
        ),
        (exit) =>
          lease.state === "released" ? settled(exit, endOf(lease)) : reportLoss(lease, exit, lease.host.time.now())
      )
    )
  )

/**
 * Runs the program in a new fiber, so that the end of the lease can interrupt it without a race of two fibers. The
 * program does not start if its caller was interrupted meanwhile, for example while the grant was on its way.
 */
const untilEnd = <A, E, R>(
  lease: Ending,
  restore: Restore,
  stops: "lost" | "lost or released",
  fork: (context: Context.Context<R>) => Fiber.Fiber<A, E>
): Effect.Effect<Exit.Exit<A, E>, never, R> => {
  const ended = Effect.matchCauseEffect(restore(Effect.context<R>()), {
    onSuccess: (context) => watch(lease, fork(context), restore, stops),
    onFailure: (cause) => Effect.succeed(Exit.failCause(cause))
  })
  // A section that waits for nothing runs within one step of its caller. Deeply nested sections would then overflow the
  // stack, so every 32nd level starts and ends in its own step.
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
    onFailure: (_interrupted) => {
      if (stops === "lost") lease.noteLeaving?.()
      return Effect.map(Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber)), over)
    }
  })
}

/**
 * If the program failed by itself, keeps that failure and adds the end of the lease to the cause. A success, or an
 * interruption by us, is replaced.
 */
const settled = <A, E, E2>(exit: Exit.Exit<A, E>, end: E2): Exit.Exit<A, E | E2> => {
  const own = Exit.isSuccess(exit) ? [] : exit.cause.reasons.filter((reason) => !Cause.isInterruptReason(reason))
  return own.length === 0
    ? Exit.fail(end)
    : Exit.failCause(Cause.combine(Cause.fromReasons(own), Cause.fail(end)))
}
