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

/** The observers of locks. All observers of one lock share its watches. */
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

  /** `pause`: how many milliseconds later watches that ended begin again. If the server refuses them, they end each time. */
  private watch(keys: LockKeys, observed: Observed, pause: number): void {
    const { folder, folderEnd, marks, marksEnd } = keys
    const { fork, telemetry, watches } = this.parts
    const notify = () => {
      for (const listener of observed.listeners) telemetry.callBack(listener, folder.toString())
    }
    let next = pause
    let hasEnded = false
    const onBegin = () => {
      next = watchAgainAfter
      notify()
    }
    const onDoubt = () => {
      if (hasEnded) return
      hasEnded = true
      observed.stop()
      fork(Effect.delay(
        Effect.sync(() => {
          if (observed.listeners.size === 0) return
          notify()
          this.watch(keys, observed, Math.min(2 * next, longestPause))
        }),
        next
      ))
    }
    const stops = [
      watches.add({ key: folder, rangeEnd: folderEnd, puts: "too" }, 0n, notify, onDoubt, onBegin),
      // A holder was asked to leave. This one begins now too: the server refuses a watch from a revision that was compacted.
      watches.add({ key: marks, rangeEnd: marksEnd, puts: "only" }, 0n, notify, onDoubt, notify)
    ]
    observed.stop = () => stops.forEach((stop) => stop())
  }
}

// Milliseconds.

const watchAgainAfter = 1_000
const longestPause = 30_000
