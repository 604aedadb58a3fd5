/** What this process knows of the queue of one mutex. */

import type { Ahead } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { ITxnResponse } from "etcd3"
import { type CallFailure, isTooLarge } from "../../client/failure.ts"
import type { Deletion } from "../../client/watches.ts"
import { lifeKeysIn, type LockKeys } from "../../protocol/keys.ts"
import type { Operation } from "../../protocol/operation.ts"
import * as Snapshot from "../../protocol/snapshot.ts"
import * as Transactions from "../../protocol/transactions.ts"
import type { StoreParts } from "../parts.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"
import { OrderedList } from "./orderedList.ts"
import { WaitingPlaces } from "./waitingPlaces.ts"

/** A claim that is in the queue, as far as this process knows. It may be a claim of another process. */
class QueuedClaim {
  previous: QueuedClaim | undefined
  next: QueuedClaim | undefined
  /** The revision of the latest read that found the claim in the queue. */
  seenAt: bigint
  /** The place of the claim, if the claim belongs to this process and has not ended. */
  place: Place | undefined
  /** The claim belonged to this process and has ended. Its deletion has been requested and is not confirmed yet. */
  isBeingDeleted = false
  /** The claim handed its lock over: the successor already has the turn. */
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

/** What a local queue needs from the store. */
export interface Outside extends StoreParts {
  /** Called when the claim at this place is first in the queue and its lease is known to be alive. */
  readonly grant: (place: Place) => void
  /** Called when this process has no claim in the queue and none is expected soon. */
  readonly onEmpty: () => void
}

/**
 * The queue of one mutex, as this process knows it while claims of this process wait in it.
 *
 * New claims join at the end of the queue, so the set of claims before a given claim only shrinks. The claims before it are
 * therefore at most those that some read of the queue found, minus those deleted since, however old that read is. When none of
 * them is left, the claim has the turn. One watch on all deletions in the queue is enough to notice that, without a second
 * read. In this file a "look" is a request that reads the queue.
 *
 * A process near the head watches the whole queue. If more than 16 claims, or claims of more than 10 processes, are before the
 * first claim of this process, the process watches only one claim, a few places before its own. This way the server reports a
 * deletion to few processes. When the watched claim is deleted, the process starts to watch the whole queue and looks at it,
 * while the claims in between have their turns.
 *
 * If the next claim belongs to this process too, a release hands the lock over without waiting for the server: see `handOver`.
 */
export class LocalQueue {
  private readonly standing = new OrderedList<QueuedClaim>()
  private readonly byKey = new Map<string, QueuedClaim>()
  /** Every claim created at a revision from `from` to `to` is known. If `to` is zero, no claim is known. */
  private from = 0n
  private to = 0n
  /** How many claims in `standing` belong to other processes. */
  private others = 0
  /** The waiting places of this process. Those created after revision `to` are not in `standing` yet. */
  private readonly waiting = new WaitingPlaces()
  /** How many of the places in `waiting` are in `standing`. */
  private placed = 0
  /** The place that has the turn, and since when. A claim that was requested earlier may still exchange into that place. */
  private turn: { readonly place: Place; readonly since: number } | undefined
  /** How many requests have no answer yet. Their answers may list claims that were deleted in the meantime. */
  private unanswered = 0
  /** The revisions that were known when those requests were sent, with how many were sent at each, in order. */
  private readonly askedAt = new Map<bigint, number>()
  private readonly deletions: Array<Deletion> = []
  /** The highest revision of any answer. */
  private latest = 0n
  private isTakingIn = false
  private mustAdvance = false
  private isAdvancing = false
  /** How many claims of a dead process one request deletes at most, because the server may refuse a larger request. */
  private mostPassedOver = 60
  /** The next look reads as many claims as one request may delete. */
  private seeksDead = false
  private isResting = false
  private isLooking = false
  private mutedUntil = 0
  private askedForHolderAt = -Infinity
  private mustLook = false
  private verified = 0
  private stopListening: (() => void) | undefined
  /** The watch on the queue reports every deletion after this revision. `undefined` while there is no such watch. */
  private heardFrom: bigint | undefined
  /**
   * This process knows of some deletions up to this revision, but may have missed earlier ones. It learnt of them from a look
   * at a part of the queue or from an event meant for another watch. The missed deletions may include a claim of this process.
   */
  private foreseen = 0n
  /** The key of the watched claim, while this process watches a single claim before its first one. */
  private target: string | undefined
  private stopWatching: () => void = () => {}
  /** The watched claim was deleted, so the first claim of this process may be near the head. A look will tell. */
  private isApproaching = false
  /** When a dead process was last found before a claim of this process. */
  private deathSeenAt = -Infinity
  /** When to look although no event arrived; if no claim of this process waits, when to end the watch. In milliseconds. */
  wakeAt = Infinity
  private readonly outside: Outside
  private readonly lock: LockKeys

  constructor(lock: LockKeys, outside: Outside) {
    this.lock = lock
    this.outside = outside
  }

  // Requests of this process and their answers.

  /**
   * Records that a request was sent whose answer lists claims of the queue. Returns the lowest revision the answer may have.
   */
  noteAsked(): bigint {
    this.unanswered++
    this.askedAt.set(this.latest, (this.askedAt.get(this.latest) ?? 0) + 1)
    return this.latest
  }

  /** Records that such a request was answered or has failed. */
  noteAnswered(asked: bigint): void {
    const others = (this.askedAt.get(asked) ?? 1) - 1
    if (others > 0) this.askedAt.set(asked, others)
    else this.askedAt.delete(asked)
    if (--this.unanswered > 0) return
    this.deletions.length = 0
    if (this.waiting.size === 0) this.rest()
  }

  /** Whether a claim waits that was requested before this one. */
  hasEarlier({ number }: TrackedClaim): boolean {
    const first = this.waiting.first?.tracked.number
    return first !== undefined && number !== undefined && first < number
  }

  /** The last waiting place, if many claims wait. A claim that enters behind it does not have to read the other claims. */
  lastOfMany(): Place | undefined {
    const { last } = this.waiting
    return this.waiting.size >= many && last?.tracked.state === "queued" ? last : undefined
  }

  /** The `Ahead` of a claim that enters right behind the last claim of this process. */
  behindLast(): Ahead {
    const { holder, place, waiting } = this.waiting.last?.ahead ?? { holder: undefined, place: 0, waiting: 0 }
    return { holder, place: place + 1, waiting: waiting + 1 }
  }

  /** Records that a claim of this process got a place, and applies the snapshot that its answer contained. */
  arrive(place: Place, snapshot: Snapshot.QueueSnapshot, since: bigint): void {
    this.observeRevision(snapshot.revision, since)
    place.onEnd = (isGone) => this.noteEnded(place, isGone)
    place.isBlind = snapshot.isBlind
    this.waiting.add(place)
    const one = this.byKey.get(place.key)
    // A look showed the claim before the answer to its own request arrived.
    if (one !== undefined && one.created === place.created && one.place === undefined && !one.isBeingDeleted) {
      one.place = place
      this.others--
      this.placed++
      this.watchPredecessor(one)
    }
    if (!snapshot.isBlind) this.applySnapshot(place, snapshot)
    if (this.waiting.has(place)) this.advance()
  }

  /** Applies a snapshot, if its range of claims connects with the known range. */
  private applySnapshot(place: Place, seen: Snapshot.QueueSnapshot): void {
    const own = place.created!
    const isForemost = this.waiting.first === place
    const snapshot = isForemost ? this.near(seen) : seen
    // A repeated request found the claim in the queue with many claims behind it, so the snapshot shows none before it.
    if (!snapshot.isWhole && snapshot.before.length === 0) {
      this.mustLook = true
      return
    }
    const lowest = snapshot.isWhole ? 0n : snapshot.before[0]?.created ?? own
    // If it does not connect, unknown claims are in between. A later look adds this claim, when earlier ones of ours have gone.
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

  /**
   * Keeps only the nearest claims, from at most `mostListeners` processes: the server reports every deletion to each of them.
   */
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

  /** Replaces the known claims created from revision `lowest` to `highest` by `found`, which is in queue order. */
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
      // Place names are reused: the earlier claim with this key is gone.
      const earlier = this.byKey.get(key)
      if (earlier !== undefined && earlier.created < other.created) this.foresee(earlier, revision)
      if (!this.byKey.has(key)) this.insert(other, revision)
    }
  }

  /** Removes a claim that is gone although the watch has not reported its deletion. */
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
      one.place.onEnd = (isGone) => this.noteEnded(place!, isGone)
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

  /**
   * The queued claim of a place. Place names are reused, so an earlier claim may be known by that key until its end is
   * reported.
   */
  private queuedAt(place: Place): QueuedClaim | undefined {
    const one = this.byKey.get(place.key)
    return one?.place === place ? one : undefined
  }

  private stopWaiting(place: Place): void {
    if (this.waiting.remove(place) && this.queuedAt(place) !== undefined) this.placed--
  }

  /**
   * Records the revision of an answer. `since` is the highest revision known when the request was sent, so a newer answer that
   * overtakes this one does no harm. A revision below `since` means that the server lost its data or was restored: then
   * everything known is discarded.
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

  // Deletions.

  /** An answer is newer than the revision that was known when its request was sent, and shows what was deleted before. */
  private keepForAnswers(deletions: ReadonlyArray<Deletion>): void {
    this.deletions.push(...deletions)
    if (this.deletions.length < mostKept) return
    const [oldest = 0n] = this.askedAt.keys()
    const kept = this.deletions.filter(({ revision }) => revision > oldest)
    this.deletions.splice(0, this.deletions.length, ...kept)
  }

  /** Applies deletions. Those of one event are all applied before any claim is granted because of them. */
  private takeDeletions(deletions: ReadonlyArray<Deletion>): void {
    if (this.unanswered > 0) this.keepForAnswers(deletions)
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

  /** Records that a claim of this process ended, waiting or held. Its deletion is reported later, unless it was the reason. */
  private noteEnded(place: Place, isGone: boolean): void {
    const one = this.queuedAt(place)
    this.stopWaiting(place)
    if (one !== undefined && isGone) {
      this.remove(one)
      // Nothing else is known of that moment. The next claim of this process may be gone too, so a look comes before its turn.
      this.mustLook = true
    } else if (one !== undefined) {
      one.place = undefined
      one.isBeingDeleted = true
    }
    this.advance()
  }

  /**
   * Records the answer to a withdrawal. Without a revision there was no answer, and the claim may still be in the queue. While
   * the queue is watched, a later deletion is left to the watch, which reports deletions in their order: another claim of this
   * process may have been deleted before this one.
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

  /**
   * Grants the first claim of this process if it has the turn. Otherwise starts the watch or look that will notice its turn.
   */
  private advance(): void {
    if (this.isTakingIn) return
    const { first: foremost } = this.waiting
    if (foremost === undefined) return this.rest()
    this.isResting = false
    // `takeTurn` continues when the lease has been confirmed.
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
    // The watch does not report what was deleted before it began, and that includes deletions by this process.
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

  /** Whether the claim entered behind known claims of this process. Then one `lookOn` finds it and many more. */
  private isRightBehindOurs(place: Place): boolean {
    return place.isBlind && this.to !== 0n && this.from === 0n
  }

  /** Whether the place got the turn within the last 2 seconds (`awaitedFor`). */
  private hasTurn(place: Place): boolean {
    return this.turn?.place === place && this.outside.now() < this.turn.since + awaitedFor
  }

  /** Whether the watch has reported every deletion since this revision. */
  private isHeard(revision: bigint): boolean {
    return this.heardFrom !== undefined && revision >= this.heardFrom
  }

  /** Grants the claim that has the turn, once its lease is known to be alive. */
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
        // What is known of the claim is older than the confirmation, which may have taken long: look again.
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

  /** Records that a claim which was requested earlier has its answer. */
  noteEarlierAnswered(): void {
    if (this.turn !== undefined) this.advance()
  }

  /**
   * Whether an earlier request has no answer yet. This waits 2 seconds (`awaitedFor`) at most, since the answer may be lost.
   */
  private waitsForAnother(place: Place): boolean {
    const { askingOrder, now } = this.outside
    if (!askingOrder.isAwaited(place.tracked)) return false
    if (this.turn?.place !== place) this.turn = { place, since: now() }
    if (now() >= this.turn.since + awaitedFor) return false
    this.pollWithin(awaitedFor)
    return true
  }

  /**
   * On a release: gives the turn to the next claim, if that claim belongs to this process, and returns its place. The released
   * claim is still in the queue then. The server deletes it only while its successor is in the queue, so one of the two claims
   * always keeps other processes out.
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
    // If this process showed no sign of life for a time, other processes may have deleted the successor.
    if (successor.lifeLease !== undefined && !liveness.isStill(successor.lifeLease)) return undefined
    this.noteEnded(place, false)
    place.onEnd = () => {}
    one.isHandedOver = true
    this.turn = { place: successor, since: this.outside.now() }
    return successor
  }

  /**
   * Grants the successor once the withdrawal of the released claim is in the batch, so that the withdrawals of short sections
   * go to the server together and in order. The successor may be released before this method returns, which calls it again: the
   * loop replaces that recursion.
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

  /** Watches all deletions in the queue, for a first claim that is near the head. */
  private listen(foremost: Place): void {
    if (this.stopListening !== undefined || this.outside.now() < this.mutedUntil) return
    const since = this.queuedAt(foremost)!.seenAt
    // A watch that begins at a past revision catches up slowly at the server. Further back in the queue there is time for that.
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

  /** After a refused watch, or one whose past was compacted: looks instead, at most every 200 ms to spare the server. */
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

  /** Watches one claim, a few places before the first claim of this process, which is far from the head. */
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

  /** Called when the first claim may be near the head: watches the whole queue, and looks once the watch has begun. */
  private approach(): void {
    const { first } = this.waiting
    if (first === undefined || this.queuedAt(first) === undefined || this.from === 0n) return this.lookNow()
    this.isApproaching = true
    this.listen(first)
    // The watch is muted after a refusal, or it began earlier.
    if (this.stopListening === undefined || this.heardFrom !== undefined) return this.lookNow()
    this.pollWithin(nearPoll)
  }

  /**
   * Far from the head, checks only that the place and the watched claim are still in the queue. Every fourth time it looks, to
   * learn how far the head is.
   */
  private verifyOrLook(place: Place): void {
    const watched = this.from > 0n && this.target !== undefined ? this.byKey.get(this.target) : undefined
    if (
      watched === undefined || this.mustLook || this.queuedAt(place) === undefined ||
      ++this.verified % looksAmongPolls === 0
    ) {
      return this.look(place)
    }
    this.ask(place, Transactions.verify(place, place.created!, watched.other), ({ header, succeeded }, asked) => {
      this.observeRevision(BigInt(header.revision), asked)
      if (!succeeded) this.mustLook = true
    })
  }

  /**
   * Reads the claims before a place. One look runs at a time. If something relevant changes meanwhile, another look follows.
   */
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
      place.ahead = Snapshot.ahead(snapshot)
      this.applySnapshot(place, snapshot)
      const placed = this.queuedAt(place)
      if (placed !== undefined) this.watchPredecessor(placed)
    })
  }

  /** Reads the claims behind the known ones. */
  private lookOn(place: Place): void {
    const since = this.to
    this.ask(place, Transactions.lookOn(place, since + 1n), (value, asked) => {
      if (this.to !== since || this.from !== 0n) return
      const { found, isWhole, revision } = Transactions.listed(value)
      this.observeRevision(revision, asked)
      if (this.to !== since) return
      const newest = found[found.length - 1]?.created ?? since
      // A claim that entered in the same transaction as this look has the look's revision, and the look may not show it.
      this.to = isWhole && newest < revision ? revision - 1n : newest
      this.replace(since + 1n, this.to, found, revision)
      // Claims of this process that were deleted before any look saw them.
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
      }).pipe(Effect.ensuring(Effect.sync(() => this.noteAnswered(asked))))
    )
  }

  /** Repeats a look that had no answer. A waiting claim fails once its lease can no longer be alive. */
  private retryLookSoon(failure: CallFailure): void {
    const now = this.outside.now()
    this.mustLook = true
    for (const { tracked } of Array.from(this.waiting)) this.outside.registry.failIfExpired(tracked, failure, now)
    const { first } = this.waiting
    if (first !== undefined) this.pollWithin(first.tracked.retryAfter)
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
    if (first?.tracked.isBeingGranted === true) return
    if (first !== undefined) return this.verifyOrLook(first)
    this.stopHearing()
    if (this.unanswered === 0) this.outside.onEmpty()
  }

  /** No claim of this process waits. The watch stays for 5 seconds, which saves a look if another claim comes soon. */
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

  /**
   * Watches whether the process of the claim before this one is alive. If it dies, this process deletes the claims of the dead
   * process, but never the head of the queue.
   */
  private watchPredecessor(one: QueuedClaim): void {
    const { previous, place } = one
    if (place?.tracked.state !== "queued") return
    place.stopDeathWatch()
    const process = previous?.other.value.process
    if (previous === undefined || process === undefined || previous.other.value.kind !== "mutex") return
    const { liveness } = this.outside
    // Skips a claim that may be the head, since the head may have been granted. A look finds out.
    if (process === liveness.process || (previous.previous === undefined && this.from === 0n)) return
    const onDead = () => this.passOverDead(one, place, process)
    // Processes that die together are found one after another, without a pause.
    const isPatient = this.from > 0n && this.outside.now() >= this.deathSeenAt + farDeathAfter
    place.stopDeathWatch = liveness.onDeath(place.claim.prefix, process, onDead, isPatient ? farDeathAfter : 0)
  }

  /** A process is dead: finds out which others before the claim are dead too, and deletes their waiting claims together. */
  private passOverDead(one: QueuedClaim, place: Place, process: string): void {
    const { fork, liveness, now } = this.outside
    this.deathSeenAt = now()
    const others = new Set<string>()
    for (let before = one.previous; before?.previous !== undefined; before = before.previous) {
      const { kind, process: its } = before.other.value
      if (its === undefined || its === liveness.process || kind !== "mutex") break
      if (its !== process) others.add(its)
    }
    if (others.size === 0) return this.passOver(one, place, new Set([process]))
    const found = liveness.findDead(place.claim.prefix, Array.from(others).slice(0, this.mostPassedOver))
    fork(Effect.map(found, (dead) => this.passOver(one, place, new Set([process, ...dead]))))
  }

  /** Deletes the claims of dead processes that are right before a claim of this process. */
  private passOver(one: QueuedClaim, place: Place, processes: ReadonlySet<string>): void {
    if (this.queuedAt(place) !== one || place.tracked.state !== "queued") return
    const run: Array<Snapshot.OtherClaim> = []
    let before = one.previous
    while (before?.previous !== undefined) {
      const { kind, process: its } = before.other.value
      if (its === undefined || !processes.has(its) || kind !== "mutex") break
      run.push(before.other)
      before = before.previous
    }
    // The earliest claims are deleted first: if the process is alive after all, it requests them again in that order.
    const dead = run.slice(-this.mostPassedOver).toReversed()
    this.seeksDead = true
    if (before === undefined || dead.length === 0) return this.lookNow()
    const signs = Array.from(new Set(dead.map(({ value }) => value.process!)), lifeKeysIn(place.claim.prefix))
    const { fork, batcher } = this.outside
    fork(
      Effect.match(
        batcher.run(Transactions.passOver(place, dead, before.other, signs)),
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

  /** Looks as soon as possible, because what is known may be wrong. */
  lookNow(): void {
    this.mustLook = true
    this.advance()
  }
}

/** With this many waiting claims or more, a new claim enters without reading the others: one look serves all of them. */
const many = 8

/** If fewer waiting claims of this process are in `standing`, the process reads on behind the known claims. */
const fewPlaced = 5

/** If more claims of other processes are ahead, there is time for a watch that begins at a past revision. */
const fewAhead = 4

/** How many places ahead the watched claim is. That leaves time to start the watch on the whole queue and to look. */
const fewBefore = 4

/** Far from the head, one of this many polls is a look. The others only verify. */
/** When old deletions are dropped that no answer can show any more. */
const mostKept = 256

const looksAmongPolls = 4

// Times in milliseconds.

/** The delay before the first check on a process whose claims are far from the head: they may end without help. */
const farDeathAfter = 300
const nearPoll = 2_000
const longestPoll = 10_000
/** The more claims are ahead, the longer the pause between polls, because every waiting process polls. */
const farPoll = ({ ahead: { place } }: Place): number => Math.min(longestPoll, nearPoll * (1 + place / 100))
const lookPause = 200
const holderKnownFor = 100
const lingering = 5_000
/** As long as one call may take: after that, an earlier request gets no answer any more. */
const awaitedFor = 2_000
