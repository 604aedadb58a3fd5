import type { Claim, Loss } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { Entry } from "./entry.ts"
import type { Lease } from "./leases.ts"

/** The claims of this process that are not over. */
export class Claims {
  private readonly entries = new Map<string, Entry>()
  /** Takes a claim off its lease. */
  private readonly leave: (lease: Lease<Entry>, key: string) => void
  private readonly onLost: (loss: Loss) => void

  constructor(leave: (lease: Lease<Entry>, key: string) => void, onLost: (loss: Loss) => void) {
    this.leave = leave
    this.onLost = onLost
  }

  find(id: string): Entry | undefined {
    return this.entries.get(id)
  }

  all(): ReadonlyArray<Entry> {
    return Array.from(this.entries.values())
  }

  /** The entry of a claim, which a repeated request finds again. */
  open(claim: Claim): Entry {
    let entry = this.entries.get(claim.id)
    if (entry === undefined) {
      entry = new Entry(claim)
      this.entries.set(claim.id, entry)
    }
    return entry
  }

  over(entry: Entry): void {
    entry.state = "over"
    entry.stopWatching()
    this.entries.delete(entry.claim.id)
    if (entry.lease !== undefined) this.leave(entry.lease, entry.key)
  }

  /** It is gone at the backend, whoever finds out first. */
  isGone(entry: Entry): void {
    const { state } = entry
    if (state === "over") return
    this.over(entry)
    if (state === "held") this.onLost({ id: entry.claim.id, reason: "Expired" })
    else Deferred.doneUnsafe(entry.granted, Effect.succeed({ _tag: "Gone" }))
  }

  /** Nothing that was on it is left. A claim that is still being asked for is put on another. */
  leaseIsGone(lease: Lease<Entry>): void {
    for (const entry of Array.from(lease.claims.values())) {
      if (entry.state === "asking") entry.lease = undefined
      else this.isGone(entry)
    }
  }
}
