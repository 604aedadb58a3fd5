/** The watches on shared claims that are held. */

import * as Effect from "effect/Effect"
import type { StoreParts } from "./parts.ts"
import type { Place, TrackedClaim } from "./trackedClaim.ts"

/** Claims of this process whose keys have a common beginning that no other process's keys have. */
interface Group {
  readonly start: string
  readonly held: Set<TrackedClaim>
  /** Ends the watch. `undefined` if there is none yet. */
  stop: (() => void) | undefined
}

/**
 * Watches the held claims on semaphores and read-write locks, so that a deleted claim is lost at once and not at the next renewal.
 * A process may hold a thousand permits of one lock, so there is one watch for all its claims there: the names of one generation
 * begin with the same random text. A watch starts 30 ms after a grant, so that short sections have none, and from a revision at
 * which the claim existed, so that no deletion is missed.
 */
export class HeldWatches {
  private readonly groups = new Map<string, Group>()
  private readonly parts: Pick<StoreParts, "fork" | "registry" | "revocations" | "watches">
  private readonly check: (place: Place) => Effect.Effect<bigint, unknown>

  /** `check` ends a claim that is not in the queue any more, and returns the revision of the check. */
  constructor(
    parts: Pick<StoreParts, "fork" | "registry" | "revocations" | "watches">,
    check: (place: Place) => Effect.Effect<bigint, unknown>
  ) {
    this.parts = parts
    this.check = check
  }

  /** Watches a claim. Returns a function that ends that. */
  add(tracked: TrackedClaim): () => void {
    const { allKeys, name: { generation } } = tracked.place
    const groups = allKeys.map((key) => this.groupOf(key.slice(0, key.lastIndexOf(generation) + generation.length + 1)))
    for (const { held } of groups) held.add(tracked)
    return () => {
      for (const group of groups) {
        group.held.delete(tracked)
        if (group.held.size === 0) this.end(group)
      }
    }
  }

  private groupOf(start: string): Group {
    let group = this.groups.get(start)
    if (group === undefined) {
      group = { start, held: new Set(), stop: undefined }
      this.groups.set(start, group)
      this.parts.fork(Effect.delay(Effect.sync(() => this.watch(group!)), watchDelay))
    }
    return group
  }

  private end(group: Group): void {
    if (this.groups.get(group.start) === group) this.groups.delete(group.start)
    group.stop?.()
    group.stop = undefined
  }

  /** `checked`: claims that were there at revision `from`. All others are watched from their beginning. */
  private watch(group: Group, from = 0n, checked: ReadonlySet<TrackedClaim> = new Set()): void {
    if (group.held.size === 0 || this.groups.get(group.start) !== group) return
    for (const tracked of group.held) this.parts.revocations.watchFor(tracked)
    const since = Array.from(group.held, (tracked) => checked.has(tracked) ? from : tracked.place.created!)
    const after = since.reduce((least, one) => one < least ? one : least)
    group.stop = this.parts.watches.add(
      { key: Buffer.from(group.start), rangeEnd: Buffer.from(endOf(group.start)) },
      after,
      (deletions) => {
        for (const { key, revision } of deletions) this.parts.registry.noteDeleted(key, revision)
      },
      () => this.watchAgain(group, after)
    )
  }

  /** Called when the watch was refused: checks that the claims exist and watches again, once a second to spare the server. */
  private watchAgain(group: Group, after: bigint): void {
    group.stop = undefined
    const checked = new Set(group.held)
    const checks = Effect.forEach(
      checked,
      ({ place }) => Effect.orElseSucceed(this.check(place), () => after),
      { concurrency: 16 }
    )
    this.parts.fork(
      Effect.tap(checks, () => Effect.sleep(watchAgainDelay)).pipe(
        Effect.map((seen) =>
          this.watch(group, seen.reduce((least, one) => one < least ? one : least, seen[0] ?? after), checked)
        )
      )
    )
  }
}

/** The end of the range of keys that begin with this text, whose last character is `-`. */
const endOf = (start: string): string => `${start.slice(0, -1)}.`

// Milliseconds.

const watchDelay = 30
const watchAgainDelay = 1_000
