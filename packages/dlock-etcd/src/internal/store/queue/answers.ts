/** Requests whose answers list claims of a queue, and the deletions that those answers may not show. */

import type { Deletion } from "../../client/watches.ts"

/** A request that was sent. */
export interface Asked {
  /** The highest revision that was known then, or that the server had when it was restored. The answer is not older. */
  since: bigint
}

/**
 * The requests of a process about one queue that have no answer yet. An answer shows the queue as it was when the server executed
 * the request. Meanwhile the watch may report that one of the listed claims was deleted, so those reports are kept.
 */
export class Answers {
  private readonly underWay = new Set<Asked>()
  /** By key, the revision of the latest deletion. */
  private readonly deleted = new Map<string, bigint>()
  /** The highest revision of any answer or event. */
  private latest = 0n

  /** Whether a request has no answer yet. */
  get isAwaited(): boolean {
    return this.underWay.size > 0
  }

  noteAsked(): Asked {
    const asked = { since: this.latest }
    this.underWay.add(asked)
    return asked
  }

  noteAnswered(asked: Asked): void {
    this.underWay.delete(asked)
    if (this.underWay.size === 0) this.deleted.clear()
  }

  note(revision: bigint): void {
    if (revision > this.latest) this.latest = revision
  }

  /**
   * Whether an answer can have this revision. If not, the server was restored, and the revisions and deletions that are known
   * mean nothing. The other requests may be answered by the restored server.
   */
  isPossible(revision: bigint, { since }: Asked): boolean {
    if (revision >= since) {
      this.note(revision)
      return true
    }
    this.latest = revision
    for (const one of this.underWay) if (one.since > revision) one.since = revision
    this.deleted.clear()
    return false
  }

  /** Keeps deletions for the answers that are awaited. */
  keep(deletions: ReadonlyArray<Deletion>): void {
    if (this.underWay.size === 0) return
    for (const { key, revision } of deletions) {
      // Moved to the end, so that the oldest deletions are first.
      this.deleted.delete(key)
      this.deleted.set(key, revision)
    }
    if (this.deleted.size < mostKept) return
    const [{ since } = { since: 0n }] = this.underWay
    for (const [key, revision] of this.deleted) {
      if (revision > since) return
      this.deleted.delete(key)
    }
  }

  wasDeleted({ created, key }: { readonly key: string; readonly created: bigint }): boolean {
    const revision = this.deleted.get(key)
    return revision !== undefined && revision > created
  }
}

/** When old deletions are dropped that no answer can show any more. */
const mostKept = 256
