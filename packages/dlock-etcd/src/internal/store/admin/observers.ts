/** Tells observers that a lock may have changed. */

import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { LockKeys } from "../../protocol/keys.ts"
import type { StoreParts } from "../parts.ts"

interface Observed {
  readonly listeners: Set<() => void>
  stop: () => void
}

/** The observers of locks. All observers of one lock share a watch on its queue. */
export class Observers {
  private readonly observed = new Map<string, Observed>()
  private readonly parts: Pick<StoreParts, "fork" | "telemetry" | "watches">

  constructor(parts: Pick<StoreParts, "fork" | "telemetry" | "watches">) {
    this.parts = parts
  }

  /** Emits when something was put in the queue or deleted from it, and when something may have been missed. */
  changes(keys: LockKeys): Stream.Stream<void> {
    return Stream.callback<void>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => this.add(keys, () => void Queue.offerUnsafe(queue, undefined))),
        (stop) => Effect.sync(stop)
      ), { bufferSize: 1, strategy: "sliding" })
  }

  private add(keys: LockKeys, listener: () => void): () => void {
    const name = keys.folder.toString()
    let observed = this.observed.get(name)
    if (observed === undefined) {
      observed = { listeners: new Set(), stop: () => {} }
      this.observed.set(name, observed)
      this.watch(keys, observed, watchAgainAfter)
    }
    const { listeners } = observed
    listeners.add(listener)
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return
      observed.stop()
      if (this.observed.get(name) === observed) this.observed.delete(name)
    }
  }

  /** `pause`: how many milliseconds later a watch that ended begins again. If the server refuses it, it ends each time. */
  private watch({ folder, folderEnd }: LockKeys, observed: Observed, pause: number): void {
    const { fork, telemetry, watches } = this.parts
    const notify = () => {
      for (const listener of observed.listeners) telemetry.callBack(listener, folder.toString())
    }
    let next = pause
    observed.stop = watches.add(
      { key: folder, rangeEnd: folderEnd, puts: "too" },
      0n,
      notify,
      () => {
        observed.stop = () => {}
        fork(Effect.delay(
          Effect.sync(() => {
            if (observed.listeners.size === 0) return
            notify()
            this.watch({ folder, folderEnd } as LockKeys, observed, Math.min(2 * next, longestPause))
          }),
          next
        ))
      },
      () => {
        next = watchAgainAfter
        notify()
      }
    )
  }
}

// Milliseconds.

const watchAgainAfter = 1_000
const longestPause = 30_000
