import { callBack } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"

/**
 * The outcome of a call that several wait for. Like a `Deferred`, but each hears of it whatever becomes of those before:
 * who waits runs on within `end`, and an observer of theirs may throw.
 */
export class Shared<A, E> {
  private readonly waiting = new Set<(exit: Exit.Exit<A, E>) => void>()
  private exit: Exit.Exit<A, E> | undefined

  readonly await: Effect.Effect<A, E> = Effect.callback((resume) => {
    if (this.exit !== undefined) return resume(this.exit)
    this.waiting.add(resume)
    return Effect.sync(() => void this.waiting.delete(resume))
  })

  end(exit: Exit.Exit<A, E>): void {
    this.exit = exit
    const all = Array.from(this.waiting)
    this.waiting.clear()
    for (const resume of all) callBack(() => resume(exit))
  }
}
