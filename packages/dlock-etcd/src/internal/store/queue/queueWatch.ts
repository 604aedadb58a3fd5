/** The watch on a queue of a shared lock. */

import type { Deletion, Watches } from "../../client/watches.ts"
import type { LockKeys } from "../../protocol/keys.ts"

/** What a watch on a queue reports. */
export interface Listener {
  /** Called with deletions in their order. If `areAstray`, earlier ones may be reported later. */
  readonly onDeleted: (deletions: ReadonlyArray<Deletion>, areAstray: boolean) => void
  /** Called when a claim has given back permits. */
  readonly onBell: () => void
  /** Called when the watch has ended and may have missed deletions. */
  readonly onDoubt: () => void
}

/** The watch on all deletions in a queue, and for a semaphore on its bell. It can begin again after it has ended. */
export class QueueWatch {
  /** The watch reports every deletion after this revision. `undefined` while there is no watch. */
  heardFrom: bigint | undefined
  private stopWatching: () => void = () => {}
  private readonly lock: LockKeys
  private readonly hasBell: boolean
  private readonly watches: Watches
  private readonly listener: Listener

  constructor(lock: LockKeys, hasBell: boolean, watches: Watches, listener: Listener) {
    this.lock = lock
    this.hasBell = hasBell
    this.watches = watches
    this.listener = listener
  }

  /** Begins to watch, from a revision on. */
  begin(after: bigint): void {
    if (this.heardFrom !== undefined) return
    this.heardFrom = after
    const { onBell, onDeleted, onDoubt } = this.listener
    const { bell, folder: key, folderEnd: rangeEnd } = this.lock
    const stop = this.watches.add({ key, rangeEnd }, after, onDeleted, () => {
      this.end()
      onDoubt()
    })
    // A poll finds permits that were given back too, so nothing else is done if this watch is refused.
    const stopBell = this.hasBell ? this.watches.add({ key: bell, puts: "too" }, after, onBell, () => {}) : () => {}
    this.stopWatching = () => {
      stop()
      stopBell()
    }
  }

  end(): void {
    this.heardFrom = undefined
    this.stopWatching()
    this.stopWatching = () => {}
  }
}
