/** One call for all callers that need its outcome at the same time. */

import { callBackIn } from "effect-dlock/StoreTelemetry"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/**
 * The outcome of one call, for all callers that wait for it. It is like a `Deferred`, but every waiter gets the outcome even if
 * an earlier one throws: waiters continue inside `end`, and one of their observers may throw.
 */
export class SingleFlight<A, E> {
  /** The waiters, each with its context, to log what an observer throws. */
  private readonly waiting = new Map<(exit: Exit.Exit<A, E>) => void, Context.Context<never>>()
  private exit: Exit.Exit<A, E> | undefined

  readonly await: Effect.Effect<A, E> = Effect.withFiber(({ context }) =>
    Effect.callback((resume) => {
      if (this.exit !== undefined) return resume(this.exit)
      this.waiting.set(resume, context)
      return Effect.sync(() => void this.waiting.delete(resume))
    })
  )

  end(exit: Exit.Exit<A, E>): void {
    this.exit = exit
    const all = Array.from(this.waiting)
    this.waiting.clear()
    for (const [resume, context] of all) callBackIn(context, () => resume(exit))
  }
}
