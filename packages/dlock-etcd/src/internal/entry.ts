import type { LockBackendError } from "effect-dlock/LockError"
import type { Ahead, Claim, Gone, Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import type { Lease } from "./leases.ts"
import { type Names, names } from "./names.ts"
import type { Place, View } from "./queue.ts"
import type { Shared } from "./shared.ts"
import { nameOf, type Slot, type Slots } from "./slots.ts"

/** What this process knows of a claim, from its first request to its end. */
export class Entry implements Place {
  state: "asking" | "queued" | "held" | "over" = "asking"
  /** Requests that were sent and of which it is not known whether they have been executed. */
  unanswered = 0
  /** Those of them that are under way, of which it will be heard. */
  underWay = 0
  /** Whoever withdraws it waits for what is under way. */
  isSettled: Shared<void, never> | undefined
  /** A request for it has been sent. */
  isSent = false
  /** Nothing of it was sent, for those of this process who were before it. */
  isCrowdedOut = false
  /** The revision that has put it there: by that it stands in its queue, and is known from what stood there before. */
  created: bigint | undefined
  /** What its fencing token is more than that. */
  private base = 0n
  lease: Lease<Entry> | undefined
  ahead: Ahead = { holder: undefined, place: 0, waiting: 1 }
  /** When to look without having been told to. */
  lookAt = Infinity
  looking = false
  lookedAt = -Infinity
  /** Something happened during the look that is under way. */
  stale = false
  /** It stands behind another of this process, and nobody has looked who else is there. */
  isBlind = false
  /** The revision that was known when it was last asked for. */
  askedSince = 0n
  /** Its turn has come, and its lease is being asked for. */
  isBeingGranted = false
  /** The claim behind it, which was let in when this one was released, and without which it is not deleted. */
  heir: Entry | undefined
  /** The lease under whose sign of life it waits. */
  life: object | undefined
  /** It is over: the room where it waited or holds is told. */
  leaveRoom: () => void = () => {}
  isWatching = false
  /** When nobody can believe in the last grant or confirmation any more, the backend's guard included. */
  until = Infinity
  stopWatching: () => void = () => {}
  /** Nobody is told any more that the process before it is dead. */
  stopMourning: () => void = () => {}
  readonly granted = Deferred.makeUnsafe<Granted | Gone, LockBackendError>()
  readonly claim: Claim
  readonly names: Names
  readonly slot: Slot
  readonly place: Buffer
  /** The same as text, as leases list it. */
  readonly key: string

  constructor(claim: Claim, slots: Slots) {
    this.claim = claim
    this.names = names(claim.key, claim.prefix)
    this.slot = slots.take(claim.key)
    this.place = this.names.entry(nameOf(this.slot))
    this.key = this.place.toString()
  }

  /** An answer tells as what it stands there. */
  standAs({ base, own }: View): void {
    this.created = own
    this.base = base
  }

  get fencingToken(): bigint {
    return this.base + this.created!
  }

  get isOver(): boolean {
    return this.state === "over"
  }

  /** Milliseconds after which it looks where nothing has told it to; not all who wait at once. */
  get pollAfter(): number {
    const third = Duration.toMillis(this.claim.ttl) / 3
    return Math.min(10_000, Math.max(1_000, third)) * (1 + this.ahead.place % 7 / 20)
  }

  /** Milliseconds after which it looks once more where a look brought no answer. */
  get retryAfter(): number {
    return Math.min(Duration.toMillis(this.claim.ttl) / 10, 500)
  }

  /** It is let in, or gone. */
  stopWaiting(): void {
    this.stopWatching()
    this.stopMourning()
  }
}
