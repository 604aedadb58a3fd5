import { Deferred, Effect } from "effect"
import { recordLag } from "./lag.ts"
import { onMessage, report } from "./report.ts"

/** What one process of a circle is to do. */
export interface CircleCaller {
  readonly holder: string
  readonly holds: string
  readonly wants: string
  /** In milliseconds. */
  readonly timeout?: number | undefined
}

/** What a process of a circle reports: that it has its lock, and how its wait for the other one ended. */
export type CircleReport =
  | { readonly held: true }
  | {
    readonly error: {
      readonly _tag: string
      readonly message: string
      readonly holder?: string
      readonly deadlock?: ReadonlyArray<{ readonly key: string; readonly holder: string }>
    }
    /** In milliseconds, as is `lag`. */
    readonly waited: number
    readonly lag: number
  }

/**
 * For programs that `startWorker` runs: holds one lock, reports that, and waits for the other one from the moment at
 * which the test sends its first message.
 */
export const holdAndWait = <R>(
  { holds, timeout, wants }: CircleCaller,
  withLock: <E>(
    key: string,
    program: Effect.Effect<void, E, R>,
    options: { readonly timeout?: number | undefined }
  ) => Effect.Effect<void, unknown, R>
): Effect.Effect<void, unknown, R> => {
  const begin = Deferred.makeUnsafe<void>()
  onMessage(() => Deferred.doneUnsafe(begin, Effect.void))
  const wait = Effect.gen(function*() {
    report({ held: true } satisfies CircleReport)
    yield* Deferred.await(begin)
    const recorded = recordLag()
    const asked = performance.now()
    const error = yield* Effect.flip(withLock(wants, Effect.never, { timeout }))
    report({ error, waited: performance.now() - asked, lag: recorded.max() })
  })
  return withLock(holds, wait, {})
}
