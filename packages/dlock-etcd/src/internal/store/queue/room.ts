/** What this process knows of the queue of one semaphore or read-write lock. */

import type { Ahead, Claim } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { ITxnResponse } from "etcd3"
import type { CallFailure } from "../../client/failure.ts"
import type { Deletion } from "../../client/watches.ts"
import { isReader, isWriter, type LockKeys } from "../../protocol/keys.ts"
import type { Operation } from "../../protocol/operation.ts"
import * as Shared from "../../protocol/sharedSnapshot.ts"
import * as SharedTransactions from "../../protocol/sharedTransactions.ts"
import type { StoreParts } from "../parts.ts"
import type { Place } from "../trackedClaim.ts"
import type { Asked } from "./answers.ts"
import { OrderedList } from "./orderedList.ts"
import { QueueWatch } from "./queueWatch.ts"
import { RoomKnowledge } from "./roomKnowledge.ts"
import type { RoomEntry } from "./roomView.ts"

/** What a room needs from the store. */
export interface Outside extends StoreParts {
  /** Called when the claim at this place has its permits and its lease is known to be alive. */
  readonly grant: (place: Place) => void
  /** Checks that a claim is in the queue and ends it if not. Returns the revision of the check. */
  readonly check: (place: Place) => Effect.Effect<bigint, CallFailure>
  /** Called when this process has no claim that waits and none is expected soon. */
  readonly onEmpty: () => void
}

/**
 * The queue of one semaphore or read-write lock, as this process knows it while claims of this process wait in it.
 *
 * One watch reports the deletions in the queue, and each request for a place lists the claims that came since the last one. A
 * claim has its permits when the claims before it, as far as they are known, leave enough: they can only vanish or give back
 * permits, so no read is needed for that, however many claims wait. What proves that the claim itself is still there is the
 * order of the events: its own deletion would have come before the one that lets it in.
 *
 * Of a read-write lock, the view contains the writers, the clients of other libraries, and this process's own readers. A reader
 * has the lock when none of the former is before it. A writer has it when it is the first of them and no reader is before it,
 * which it asks of the server: it reads the name of the nearest reader, and asks again when that one has gone.
 */
export class Room {
  readonly knowledge: RoomKnowledge
  private readonly waiting = new OrderedList<Place>()
  /** The waiting places by each of their keys. */
  private readonly byKey = new Map<string, Place>()
  /** The reader right before the foremost writer, if there was one at the latest look for it. */
  private readerBefore: { readonly writer: RoomEntry; readonly reader: Shared.StandingClaim | undefined } | undefined
  private mutedUntil = 0
  private isLooking = false
  private isTakingIn = false
  private isResting = false
  private askedForHolderAt = -Infinity
  /** When to look although no event arrived; if no claim waits, when to end the watch. In milliseconds. */
  wakeAt = Infinity
  private readonly watch: QueueWatch
  private readonly outside: Outside

  constructor(lock: LockKeys, kind: Claim["kind"], outside: Outside) {
    this.outside = outside
    this.watch = new QueueWatch(lock, kind === "semaphore", outside.watches, {
      onDeleted: (deletions, areAstray) => {
        const { revision } = deletions[deletions.length - 1]!
        this.knowledge.answers.note(revision)
        this.knowledge.noteHeard(revision, areAstray)
        this.takeDeletions(deletions)
      },
      onBell: () => this.lookNow(),
      onDoubt: () => {
        // Looks instead, at most every 200 ms to spare the server.
        this.knowledge.doubt()
        this.mutedUntil = this.outside.now() + lookPause
        this.pollWithin(lookPause)
      }
    })
    this.knowledge = new RoomKnowledge(kind, () => this.watch.heardFrom)
  }

  // Requests for places and their answers.

  /** Records that a request was sent whose answer lists claims of the queue. */
  noteAsked(): Asked {
    return this.knowledge.answers.noteAsked()
  }

  /** Records that such a request was answered or has failed. */
  noteAnswered(asked: Asked): void {
    this.knowledge.answers.noteAnswered(asked)
    if (this.knowledge.answers.isAwaited) return
    if (this.waiting.first === undefined) this.rest()
  }

  /** The last waiting place, if many claims wait. A claim that enters behind it does not have to list the other claims. */
  lastOfMany(): Place | undefined {
    let { last } = this.waiting
    for (let count = 1; count < many && last !== undefined; count++) last = last.previous
    return last === undefined || this.waiting.last?.tracked.state !== "queued" ? undefined : this.waiting.last
  }

  /** Takes in an answer to a request for a place. `place`: that of the claim, if it is in the queue now. */
  takeIn(entry: Shared.Entry, asked: Asked, place?: Place): void {
    this.observeRevision(entry.revision, asked)
    if (entry.head !== undefined) this.knowledge.noteHead(entry.head)
    if (entry.listing !== undefined) this.takeList(entry.listing)
    // A reader is in the view only while it waits.
    if (place !== undefined && !isReader(place.claim)) this.knowledge.view.add(standing(place), entry.revision)
  }

  /** Lets a claim wait. */
  wait(place: Place): void {
    place.onEnd = (isGone) => this.noteEnded(place, isGone)
    for (const key of place.allKeys) this.byKey.set(key, place)
    this.waiting.insert(place)
    this.knowledge.view.add(standing(place), place.created!).place = place
    this.advance()
  }

  private waitingPlaces(): ReadonlyArray<Place> {
    return Array.from(new Set(this.byKey.values()))
  }

  isWaiting(place: Place): boolean {
    return this.byKey.get(place.key) === place
  }

  ahead(place: Place): Ahead {
    return (this.isWaiting(place) ? this.knowledge.ahead(place.queueKey) : undefined) ?? place.ahead
  }

  /**
   * Whether a withdrawal should also read who holds the lock, for its error. If many waiters give up together, one asks for
   * all.
   */
  mayAskForHolder(): boolean {
    const now = this.outside.now()
    if (now < this.askedForHolderAt + holderKnownFor) return false
    this.askedForHolderAt = now
    return true
  }

  private observeRevision(revision: bigint, asked: Asked): void {
    if (this.knowledge.observeRevision(revision, asked)) return
    this.readerBefore = undefined
    this.watch.end()
    // The claims of this process may be gone, so each is checked before it is granted.
    for (const place of this.waitingPlaces()) this.knowledge.view.add(standing(place), 0n).place = place
  }

  private takeList(listing: Shared.Listing): void {
    this.end(this.knowledge.takeList(listing))
  }

  // Deletions.

  private takeDeletions(deletions: ReadonlyArray<Deletion>): void {
    this.knowledge.answers.keep(deletions)
    const gone: Array<Place> = []
    for (const { key, revision } of deletions) {
      const entry = this.knowledge.view.get(key)
      if (entry !== undefined && entry.created < revision) this.knowledge.view.remove(entry)
      const place = this.byKey.get(key)
      if (place === undefined) this.outside.registry.noteDeleted(key, revision)
      else if (place.created! < revision) gone.push(place)
      const reader = this.readerBefore?.reader
      if (reader?.key === key && reader.created < revision) this.readerBefore = undefined
    }
    this.end(gone)
    this.advance()
  }

  /** Ends waiting claims that the server no longer has. All of one event end before any other claim is granted because of it. */
  private end(gone: ReadonlyArray<Place>): void {
    const wasTakingIn = this.isTakingIn
    this.isTakingIn = true
    for (const { tracked } of gone) this.outside.registry.markGone(tracked)
    this.isTakingIn = wasTakingIn
  }

  /** Records that a waiting claim ended. Its deletion is reported later, unless it was the reason. */
  private noteEnded(place: Place, isGone: boolean): void {
    place.ahead = this.ahead(place)
    this.leave(place)
    // Nothing else is known of that moment: other claims of this process may be gone too.
    if (isGone && !this.isTakingIn) this.knowledge.doubt()
    this.advance()
  }

  /** Forgets that a claim waits. */
  leave(place: Place): void {
    if (!this.isWaiting(place)) return
    for (const key of place.allKeys) this.byKey.delete(key)
    this.waiting.remove(place)
    const mine = this.knowledge.view.get(place.queueKey)
    if (mine?.place !== place) return
    mine.place = undefined
    if (isReader(place.claim)) this.knowledge.view.remove(mine)
  }

  /** Records the answer to a withdrawal. While there is a watch, that reports the deletion, in its order among the others. */
  noteWithdrawn(key: string, revision: bigint | undefined): void {
    if (revision === undefined || this.watch.heardFrom !== undefined) return
    this.knowledge.foresee(revision)
    this.takeDeletions([{ key, revision }])
  }

  // Turns.

  /** Grants the claims of this process that have their permits. Otherwise starts the watch or look that will notice it. */
  advance(): void {
    if (this.isTakingIn) return
    const foremost = this.waiting.first
    if (foremost === undefined) return this.rest()
    this.isResting = false
    if (this.knowledge.isInDoubt || this.knowledge.wholeAt === 0n) return this.look(foremost)
    const muted = this.mutedUntil - this.outside.now()
    if (muted <= 0) this.watch.begin(this.knowledge.wholeAt)
    else this.pollWithin(muted)
    this.readStale(foremost)
    for (const entry of Array.from(this.knowledge.view.inside())) this.letIn(entry)
    this.lookAhead()
    if (this.waiting.first !== undefined) this.pollWithin(this.pollAfter)
  }

  /** Grants a claim that has its permits, or finds out what is missing. */
  private letIn(entry: RoomEntry): void {
    const { place } = entry
    if (place === undefined || place.tracked.state !== "queued" || place.tracked.isBeingGranted) return
    if (isWriter(place.claim)) {
      if (this.readerBefore?.writer !== entry) return this.look(place)
      if (this.readerBefore.reader !== undefined) return
    }
    const { check, fork, grant, leases } = this.outside
    const { tracked } = place
    if (this.knowledge.isSure(entry) && leases.isFresh(place.lease!)) {
      tracked.capacityInUse = this.knowledge.capacityBefore(place)
      this.leave(place)
      place.onEnd = () => {}
      return grant(place)
    }
    tracked.isBeingGranted = true
    // A claim is granted on a lease that is alive, and only if it is still there after that was confirmed.
    const confirmed = Effect.flatMap(leases.ensureFresh(place.lease!), () => check(place))
    fork(Effect.match(confirmed, {
      onFailure: (failure) => {
        tracked.isBeingGranted = false
        this.retryLookSoon(failure)
      },
      onSuccess: (revision) => {
        tracked.isBeingGranted = false
        if (revision > entry.seenAt) entry.seenAt = revision
        this.advance()
      }
    }))
  }

  // Looks.

  /** Looks as soon as possible, because what is known may be wrong. */
  lookNow(): void {
    this.knowledge.doubt()
    this.advance()
  }

  /** Lists the claims that came since the last list, before they matter: claims of this process that entered blindly are behind. */
  private lookAhead(): void {
    let place = this.waiting.first
    for (let count = 0; count < fewPlaced && place !== undefined; count++) {
      if (!this.knowledge.view.isKnownBefore(place.created!)) return this.lookOn(place)
      place = place.next
    }
  }

  private lookOn(place: Place): void {
    const known = this.knowledge.all
    if (known === undefined) return this.look(place)
    this.ask(SharedTransactions.lookOn(place, known), (value, asked) => {
      this.observeRevision(BigInt(value.header.revision), asked)
      this.takeList(Shared.readOn(value, known.upTo))
    })
  }

  /**
   * Reads the claims before the foremost claim of this process. If the past is in doubt, it reads all of them. One look runs at a
   * time.
   */
  private look(place: Place): void {
    const { claim, created } = place
    const { doubts } = this.knowledge
    const until = this.knowledge.isInDoubt || this.watch.heardFrom === undefined ? undefined : created
    this.ask(SharedTransactions.look(place, created!, until), (value, asked) => {
      const seen = Shared.readLook(value, claim, until)
      this.observeRevision(seen.revision, asked)
      const isTheSame = place.tracked.state === "queued" && place.created === created
      if (isTheSame && seen.own !== created) this.end([place])
      // Claims behind a list that was cut are listed again.
      if (until === undefined && !seen.listing.isWhole) this.knowledge.view.to = seen.listing.upTo
      this.takeList(seen.listing)
      if (until === undefined) this.knowledge.settle(doubts, seen.revision)
      const mine = this.knowledge.view.get(place.queueKey)
      if (!isTheSame || seen.own !== created || mine === undefined) return
      if (seen.revision > mine.seenAt) mine.seenAt = seen.revision
      const { reader } = seen
      if (isWriter(claim)) {
        const isOutdated = reader !== undefined && this.knowledge.answers.wasDeleted(reader)
        this.readerBefore = isOutdated ? undefined : { writer: mine, reader }
      }
    })
  }

  /** Reads how many permits are left to claims that gave some back. */
  private readStale(place: Place): void {
    const stale = this.knowledge.view.stale()
    if (stale.length === 0) return
    this.ask(
      SharedTransactions.readValues(place, stale),
      (value) => this.knowledge.view.takePermits(stale, Shared.readPermits(value))
    )
  }

  private ask(operation: Operation, take: (value: ITxnResponse, asked: Asked) => void): void {
    if (this.isLooking) return
    this.isLooking = true
    const asked = this.noteAsked()
    const { batcher, fork } = this.outside
    fork(
      Effect.match(batcher.run(operation), {
        onFailure: (failure) => {
          this.isLooking = false
          this.retryLookSoon(failure)
        },
        onSuccess: ({ value }) => {
          this.isLooking = false
          take(value, asked)
          this.wakeAt = Infinity
          this.advance()
        }
      }).pipe(Effect.ensuring(Effect.sync(() => this.noteAnswered(asked))))
    )
  }

  /** Repeats a look that had no answer. A waiting claim fails once its lease can no longer be alive. */
  private retryLookSoon(failure: CallFailure): void {
    const { now, registry } = this.outside
    this.knowledge.doubt()
    for (const { tracked } of this.waitingPlaces()) registry.failIfExpired(tracked, failure, now())
    const { first } = this.waiting
    if (first !== undefined) this.pollWithin(first.tracked.retryAfter)
  }

  /** The more claims are ahead, the longer the pause between polls, because every waiting process polls. */
  private get pollAfter(): number {
    let ahead = 0
    for (let entry = this.knowledge.view.first; entry !== undefined && entry.place === undefined; entry = entry.next) {
      ahead++
    }
    return Math.min(longestPoll, nearPoll * (1 + ahead / 100))
  }

  /** Schedules the next look within `millis` milliseconds. An earlier schedule stays. */
  private pollWithin(millis: number): void {
    const at = this.outside.now() + millis
    if (at >= this.wakeAt) return
    this.wakeAt = at
    this.outside.wakeBy(at)
  }

  /** Called at `wakeAt`. No event arrived until then, and one may have been lost: looks. */
  wake(): void {
    this.wakeAt = Infinity
    const { first } = this.waiting
    if (first !== undefined) return this.look(first)
    this.watch.end()
    this.isResting = false
    if (!this.knowledge.answers.isAwaited) this.outside.onEmpty()
  }

  /** No claim waits. The watch and what is known stay for 5 seconds, in case another claim comes soon. */
  private rest(): void {
    if (this.isResting || this.knowledge.answers.isAwaited) return
    this.wakeAt = Infinity
    if (this.watch.heardFrom === undefined && !this.knowledge.isLong) return this.outside.onEmpty()
    this.isResting = true
    this.pollWithin(lingering)
  }
}

/** With this many waiting claims or more, a new claim enters without a list: one look serves all of them. */
const many = 8

/** If fewer waiting claims of this process are known with all that is before them, the process lists the claims that came since. */
const fewPlaced = 5

/** The claim at a place, as its name tells it. */
const standing = ({ claim: { capacity, kind, permits }, created, queueKey: key }: Place): Shared.StandingClaim => ({
  key,
  created: created!,
  kind,
  permits,
  capacity,
  version: 1
})

// Times in milliseconds.
const nearPoll = 2_000
const longestPoll = 10_000
const lookPause = 200
const holderKnownFor = 100
const lingering = 5_000
