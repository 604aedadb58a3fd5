/** The queue of one mutex, as this process sees it. */

import type { Ahead } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { ITxnResponse } from "etcd3"
import { type CallFailure, isTooLarge } from "../../client/failure.ts"
import type { Deletion } from "../../client/watches.ts"
import { lifeKeys, type LockKeys } from "../../protocol/keys.ts"
import type { Operation } from "../../protocol/operation.ts"
import * as Snapshot from "../../protocol/snapshot.ts"
import * as Transactions from "../../protocol/transactions.ts"
import type { StoreParts } from "../parts.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"
import { OrderedList } from "./orderedList.ts"
import { WaitingPlaces } from "./waitingPlaces.ts"

/** A claim that stands in the queue, as far as this process knows. */
class QueuedClaim {
  previous: QueuedClaim | undefined
  next: QueuedClaim | undefined
  /** The revision of the latest look that found it there. */
  seenAt: bigint
  /** Its place, where the claim is this process's own and has not ended. */
  place: Place | undefined
  /** It was our own and has ended; its deletion is under way. */
  isBeingDeleted = false
  /** It was handed over: its successor has the turn already. */
  isHandedOver = false
  readonly key: string
  readonly other: Snapshot.OtherClaim

  constructor(other: Snapshot.OtherClaim, seenAt: bigint, place: Place | undefined) {
    this.key = other.key
    this.other = other
    this.seenAt = seenAt
    this.place = place
  }

  get created(): bigint {
    return this.other.created
  }
}

/** What a local queue needs of the store around it. */
export interface Outside extends StoreParts {
  /** Called when it is the turn of this claim, on a lease that is known to live. */
  readonly grant: (place: Place) => void
  /** Called when no claim of this process stands in the queue, or will soon. */
  readonly onEmpty: () => void
}

/**
 * The queue of one mutex, as this process sees it while claims of its own wait there.
 *
 * The claims before another one only ever get fewer: new ones come behind. So what a look at the queue found, less what has
 * been deleted since, is all that may still stand there, however old the look is. A claim's turn has come when nothing of that
 * is left. One watch on the deletions of the whole queue tells that, without another look.
 *
 * Processes near the head watch the whole queue. A process with more than 16 claims, or those of more than 10 processes, before
 * its foremost one watches only one of them, a few places before its own: so a deletion is told to few. When that goes, it
 * begins to watch the whole queue, and looks, while those in between have their turns.
 *
 * Where the next claim is this process's own, a release hands over to it without waiting for the server, see `handOver`.
 */
export class LocalQueue {
  private readonly standing = new OrderedList<QueuedClaim>()
  private readonly byKey = new Map<string, QueuedClaim>()
  /** All claims that were created from `from` up to `to` are known. None is, where `to` is zero. */
  private from = 0n
  private to = 0n
  /** How many of the standing claims are those of others. */
  private others = 0
  /** The places of this process that wait. Those behind `to` are not among the standing claims yet. */
  private readonly waiting = new WaitingPlaces()
  /** How many of them are among the standing claims. */
  private placed = 0
  /** The place whose turn has come, and since when: a claim that asked before may still come to have that place. */
  private turn: { readonly place: Place; readonly since: number } | undefined
  /** How many requests are under way whose answers may show claims that have been deleted meanwhile. */
  private unanswered = 0
  private readonly deletions: Array<Deletion> = []
  /** The latest revision that an answer was of. */
  private latest = 0n
  private isTakingIn = false
  private mustAdvance = false
  private isAdvancing = false
  /** How many claims of a dead process are deleted at once: a server may not take more. */
  private mostPassedOver = 60
  /** The next look shows as many claims as may be deleted at once. */
  private seeksDead = false
  private isResting = false
  private isLooking = false
  private mutedUntil = 0
  private askedForHolderAt = -Infinity
  private mustLook = false
  private verified = 0
  private stopListening: (() => void) | undefined
  /** All deletions after this revision are heard, while there is a watch on them. */
  private heardFrom: bigint | undefined
  /**
   * Up to this revision some claims are known to be gone, but not all that went before them: a look at a part of the queue told
   * that, or an event for another watch. A claim of ours may be among those that went before.
   */
  private foreseen = 0n
  /** The key of a claim before the foremost one, while only that is watched. */
  private target: string | undefined
  private stopWatching: () => void = () => {}
  /** That claim has gone, and the foremost one may be near the head by now: a look will tell. */
  private isApproaching = false
  /** When to look although nothing was heard, or to stop listening where none of ours waits: milliseconds. */
  wakeAt = Infinity
  private readonly outside: Outside
  private readonly lock: LockKeys

  constructor(lock: LockKeys, outside: Outside) {
    this.lock = lock
    this.outside = outside
  }

  // Requests of this process, and their answers.

  /** A request is under way whose answer shows claims of the queue. Its revision will not be below what this returns. */
  noteAsked(): bigint {
    this.unanswered++
    return this.latest
  }

  /** That request is no longer under way. */
  noteAnswered(): void {
    if (--this.unanswered > 0) return
    this.deletions.length = 0
    if (this.waiting.size === 0) this.rest()
  }

  /** Does a claim wait that was asked for before this one? */
  hasEarlier({ number }: TrackedClaim): boolean {
    const first = this.waiting.first?.tracked.number
    return first !== undefined && number !== undefined && first < number
  }

  /** The last waiting place, where many wait: a claim that comes behind it need not look who else is there. */
  lastOfMany(): Place | undefined {
    const { last } = this.waiting
    return this.waiting.size >= many && last?.tracked.state === "queued" ? last : undefined
  }

  /** What stands before a claim that comes right behind the last one of ours. */
  behindLast(): Ahead {
    const { holder, place, waiting } = this.waiting.last?.ahead ?? { holder: undefined, place: 0, waiting: 0 }
    return { holder, place: place + 1, waiting: waiting + 1 }
  }

  /** A claim of ours has got a place, with this snapshot. */
  arrive(place: Place, snapshot: Snapshot.QueueSnapshot, since: bigint): void {
    this.observeRevision(snapshot.revision, since)
    place.onEnd = () => this.noteEnded(place)
    place.isBlind = snapshot.isBlind
    this.waiting.add(place)
    const one = this.byKey.get(place.key)
    // A look has shown it before its own answer came.
    if (one !== undefined && one.created === place.created && one.place === undefined && !one.isBeingDeleted) {
      one.place = place
      this.others--
      this.placed++
      this.watchPredecessor(one)
    }
    if (!snapshot.isBlind) this.applySnapshot(place, snapshot)
    if (this.waiting.has(place)) this.advance()
  }

  /** Takes in a snapshot, as far as it connects with what is known. */
  private applySnapshot(place: Place, seen: Snapshot.QueueSnapshot): void {
    const own = place.created!
    const isForemost = this.waiting.first === place
    const snapshot = isForemost ? this.near(seen) : seen
    // A repeat found it there, with many behind it.
    if (!snapshot.isWhole && snapshot.before.length === 0) {
      this.mustLook = true
      return
    }
    const lowest = snapshot.isWhole ? 0n : snapshot.before[0]?.created ?? own
    // Other claims are in between. It is placed when those of ours before it have gone.
    const isConnected = lowest <= this.to && own >= this.from && this.to !== 0n && (snapshot.isWhole || !isForemost)
    if (!isConnected) {
      if (this.to !== 0n && !isForemost) return
      this.clear()
    }
    this.from = isConnected && this.from < lowest ? this.from : lowest
    if (own > this.to) this.to = own
    this.replace(
      lowest,
      own,
      [...snapshot.before, new Snapshot.OtherClaim(place.keyBytes, own, undefined)],
      snapshot.revision
    )
    if (snapshot.isWhole && snapshot.before.length === 0) this.takeTurn(place)
  }

  /** Only the nearest claims before it, of few processes: each of those hears of every deletion there. */
  private near(snapshot: Snapshot.QueueSnapshot): Snapshot.QueueSnapshot {
    const processes = new Set<string>()
    for (let index = snapshot.before.length - 1; index >= 0; index--) {
      const { key, value: { process = key } } = snapshot.before[index]!
      if (process !== this.outside.liveness.process) processes.add(process)
      if (processes.size > this.outside.mostListeners) {
        return { ...snapshot, before: snapshot.before.slice(index), isWhole: false }
      }
    }
    return snapshot
  }

  /** Between these two revisions only the claims that were found stand; they are in the order of the queue. */
  private replace(
    lowest: bigint,
    highest: bigint,
    found: ReadonlyArray<Snapshot.OtherClaim>,
    revision: bigint
  ): void {
    let one = this.standing.last
    while (one !== undefined && one.created > highest) one = one.previous
    const unknown: Array<Snapshot.OtherClaim> = []
    let last = found.length - 1
    while (one !== undefined && one.created >= lowest) {
      const { previous }: QueuedClaim = one
      while (last >= 0 && found[last]!.created > one.created) unknown.push(found[last--]!)
      const other = found[last]
      if (other?.created === one.created && other.keyBytes.equals(one.other.keyBytes)) {
        one.seenAt = revision
        last--
      } else this.foresee(one, revision)
      one = previous
    }
    while (last >= 0) unknown.push(found[last--]!)
    for (const other of unknown.toReversed()) {
      const { key } = other
      if (this.deletions.some((gone) => gone.key === key && gone.revision > other.created)) continue
      // Names of places are used again: what stood there before has gone.
      const earlier = this.byKey.get(key)
      if (earlier !== undefined && earlier.created < other.created) this.foresee(earlier, revision)
      if (!this.byKey.has(key)) this.insert(other, revision)
    }
  }

  /** Removes a claim that has gone, though its deletion has not been heard. */
  private foresee(one: QueuedClaim, revision: bigint): void {
    this.remove(one)
    if (revision > this.foreseen) this.foreseen = revision
  }

  private insert(other: Snapshot.OtherClaim, revision: bigint): void {
    const { key } = other
    const place = this.outside.registry.at(key)
    const isOwn = place?.created === other.created
    const one = new QueuedClaim(other, revision, isOwn ? place : undefined)
    this.standing.insert(one)
    this.byKey.set(key, one)
    if (one.place === undefined) this.others++
    else {
      if (this.waiting.has(one.place)) this.placed++
      one.place.onEnd = () => this.noteEnded(place!)
    }
    this.watchPredecessor(one)
    if (one.next !== undefined) this.watchPredecessor(one.next)
  }

  private remove(one: QueuedClaim): void {
    const { next } = one
    this.standing.remove(one)
    this.byKey.delete(one.key)
    if (one.place === undefined && !one.isBeingDeleted) this.others--
    else if (one.place !== undefined && this.waiting.has(one.place)) this.placed--
    if (next !== undefined) this.watchPredecessor(next)
  }

  private clear(): void {
    this.standing.clear()
    this.byKey.clear()
    this.others = 0
    this.placed = 0
    this.from = 0n
    this.to = 0n
  }

  /** The queued claim of a place. Names are used again: at that key may be an earlier claim, whose end was not heard yet. */
  private queuedAt(place: Place): QueuedClaim | undefined {
    const one = this.byKey.get(place.key)
    return one?.place === place ? one : undefined
  }

  private stopWaiting(place: Place): void {
    if (this.waiting.remove(place) && this.queuedAt(place) !== undefined) this.placed--
  }

  /**
   * Takes in the revision of an answer. Where revisions go back, the server has lost its data or was restored: then nothing that
   * was known holds. An answer that was overtaken by another is no sign of that.
   */
  private observeRevision(revision: bigint, since: bigint): void {
    if (revision >= since) {
      if (revision > this.latest) this.latest = revision
      return
    }
    this.clear()
    this.deletions.length = 0
    this.foreseen = 0n
    this.turn = undefined
    this.stopWatching()
    this.stopHearing()
    this.latest = revision
  }

  /** May a withdrawal ask who holds the lock, for its error? One of many that give up together asks for all. */
  mayAskForHolder(): boolean {
    const now = this.outside.now()
    if (now < this.askedForHolderAt + holderKnownFor) return false
    this.askedForHolderAt = now
    return true
  }

  // Deletions.

  /** Takes in deletions. All that happened together are taken in before a claim is granted for them. */
  private takeDeletions(deletions: ReadonlyArray<Deletion>): void {
    if (this.unanswered > 0) this.deletions.push(...deletions)
    const ours: Array<Place> = []
    for (const { key, revision } of deletions) {
      const one = this.byKey.get(key)
      const waiting = this.waiting.get(key)
      if (one !== undefined && one.created < revision) {
        this.remove(one)
        if (one.place !== undefined) ours.push(one.place)
      }
      if (waiting !== undefined && waiting !== one?.place && waiting.created! < revision) ours.push(waiting)
    }
    this.isTakingIn = true
    for (const { tracked } of ours) this.outside.registry.markGone(tracked)
    this.isTakingIn = false
    this.advance()
  }

  /** A claim of ours has ended, as a waiter or a holder. Its deletion is heard later, if that was not the reason. */
  private noteEnded(place: Place): void {
    const one = this.queuedAt(place)
    this.stopWaiting(place)
    if (one !== undefined) {
      one.place = undefined
      one.isBeingDeleted = true
    }
    this.advance()
  }

  /**
   * A withdrawal of ours has an answer, or none: without a revision nobody knows whether the claim still stands. Where deletions
   * are listened to, it is taken in when the watch tells it, in the order of all: another of ours may have gone before it.
   */
  noteWithdrawn(key: string, revision: bigint | undefined): void {
    if (revision !== undefined) {
      if (this.heardFrom === undefined || revision <= this.heardFrom) this.takeDeletions([{ key, revision }])
      return
    }
    const one = this.byKey.get(key)
    if (one === undefined || !one.isBeingDeleted) return
    one.isBeingDeleted = false
    one.isHandedOver = false
    this.others++
    this.advance()
  }

  // Turns.

  /** Grants the foremost claim if its turn has come, and otherwise sees to it that its turn will be heard. */
  private advance(): void {
    if (this.isTakingIn) return
    const { first: foremost } = this.waiting
    if (foremost === undefined) return this.rest()
    this.isResting = false
    // It goes on when its lease has been confirmed.
    if (foremost.tracked.isBeingGranted) return this.pollWithin(nearPoll)
    const mine = this.queuedAt(foremost)
    if (this.mustLook) return this.look(foremost)
    if (mine === undefined) return this.isRightBehindOurs(foremost) ? this.lookOn(foremost) : this.look(foremost)
    if (this.from > 0n) return this.watch(foremost)
    this.stopWatching()
    if (this.others > 0) this.listen(foremost)
    const first = this.standing.first!
    if (this.hasTurn(foremost)) return this.takeTurn(foremost)
    if (first === mine) {
      const isSure = this.isHeard(mine.seenAt) && mine.seenAt >= this.foreseen
      return isSure ? this.takeTurn(foremost) : this.look(foremost)
    }
    // What was deleted before the watch began is not heard, our own deletions neither.
    const isHeld = first.place !== undefined
    if (!isHeld && this.heardFrom !== undefined && first.seenAt < this.heardFrom) return this.look(foremost)
    if (this.placed < fewPlaced && this.waiting.size > this.placed) {
      const next = this.firstUnplaced
      if (next !== undefined && this.isRightBehindOurs(next)) this.lookOn(foremost)
    }
    this.pollWithin(nearPoll)
  }

  private get firstUnplaced(): Place | undefined {
    for (const place of this.waiting) if (this.queuedAt(place) === undefined) return place
    return undefined
  }

  /** Did it come right behind others of ours, before which all claims are known? Then one look finds it and many more. */
  private isRightBehindOurs(place: Place): boolean {
    return place.isBlind && this.to !== 0n && this.from === 0n
  }

  /** Has its turn come a moment ago? */
  private hasTurn(place: Place): boolean {
    return this.turn?.place === place && this.outside.now() < this.turn.since + awaitedFor
  }

  /** Have all deletions since then been heard? */
  private isHeard(revision: bigint): boolean {
    return this.heardFrom !== undefined && revision >= this.heardFrom
  }

  /** Grants a claim whose turn has come, once its lease is known to live. */
  private takeTurn(place: Place): void {
    const { tracked } = place
    if (tracked.state !== "queued" || tracked.isBeingGranted || this.waitsForAnother(place)) return
    const { registry, fork, leases } = this.outside
    const lease = place.lease!
    if (leases.isFresh(lease)) return this.letIn(place)
    tracked.isBeingGranted = true
    fork(Effect.match(leases.ensureFresh(lease), {
      onFailure: (failure) => {
        tracked.isBeingGranted = false
        this.retryLookSoon(failure)
      },
      onSuccess: () => {
        tracked.isBeingGranted = false
        if (tracked.state !== "queued") return
        // What was seen of the claim is older than that answer, which may have taken long.
        if (lease.gone) registry.markGone(tracked)
        else this.lookNow()
      }
    }))
  }

  private letIn(place: Place): void {
    this.turn = undefined
    this.stopWaiting(place)
    this.outside.grant(place)
    this.advance()
  }

  /** A claim that was asked for earlier has its answer. */
  noteEarlierAnswered(): void {
    if (this.turn !== undefined) this.advance()
  }

  /** Is a claim that was asked for before it still without an answer? That is waited for a while, since it may be lost. */
  private waitsForAnother(place: Place): boolean {
    const { askingOrder, now } = this.outside
    if (!askingOrder.isAwaited(place.tracked)) return false
    if (this.turn?.place !== place) this.turn = { place, since: now() }
    if (now() >= this.turn.since + awaitedFor) return false
    this.pollWithin(awaitedFor)
    return true
  }

  /**
   * At a release, gives the turn to the next claim where that is this process's own, and returns its place. The released claim
   * still stands then, and is deleted only while its successor stands: whatever else happens, one of the two keeps all others
   * out.
   */
  handOver(place: Place): Place | undefined {
    const one = this.queuedAt(place)
    const successor = one?.next?.place
    if (one === undefined || successor?.tracked.state !== "queued") return undefined
    if (one.previous?.isHandedOver === false) return undefined
    const { leases, liveness } = this.outside
    if (this.heardFrom !== undefined && one.next!.seenAt < this.heardFrom) return undefined
    if (successor.lease === undefined || !leases.isFresh(successor.lease) || successor.tracked.isBeingGranted) {
      return undefined
    }
    // While this process was silent others may have deleted that claim.
    if (successor.lifeLease !== undefined && !liveness.isStill(successor.lifeLease)) return undefined
    this.noteEnded(place)
    place.onEnd = () => {}
    one.isHandedOver = true
    this.turn = { place: successor, since: this.outside.now() }
    return successor
  }

  /**
   * Grants the successor, once the release that was handed over is on its way: so the releases of short sections go together, in
   * their order. The successor may be released before this returns.
   */
  letSuccessorIn(): void {
    this.mustAdvance = true
    if (this.isAdvancing) return
    this.isAdvancing = true
    while (this.mustAdvance) {
      this.mustAdvance = false
      this.advance()
    }
    this.isAdvancing = false
  }

  // Watches and looks.

  /** Watches all deletions of the queue: the foremost claim is near the head. */
  private listen(foremost: Place): void {
    if (this.stopListening !== undefined || this.outside.now() < this.mutedUntil) return
    const since = this.queuedAt(foremost)!.seenAt
    // A server lets a watch that begins in the past catch up at its own slow pace. There is time for that further back.
    const isPatient = this.others > fewAhead && !this.isApproaching
    if (isPatient) this.heardFrom = since
    this.stopListening = this.outside.watches.add(
      { key: this.lock.folder, rangeEnd: this.lock.folderEnd },
      since,
      (deletions, areAstray) => {
        const { revision } = deletions[deletions.length - 1]!
        if (revision >= this.foreseen) this.foreseen = areAstray ? revision : 0n
        this.takeDeletions(deletions)
      },
      () => {
        this.stopListening = undefined
        this.heardFrom = undefined
        this.lookAfterRefusal()
      },
      isPatient ? undefined : (revision) => {
        this.heardFrom = revision
        if (this.isApproaching) this.lookNow()
        else this.advance()
      }
    )
  }

  /** A watch was refused, or its past was compacted: looks instead, at a pace that no server minds. */
  private lookAfterRefusal(): void {
    this.mustLook = true
    this.mutedUntil = this.outside.now() + lookPause
    this.pollWithin(lookPause)
  }

  private stopHearing(): void {
    this.stopListening?.()
    this.stopListening = undefined
    this.heardFrom = undefined
    this.isApproaching = false
  }

  /** Watches a claim a few places before the foremost one of ours, which is far from the head. */
  private watch(foremost: Place): void {
    if (this.isApproaching) return this.pollWithin(nearPoll)
    let target = this.queuedAt(foremost)!.previous
    if (target === undefined) return this.look(foremost)
    for (let places = 1; places < fewBefore && target.previous !== undefined; places++) target = target.previous
    if (this.target === target.key || this.outside.now() < this.mutedUntil) return
    this.stopWatching()
    this.stopHearing()
    this.target = target.key
    const stop = this.outside.watches.add(
      { key: target.other.keyBytes },
      target.seenAt,
      () => {
        this.stopWatching()
        this.approach()
      },
      () => {
        this.target = undefined
        this.lookAfterRefusal()
      }
    )
    this.stopWatching = () => {
      this.target = undefined
      this.stopWatching = () => {}
      stop()
    }
    this.pollWithin(farPoll(foremost))
  }

  /** The foremost claim may be near the head by now: watches the whole queue, and looks once that watch has begun. */
  private approach(): void {
    const { first } = this.waiting
    if (first === undefined || this.queuedAt(first) === undefined || this.from === 0n) return this.lookNow()
    this.isApproaching = true
    this.listen(first)
    // It may not watch for now, or has done so for some time.
    if (this.stopListening === undefined || this.heardFrom !== undefined) return this.lookNow()
    this.pollWithin(nearPoll)
  }

  /** Far from the head it is enough to know that the claim which is watched still stands; now and then it looks how far that is. */
  private verifyOrLook(place: Place): void {
    const watched = this.from > 0n && this.target !== undefined ? this.byKey.get(this.target) : undefined
    if (watched === undefined || this.queuedAt(place) === undefined || ++this.verified % looksAmongPolls === 0) {
      return this.look(place)
    }
    this.ask(place, Transactions.verify(place, place.created!, watched.other), ({ header, succeeded }, asked) => {
      this.observeRevision(BigInt(header.revision), asked)
      if (!succeeded) this.mustLook = true
    })
  }

  /** Asks who stands before a claim. One look at a time; what happens meanwhile is looked at again where it matters. */
  private look(place: Place): void {
    if (this.isLooking) return
    const { created } = place
    const most = this.seeksDead ? this.mostPassedOver + 1 : undefined
    this.seeksDead = false
    this.ask(place, Transactions.look(place, created!, most), (value, asked) => {
      this.isApproaching = false
      const snapshot = Snapshot.readSnapshot(value, place.claim, 0n, most)
      this.observeRevision(snapshot.revision, asked)
      if (place.tracked.state !== "queued" || place.created !== created) return
      const one = this.queuedAt(place)
      if (snapshot.own !== created) {
        this.outside.registry.markGone(place.tracked)
        if (one !== undefined && this.byKey.get(one.key) === one) this.foresee(one, snapshot.revision)
        return
      }
      place.ahead = Snapshot.ahead(snapshot, place.claim)
      this.applySnapshot(place, snapshot)
      const placed = this.queuedAt(place)
      if (placed !== undefined) this.watchPredecessor(placed)
    })
  }

  /** Asks who stands behind all that is known. */
  private lookOn(place: Place): void {
    const since = this.to
    this.ask(place, Transactions.lookOn(place, since + 1n), (value, asked) => {
      if (this.to !== since || this.from !== 0n) return
      const { found, isWhole, revision } = Transactions.listed(value)
      this.observeRevision(revision, asked)
      if (this.to !== since) return
      const newest = found[found.length - 1]?.created ?? since
      // Claims that came together with the newest one stand behind it, at the same revision.
      this.to = isWhole && newest < revision ? revision - 1n : newest
      this.replace(since + 1n, this.to, found, revision)
      // Claims of ours that were deleted before they were ever seen there.
      for (const one of Array.from(this.waiting)) {
        if (one.created! <= this.to && this.queuedAt(one) === undefined) this.outside.registry.markGone(one.tracked)
      }
    })
  }

  private ask(place: Place, operation: Operation, take: (value: ITxnResponse, asked: bigint) => void): void {
    if (this.isLooking) return
    this.isLooking = true
    this.mustLook = false
    const asked = this.noteAsked()
    this.pollWithin(this.from === 0n ? nearPoll : farPoll(place))
    const { fork, batcher } = this.outside
    fork(
      Effect.match(batcher.run(operation), {
        onFailure: (failure) => {
          this.isLooking = false
          this.retryLookSoon(failure)
        },
        onSuccess: ({ value }) => {
          this.isLooking = false
          take(value, asked)
          this.advance()
        }
      }).pipe(Effect.ensuring(Effect.sync(() => this.noteAnswered())))
    )
  }

  /** A look had no answer: it is repeated soon, until the leases can no longer be alive. */
  private retryLookSoon(failure: CallFailure): void {
    const now = this.outside.now()
    this.mustLook = true
    for (const { tracked } of Array.from(this.waiting)) this.outside.registry.failIfExpired(tracked, failure, now)
    const { first } = this.waiting
    if (first !== undefined) this.pollWithin(first.tracked.retryAfter)
  }

  /** Looks after so many milliseconds, or earlier. What happens meanwhile never puts that off. */
  private pollWithin(millis: number): void {
    const at = this.outside.now() + millis
    if (at >= this.wakeAt) return
    this.wakeAt = at
    this.outside.wakeBy(at)
  }

  /** Nothing has been heard for some time, and an event may have been lost: looks. */
  wake(): void {
    this.wakeAt = Infinity
    const { first } = this.waiting
    if (first?.tracked.isBeingGranted === true) return
    if (first !== undefined) return this.verifyOrLook(first)
    this.stopHearing()
    if (this.unanswered === 0) this.outside.onEmpty()
  }

  /** None of ours waits. One may again, soon: until then the queue is watched, which spares a look. */
  private rest(): void {
    this.stopWatching()
    if (this.stopListening !== undefined) {
      if (this.isResting) return
      this.isResting = true
      this.wakeAt = Infinity
      this.pollWithin(lingering)
      return
    }
    this.wakeAt = Infinity
    if (this.unanswered === 0 && this.standing.first?.place === undefined) this.outside.onEmpty()
  }

  // Processes that die.

  /** Claims of a process that died are deleted by the process of the claim behind them, but for the head of the queue. */
  private watchPredecessor(one: QueuedClaim): void {
    const { previous, place } = one
    if (place?.tracked.state !== "queued") return
    place.stopDeathWatch()
    const process = previous?.other.value.process
    if (previous === undefined || process === undefined || previous.other.value.capacity !== 1) return
    const { liveness } = this.outside
    // It may have been granted, unless others stand before it; a look tells.
    if (process === liveness.process || (previous.previous === undefined && this.from === 0n)) return
    const onDead = () => this.passOver(one, place, process)
    place.stopDeathWatch = liveness.onDeath(place.claim.prefix, process, onDead, this.from > 0n ? farDeathAfter : 0)
  }

  /** Deletes the claims of a dead process that stand right before one of ours. */
  private passOver(one: QueuedClaim, place: Place, process: string): void {
    const run: Array<Snapshot.OtherClaim> = []
    let before = one.previous
    while (before?.previous !== undefined) {
      const { capacity, process: its } = before.other.value
      if (its !== process || capacity !== 1) break
      run.push(before.other)
      before = before.previous
    }
    // Those that came first go first: if their process lives after all, it asks again in that order.
    const dead = run.slice(-this.mostPassedOver).toReversed()
    this.seeksDead = true
    if (before === undefined || dead.length === 0) return this.lookNow()
    const { fork, batcher } = this.outside
    fork(
      Effect.match(
        batcher.run(Transactions.passOver(place, dead, before.other, lifeKeys(place.claim.prefix).of(process))),
        {
          onFailure: ({ cause }) => {
            if (isTooLarge(cause)) this.mostPassedOver = Math.max(1, dead.length >> 1)
            this.lookNow()
          },
          onSuccess: ({ value }) => {
            const revision = BigInt(value.header.revision)
            if (!value.succeeded) {
              return this.lookNow()
            }
            this.takeDeletions(dead.map(({ key }) => ({ key, revision })))
            if (dead.length < run.length && this.byKey.get(one.key) === one) this.watchPredecessor(one)
          }
        }
      )
    )
  }

  /** What is known may be wrong: looks at the next chance. */
  private lookNow(): void {
    this.mustLook = true
    this.advance()
  }
}

/** From as many waiting claims on, a process looks once for all of them, rather than for each. */
const many = 8

/** With fewer claims of its own among those that are known, a process looks for the ones behind them. */
const fewPlaced = 5

/** With more claims of others before its own, a process has time to begin its watch in the past. */
const fewAhead = 4

/** How many places before its own the claim is that a process watches: it needs some time to watch all and look. */
const fewBefore = 4

/** One in so many polls far from the head is a look. */
const looksAmongPolls = 4

/** Milliseconds. */
const farDeathAfter = 300
const nearPoll = 2_000
const longestPoll = 10_000
/** The more claims stand before it, the less often it looks: all the others that wait do so too. */
const farPoll = ({ ahead: { place } }: Place): number => Math.min(longestPoll, nearPoll * (1 + place / 100))
const lookPause = 200
const holderKnownFor = 100
const lingering = 5_000
/** As long as a call may take: the answer to an earlier request comes within that, or not at all. */
const awaitedFor = 2_000
