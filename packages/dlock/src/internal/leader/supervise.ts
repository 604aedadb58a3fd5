import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { OwnershipLost } from "../../LockError.ts"
import type { Engine } from "../engine.ts"
import type { Outside } from "../lease/section.ts"
import * as Log from "../telemetry/log.ts"
import * as Timing from "../timing.ts"
import { asCandidate, type Candidate } from "./candidate.ts"
import { type Candidacy, stand } from "./run.ts"

/**
 * Runs a candidacy in the background, for as long as its fiber lives. What fails is logged and tried again, by whichever
 * candidate is elected next. A program that succeeds has ended.
 */
export const supervise = <A, E, R>(engine: Engine, candidacy: Candidacy<A, E, R>) =>
  asCandidate(engine, candidacy.name, (candidate) => standForEver(engine, candidacy, candidate))

const standForEver = Effect.fnUntraced(function*<A, E, R>(
  engine: Engine,
  candidacy: Candidacy<A, E, R>,
  candidate: Candidate
): Effect.fn.Return<void, never, Outside<R>> {
  const log = yield* Log.make
  const { name: key, terms } = candidacy
  const { time } = engine
  let failures = 0
  while (true) {
    const startedAt = time.now()
    const exit = yield* Effect.exit(stand(engine, candidacy, candidate))
    if (Exit.isSuccess(exit) || engine.isClosed()) return
    const { reasons } = exit.cause
    if (!terms.isRestarted && reasons.some((reason) => isLoss(reason, key))) {
      const text = "The leader lost its leadership and does not stand again"
      const hasFailed = reasons.some((reason) => !Cause.isInterruptReason(reason) && !isLoss(reason, key))
      return hasFailed ? log.error(text, exit.cause, { key }) : log.warn(text, { key })
    }
    failures = 1 + (time.now() - startedAt > Timing.longestRestart ? 0 : failures)
    const pause = Timing.restartAfter(failures)
    log.error(`The leader failed, and is tried again in ${pause / 1_000} s`, exit.cause, { key })
    yield* engine.pause(pause)
  }
})

/** Whether it says that this leadership was lost, and not one of the locks that its program takes. */
const isLoss = (reason: Cause.Reason<unknown>, key: string): boolean =>
  Cause.isFailReason(reason) && reason.error instanceof OwnershipLost && reason.error.key === key
