import { longestClaim } from "./claims.ts"
import type { Plan } from "./plan.ts"
import { millis } from "./timeline.ts"
import type { WorldContext } from "./worldContext.ts"

/**
 * How many milliseconds may pass without progress on a key that has waiters, after the faults. It is the sum of the
 * longest life of an abandoned claim, the time until the next waiter checks by itself, a few calls, and the longest
 * time between two steps.
 */
export const progressWithin = (plan: Plan): number => {
  const most = longestClaim(plan) + Math.max(1_000, plan.longestTtl / 3) * 1.3 + 4_000 + plan.longestPause
  // Who has one lock and waits for the next keeps others waiting for both, one behind the other.
  return plan.dimensions.has("several") ? plan.keys.length * most : most
}

/** What must be true when all processes have ended. */
export const runFinalChecks = ({ backend, clients, checker, plan, timeline }: WorldContext): void => {
  for (const { done, process, sections } of clients) {
    if (process.defects.length > 0) {
      checker.report("S8", `a fiber of process ${process.index} died: ${process.defects[0]}`)
    }
    if (process.dead) continue
    for (const section of sections.flat()) {
      if (section.state !== "ended") checker.report("S6", `${section.title} is ${section.state} and never ends`)
    }
    if (!done) checker.report("S6", `process ${process.index} never ends`)
  }
  if (checker.violation !== undefined) return
  // First the remaining faults happen and messages on their way arrive; then all ttls end. How long that takes is known
  // only then: a clock that is set back makes it longer.
  timeline.pass(Math.max(timeline.now, plan.healedAt + 2))
  const longest = Math.max(longestClaim(plan), backend.longestLife) + 100 + backend.lateness()
  // If no withdrawal was refused, nothing is left at once.
  const isClean = plan.isFaultFree ||
    (plan.isHealthy && backend.hasRefusedSince?.(timeline.now - millis(longest)) === false)
  timeline.pass(timeline.now + millis(isClean ? 50 : longest))
  for (const { process } of clients) {
    if (process.dead) continue
    if (process.fibers > 0) checker.report("S8", `${process.fibers} fibers of process ${process.index} are left`)
    if (process.timers > 0) checker.report("S8", `${process.timers} timers of process ${process.index} are left`)
  }
  const left = backend.leftovers()
  if (left.length > 0) checker.report("S4", `left at the server: ${left.join(", ")}`)
}
