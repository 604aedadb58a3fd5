import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { LockBackendError, type OwnershipLost, type TryError } from "../../LockError.ts"
import type { LockOptions } from "../../LockOptions.ts"
import type { Engine } from "../engine.ts"
import type { HeldLease } from "../lease/heldLease.ts"
import type { Outside } from "../lease/section.ts"
import type { Program } from "../mutex.ts"
import { leadership } from "../options/request.ts"
import * as Log from "../telemetry/log.ts"
import * as Timing from "../timing.ts"
import { asCandidate, type Candidate, Term } from "./candidate.ts"
import { type Check, untilUnhealthy } from "./health.ts"
import type { Terms } from "./options.ts"

/** A candidacy: the name that it is for, what its leader runs, and on which terms. */
export interface Candidacy<A, E, R> {
  readonly name: string
  readonly program: Program<A, E, R>
  readonly terms: Terms
}

/** Runs a candidacy, for which this process is a candidate until it has ended. */
export const run = <A, E, R>(engine: Engine, candidacy: Candidacy<A, E, R>) =>
  asCandidate(engine, candidacy.name, (candidate) => stand(engine, candidacy, candidate))

/** Stands for a leadership, leads, and stands again, until the program has ended by itself. */
export const stand = Effect.fnUntraced(function*<A, E, R>(
  engine: Engine,
  candidacy: Candidacy<A, E, R>,
  candidate: Candidate
): Effect.fn.Return<A, E | TryError | OwnershipLost, Outside<R>> {
  const { terms } = candidacy
  const log = yield* Log.make
  let failures = 0
  while (true) {
    // An interruption that arrives in this exit is the program's own: one of this fiber runs no further step.
    const { exit, term } = yield* lead(engine, candidacy, candidate, log)
    if (Exit.isSuccess(exit)) return exit.value
    if (term === undefined) {
      if (!isOutage(exit.cause)) return yield* exit
      yield* engine.pause(Timing.standAgainAfter(terms.ttl, failures++))
      continue
    }
    const { loss } = term.lease
    // The program's own failure is never hidden, also if the leadership was lost as well.
    if (!hasOnlyInterruptsAnd(exit.cause, loss)) return yield* exit
    if (loss === undefined && term.steppedDown === undefined) return yield* exit
    if (!terms.isRestarted) return yield* Effect.fail(loss ?? term.resignation)
    if (engine.isClosed()) continue
    // Whoever is asked to leave and stands again at once may be elected again at once.
    if (term.steppedDown !== undefined || loss?.reason === "Revoked") {
      // Its cool-down may be none, and its next term as short.
      const least = term.isShort ? Timing.standAgainAfter(terms.ttl, 0) : 0
      yield* engine.pause(Math.max(terms.cooldown, least))
    } else if (term.isShort && loss?.reason !== "MaxHold") {
      yield* engine.pause(Timing.standAgainAfter(terms.ttl, failures++))
      continue
    }
    failures = 0
  }
})

interface Led<A, E> {
  readonly exit: Exit.Exit<A, E>
  /** Absent if it was not elected. */
  readonly term: Term | undefined
}

/** Waits for one election, and leads until the program has ended. Then the lock is released. */
const lead = <A, E, R>(
  engine: Engine,
  { name, program, terms }: Candidacy<A, E, R>,
  candidate: Candidate,
  log: Log.Log
): Effect.Effect<Led<A, E | TryError | OwnershipLost>, never, Outside<R>> =>
  Effect.suspend(() => {
    let term: Term | undefined
    let monitor: Fiber.Fiber<void> | undefined
    const options: LockOptions = { ...terms.lock, timeout: "Infinity" }
    // This runs in the fiber that the end of the lease interrupts.
    const elected = (lease: HeldLease): Effect.Effect<A, E, R> =>
      Effect.withFiber((fiber) => {
        const elected = new Term(lease, fiber)
        term = elected
        candidate.term = elected
        if (terms.healthy !== undefined) {
          monitor = Effect.runForkWith(fiber.context)(watchHealth(elected, terms.healthy, log))
        }
        return Effect.isEffect(program) ? program : program(lease)
      })
    return engine.section(name, leadership, elected, options, "queue").pipe(
      Effect.map((result) => (result as Option.Some<A>).value),
      Effect.exit,
      Effect.map((exit) => ({ exit: exit as Exit.Exit<A, E | TryError | OwnershipLost>, term })),
      Effect.ensuring(Effect.sync(() => {
        candidate.term = undefined
        monitor?.interruptUnsafe()
      }))
    )
  })

/**
 * Steps down when the program has been unhealthy for the ttl. If the program has then not ended within the guard gap, the
 * lock is renewed no more: a program that is stuck and ignores its interruption must not keep all others from leading.
 */
const watchHealth = (term: Term, healthy: Check, log: Log.Log): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { lease } = term
    const { time } = lease.host
    const ttl = Math.floor(Duration.toMillis(lease.ttl))
    yield* untilUnhealthy(healthy, ttl, time)
    // Whoever was told to end may take its time, and what tells whether it works may tell no more.
    if (lease.isLeaving || !lease.check(time.now())) return
    const why = `its program was not healthy for ${ttl / 1_000} s`
    log.warn(`The leader steps down: ${why}`, { key: lease.key })
    term.stepDown(why)
    yield* time.sleep(Duration.toMillis(lease.claim.guardGap))
    lease.revoke(time.now(), { by: lease.holder, why })
  })

/** Whether the backend did not answer. Then a later attempt may succeed. */
const isOutage = (cause: Cause.Cause<unknown>): boolean => {
  const error = Cause.findErrorOption(cause)
  return cause.reasons.length === 1 && Option.isSome(error) && error.value instanceof LockBackendError &&
    error.value.retryable
}

const hasOnlyInterruptsAnd = (cause: Cause.Cause<unknown>, error: unknown): boolean =>
  cause.reasons.every((reason) =>
    Cause.isInterruptReason(reason) || (Cause.isFailReason(reason) && error !== undefined && reason.error === error)
  )
