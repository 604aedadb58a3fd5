/** Tells holders of this process that others wait behind them. */

import * as Effect from "effect/Effect"
import type { CallFailure } from "../client/failure.ts"
import * as Transactions from "../protocol/contention.ts"
import { isReader } from "../protocol/keys.ts"
import type { StoreParts } from "./parts.ts"
import { readQueue } from "./shared/counting.ts"
import type { Place, TrackedClaim } from "./trackedClaim.ts"

type Parts = Pick<StoreParts, "batcher" | "fork" | "registry" | "telemetry" | "watches">

/**
 * The claims of which somebody asks whether they are contended. Nothing is read and nothing is watched for any other claim.
 *
 * A watch reports what is put into the queue, and only a reason to look: a claim that comes need not wait, or has left again.
 * A watch may be silent, so each renewal of the claim is a reason too.
 */
export class Contention {
  private readonly sentries = new Map<string, Sentry>()
  private readonly parts: Parts

  constructor(parts: Parts) {
    this.parts = parts
  }

  /** Waits until others wait behind a claim that is held. */
  wait(id: string): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const tracked = this.parts.registry.find(id)
      if (tracked === undefined || tracked.state !== "held") return
      const name = nameOf(tracked)
      let sentry = this.sentries.get(name)
      if (sentry === undefined) {
        const made = new Sentry(this.parts, tracked.place, () => {
          if (this.sentries.get(name) === made) this.sentries.delete(name)
        })
        sentry = made
        this.sentries.set(name, made)
      }
      const listener = () => resume(Effect.void)
      sentry.add(listener)
      return Effect.sync(() => sentry.remove(listener))
    })
  }

  /** Records that a claim was renewed. */
  noteRenewed(tracked: TrackedClaim): void {
    if (this.sentries.size > 0) this.sentries.get(nameOf(tracked))?.lookSoon()
  }
}

/** The holders of a semaphore, and the readers of a lock, are contended together. */
const nameOf = ({ place: { claim, created, key } }: TrackedClaim): string =>
  claim.kind === "semaphore" || isReader(claim) ? `${claim.kind} ${claim.key}` : `${key} ${created}`

/** Watches one claim, or all claims of this process on a lock that are contended together, until they are. */
class Sentry {
  private readonly listeners = new Set<() => void>()
  private readonly parts: Parts
  private readonly place: Place
  private readonly onEnd: () => void
  private stopWatching: (() => void) | undefined
  private isLooking = false
  private mustLook = false
  private hasEnded = false
  /** How many milliseconds pass before the next look. Where many claims must be read, more. */
  private pause = lookPause

  constructor(parts: Parts, place: Place, onEnd: () => void) {
    this.parts = parts
    this.place = place
    this.onEnd = onEnd
  }

  add(listener: () => void): void {
    this.listeners.add(listener)
    // The others have been told of nobody so far.
    if (this.listeners.size === 1) this.lookSoon()
  }

  remove(listener: () => void): void {
    this.listeners.delete(listener)
    if (this.listeners.size === 0) this.end()
  }

  private end(): void {
    this.hasEnded = true
    this.stopWatching?.()
    this.onEnd()
  }

  private ring(): void {
    this.end()
    const { telemetry } = this.parts
    for (const listener of this.listeners) telemetry.callBack(listener, this.place.claim.key)
  }

  /** Looks now, or a little later if the latest look was a moment ago. */
  lookSoon(): void {
    this.mustLook = true
    if (this.isLooking) return
    this.isLooking = true
    this.parts.fork(this.looks)
  }

  private readonly looks = Effect.gen({ self: this }, function*() {
    while (this.mustLook && !this.hasEnded) {
      this.mustLook = false
      const isContended = yield* Effect.orElseSucceed(this.isContended, () => undefined)
      if (this.hasEnded) return
      if (isContended === true) return this.ring()
      if (isContended === undefined) this.mustLook = true
      else this.watch()
      yield* Effect.sleep(isContended === undefined ? retryPause : this.pause)
    }
    this.isLooking = false
  })

  private get isContended(): Effect.Effect<boolean, CallFailure> {
    const { batcher } = this.parts
    const { claim, created, hasShrunk } = this.place
    if (claim.kind === "semaphore") {
      return Effect.map(readQueue(batcher, claim), (queue) => {
        this.pause = Math.max(lookPause, queue.size / 10)
        return queue.waiting > 0
      })
    }
    const behind = Transactions.findBehind(this.place, created!, isReader(claim) || hasShrunk)
    return Effect.map(batcher.run(behind), ({ value }) => Transactions.hasFound(value))
  }

  /** What came between the look and the beginning of the watch is found by the look at that beginning. */
  private watch(): void {
    if (this.stopWatching !== undefined) return
    const { from, to } = Transactions.mayWait(this.place.keys, isReader(this.place.claim))
    this.stopWatching = this.parts.watches.add(
      { key: from, rangeEnd: to, puts: "only" },
      0n,
      () => this.lookSoon(),
      () => {
        this.stopWatching = undefined
        this.parts.fork(Effect.delay(Effect.sync(() => this.lookSoon()), watchAgainDelay))
      },
      () => this.lookSoon()
    )
  }
}

// Milliseconds.

const lookPause = 20
const retryPause = 200
const watchAgainDelay = 1_000
