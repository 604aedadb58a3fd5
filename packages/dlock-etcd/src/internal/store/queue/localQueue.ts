import type { Ahead } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { ITxnResponse } from "etcd3"
import { type CallFailure, isTooLarge } from "../../client/failure.ts"
import type { Deletion } from "../../client/watches.ts"
import { lives } from "../../protocol/keys.ts"
import type { Operation } from "../../protocol/operation.ts"
import * as Queue from "../../protocol/transactions.ts"
import type { Desk } from "../parts.ts"
import type { Entry } from "../trackedClaim.ts"
import { Chain } from "./orderedList.ts"
import type { Seat } from "./place.ts"
import { Crowd } from "./waitingPlaces.ts"

/** A claim that stands in the queue, or stood there when that was last heard of. */
class Standing {
  previous: Standing | undefined
  next: Standing | undefined
  /** The revision of the latest look that found it there. */
  seenAt: bigint
  /** This process's own claim, until that is over. */
  seat: Seat | undefined
  /** It is over, and its deletion is under way. */
  isLeaving = false
  /** The one behind it has the turn already. */
  isHandedOver = false
  readonly name: string
  readonly other: Queue.Other

  constructor(other: Queue.Other, seenAt: bigint, seat: Seat | undefined) {
    this.name = other.name
    this.other = other
    this.seenAt = seenAt
    this.seat = seat
  }

  get created(): bigint {
    return this.other.created
  }
}

/** What the room asks of the store around it. */
export interface Outside extends Desk {
  /** It is this claim's turn, on a lease that is known to live. */
  readonly grant: (seat: Seat) => void
  /** Nobody of this process stands in the queue any more, or soon. */
  readonly onEmpty: () => void
}

/**
 * The queue of one mutex, as this process sees it while claims of its own wait there.
 *
 * What stands before a claim only ever shrinks: whoever comes, comes behind. So what a look at the queue found, less what has
 * been deleted since, is all that may still stand there, however old the look is; and a claim's turn has come when nothing of
 * it is left. That is heard from one watch on the deletions of the whole queue, without another look.
 *
 * All who are near the head listen to that. Whoever has more than 16 claims, or those of more than 10 processes, before its
 * foremost one watches only the claim before that, and looks when it goes: so a deletion is told to few.
 *
 * Where the next one is this process's own, a release hands over to it without a word of the server, see `handOver`.
 */
export class Room {
  private readonly standing = new Chain<Standing>()
  private readonly byName = new Map<string, Standing>()
  /** All that stands and was created at or after `from` and up to `to` is known. Nothing is, where `to` is zero. */
  private from = 0n
  private to = 0n
  /** Standing claims of others. */
  private others = 0
  /** This process's own that wait; those behind `to` are not among the standing yet. */
  private readonly waiting = new Crowd()
  /** Those of them that are among the standing. */
  private placed = 0
  /** Whose turn has come, and since when: others of this process who asked before it may yet come to have that seat. */
  private turn: { readonly seat: Seat; readonly since: number } | undefined
  /** Requests whose answers may show what has been deleted meanwhile. */
  private unanswered = 0
  private readonly deletions: Array<Deletion> = []
  /** The latest revision that an answer was of. */
  private latest = 0n
  private isTakingIn = false
  private mustGoOn = false
  private isGoingOn = false
  /** As many of the dead are deleted at once: a server may not take more. */
  private mostPassedOver = 60
  /** The next look is for as many. */
  private seeksDead = false
  private isResting = false
  private isLooking = false
  private mutedUntil = 0
  private askedForHolderAt = -Infinity
  private mustLook = false
  private stopListening: (() => void) | undefined
  /** All deletions after this revision have been heard, while there is a watch on them. */
  private heardFrom: bigint | undefined
  /**
   * Up to this revision it is known of some that they are gone, but not all that went before them: from a look at a part of the
   * queue, or from what was told to another watch. One of ours may be among those.
   */
  private foreseen = 0n
  /** What a process watches that is far from the head. */
  private target: string | undefined
  private stopWatching: () => void = () => {}
  /** When to look without having been told to, or to stop listening where nobody waits any more: milliseconds. */
  wakeAt = Infinity
  private readonly outside: Outside
  private readonly lock: Queue.Place["names"]

  constructor(lock: Queue.Place["names"], outside: Outside) {
    this.lock = lock
    this.outside = outside
  }

  // What this process asks, and hears of it.

  /** A request is under way whose answer shows who stands there. Its revision is not below what this returns. */
  noteAsked(): bigint {
    this.unanswered++
    return this.latest
  }

  noteAnswered(): void {
    if (--this.unanswered > 0) return
    this.deletions.length = 0
    if (this.waiting.size === 0) this.rest()
  }

  /** Does one wait that was asked for before this one? */
  hasEarlier({ number }: Entry): boolean {
    const first = this.waiting.first?.entry.number
    return first !== undefined && number !== undefined && first < number
  }

  /** The last one that waits, of a crowd: whoever comes behind it needs not look who else is there. */
  lastOfCrowd(): Seat | undefined {
    const { last } = this.waiting
    return this.waiting.size >= crowd && last?.entry.state === "queued" ? last : undefined
  }

  /** What the next one is told that comes behind the last. */
  behindLast(): Ahead {
    const { holder, place, waiting } = this.waiting.last?.ahead ?? { holder: undefined, place: 0, waiting: 0 }
    return { holder, place: place + 1, waiting: waiting + 1 }
  }

  /** A claim has a place, and this was seen when it got it. */
  arrive(seat: Seat, view: Queue.View, since: bigint): void {
    this.observeRevision(view.revision, since)
    seat.leaveRoom = () => this.leave(seat)
    seat.isBlind = view.isBlind
    this.waiting.join(seat)
    const one = this.byName.get(seat.key)
    // A look was faster than its own answer.
    if (one !== undefined && one.created === seat.created && one.seat === undefined && !one.isLeaving) {
      one.seat = seat
      this.others--
      this.placed++
      this.mind(one)
    }
    if (!view.isBlind) this.take(seat, view)
    if (this.waiting.has(seat)) this.settle()
  }

  /** Takes in what a look found, as far as it connects with what is known. */
  private take(seat: Seat, seen: Queue.View): void {
    const own = seat.created!
    const isForemost = this.waiting.first === seat
    const view = isForemost ? this.near(seen) : seen
    // A repeat found it there, with many behind it.
    if (!view.isWhole && view.before.length === 0) {
      this.mustLook = true
      return
    }
    const lowest = view.isWhole ? 0n : view.before[0]?.created ?? own
    // Others have come in between. It is placed when those of ours before it have gone.
    const isConnected = lowest <= this.to && own >= this.from && this.to !== 0n && (view.isWhole || !isForemost)
    if (!isConnected) {
      if (this.to !== 0n && !isForemost) return
      this.clear()
    }
    this.from = isConnected && this.from < lowest ? this.from : lowest
    if (own > this.to) this.to = own
    this.replace(lowest, own, [...view.before, new Queue.Other(seat.place, own, undefined)], view.revision)
    if (view.isWhole && view.before.length === 0) this.takeTurn(seat)
  }

  /** As much of what stands before a claim as is of few processes: each of them hears of every deletion there. */
  private near(view: Queue.View): Queue.View {
    const processes = new Set<string>()
    for (let index = view.before.length - 1; index >= 0; index--) {
      const { name, standing: { process = name } } = view.before[index]!
      if (process !== this.outside.liveness.process) processes.add(process)
      if (processes.size > mostListeners) return { ...view, before: view.before.slice(index), isWhole: false }
    }
    return view
  }

  /** Between these two only what was found stands, first come first. */
  private replace(lowest: bigint, highest: bigint, found: ReadonlyArray<Queue.Other>, revision: bigint): void {
    let one = this.standing.last
    while (one !== undefined && one.created > highest) one = one.previous
    const unknown: Array<Queue.Other> = []
    let last = found.length - 1
    while (one !== undefined && one.created >= lowest) {
      const { previous }: Standing = one
      while (last >= 0 && found[last]!.created > one.created) unknown.push(found[last--]!)
      const other = found[last]
      if (other?.created === one.created && other.key.equals(one.other.key)) {
        one.seenAt = revision
        last--
      } else this.foresee(one, revision)
      one = previous
    }
    while (last >= 0) unknown.push(found[last--]!)
    for (const other of unknown.toReversed()) {
      const { name } = other
      if (this.deletions.some((gone) => gone.name === name && gone.revision > other.created)) continue
      // Names are used again: what stood there before has gone.
      const earlier = this.byName.get(name)
      if (earlier !== undefined && earlier.created < other.created) this.foresee(earlier, revision)
      if (!this.byName.has(name)) this.insert(other, revision)
    }
  }

  private foresee(one: Standing, revision: bigint): void {
    this.remove(one)
    if (revision > this.foreseen) this.foreseen = revision
  }

  private insert(other: Queue.Other, revision: bigint): void {
    const { name } = other
    const seat = this.outside.claims.at(name)
    const isOwn = seat?.created === other.created
    const one = new Standing(other, revision, isOwn ? seat : undefined)
    this.standing.insert(one)
    this.byName.set(name, one)
    if (one.seat === undefined) this.others++
    else {
      if (this.waiting.has(one.seat)) this.placed++
      one.seat.leaveRoom = () => this.leave(seat!)
    }
    this.mind(one)
    if (one.next !== undefined) this.mind(one.next)
  }

  private remove(one: Standing): void {
    const { next } = one
    this.standing.remove(one)
    this.byName.delete(one.name)
    if (one.seat === undefined && !one.isLeaving) this.others--
    else if (one.seat !== undefined && this.waiting.has(one.seat)) this.placed--
    if (next !== undefined) this.mind(next)
  }

  private clear(): void {
    this.standing.clear()
    this.byName.clear()
    this.others = 0
    this.placed = 0
    this.from = 0n
    this.to = 0n
  }

  /** Names are used again: what stands there may be an earlier claim, of whose end nothing has been heard yet. */
  private placeOf(seat: Seat): Standing | undefined {
    const one = this.byName.get(seat.key)
    return one?.seat === seat ? one : undefined
  }

  private stopWaiting(seat: Seat): void {
    if (this.waiting.leave(seat) && this.placeOf(seat) !== undefined) this.placed--
  }

  /**
   * A server whose revisions go back has lost its data, or was restored: nothing that was known is so any more. An answer
   * that was overtaken is no sign of that.
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

  /** Who holds the lock, for an error that names them: asked of the server for one of many who give up together. */
  mayAskForHolder(): boolean {
    const now = this.outside.now()
    if (now < this.askedForHolderAt + holderKnownFor) return false
    this.askedForHolderAt = now
    return true
  }

  // What is heard of others.

  /** What stood there has been deleted. All that went together is taken in before anybody is let in for it. */
  private takeDeletions(deletions: ReadonlyArray<Deletion>): void {
    if (this.unanswered > 0) this.deletions.push(...deletions)
    const ours: Array<Seat> = []
    for (const { name, revision } of deletions) {
      const one = this.byName.get(name)
      const waiting = this.waiting.get(name)
      if (one !== undefined && one.created < revision) {
        this.remove(one)
        if (one.seat !== undefined) ours.push(one.seat)
      }
      if (waiting !== undefined && waiting !== one?.seat && waiting.created! < revision) ours.push(waiting)
    }
    this.isTakingIn = true
    for (const { entry } of ours) this.outside.claims.markGone(entry)
    this.isTakingIn = false
    this.settle()
  }

  /** A claim of ours waits no more, or holds no more; its deletion is heard of later, if it was not that. */
  private leave(seat: Seat): void {
    const one = this.placeOf(seat)
    this.stopWaiting(seat)
    if (one !== undefined) {
      one.seat = undefined
      one.isLeaving = true
    }
    this.settle()
  }

  /**
   * Its deletion has an answer: nothing of it is left, or nobody knows. From where on deletions are listened to, it is heard of
   * there, in the order of all: another of ours may have been deleted before it.
   */
  noteWithdrawn(name: string, revision: bigint | undefined): void {
    if (revision !== undefined) {
      if (this.heardFrom === undefined || revision <= this.heardFrom) this.takeDeletions([{ name, revision }])
      return
    }
    const one = this.byName.get(name)
    if (one === undefined || !one.isLeaving) return
    one.isLeaving = false
    one.isHandedOver = false
    this.others++
    this.settle()
  }

  // Whose turn it is.

  /** Sees to it that somebody is told, or listens. */
  private settle(): void {
    if (this.isTakingIn) return
    const { first: foremost } = this.waiting
    if (foremost === undefined) return this.rest()
    this.isResting = false
    // It is looked at when that is over.
    if (foremost.entry.isBeingGranted) return this.pollWithin(nearPoll)
    const mine = this.placeOf(foremost)
    if (this.mustLook) return this.look(foremost)
    if (mine === undefined) return this.isNextOfCrowd(foremost) ? this.lookOn(foremost) : this.look(foremost)
    if (this.from > 0n) return this.watch(foremost)
    this.stopWatching()
    if (this.others > 0) this.listen(foremost)
    const first = this.standing.first!
    if (this.hasTurn(foremost)) return this.takeTurn(foremost)
    if (first === mine) {
      const isSure = this.isHeard(mine.seenAt) && mine.seenAt >= this.foreseen
      return isSure ? this.takeTurn(foremost) : this.look(foremost)
    }
    // What was deleted before that is not heard of, our own neither.
    const isHeld = first.seat !== undefined
    if (!isHeld && this.heardFrom !== undefined && first.seenAt < this.heardFrom) return this.look(foremost)
    if (this.placed < fewPlaced && this.waiting.size > this.placed) {
      const next = this.firstUnplaced
      if (next !== undefined && this.isNextOfCrowd(next)) this.lookOn(foremost)
    }
    this.pollWithin(nearPoll)
  }

  private get firstUnplaced(): Seat | undefined {
    for (const seat of this.waiting) if (this.placeOf(seat) === undefined) return seat
    return undefined
  }

  /** It came right behind others of ours, and all that stands before those is known: one look finds it and many more. */
  private isNextOfCrowd(seat: Seat): boolean {
    return seat.isBlind && this.to !== 0n && this.from === 0n
  }

  /** Has its turn come a moment ago? */
  private hasTurn(seat: Seat): boolean {
    return this.turn?.seat === seat && this.outside.now() < this.turn.since + awaitedFor
  }

  /** Have all deletions since then been heard? */
  private isHeard(revision: bigint): boolean {
    return this.heardFrom !== undefined && revision >= this.heardFrom
  }

  private takeTurn(seat: Seat): void {
    const { entry } = seat
    if (entry.state !== "queued" || entry.isBeingGranted || this.waitsForAnother(seat)) return
    const { claims, fork, leases } = this.outside
    const lease = seat.lease!
    if (leases.isFresh(lease)) return this.letIn(seat)
    entry.isBeingGranted = true
    fork(Effect.match(leases.freshen(lease), {
      onFailure: (failure) => {
        entry.isBeingGranted = false
        this.retryLookSoon(failure)
      },
      onSuccess: () => {
        entry.isBeingGranted = false
        if (entry.state !== "queued") return
        // What was seen of it is older than that answer, which may have been long in coming.
        if (lease.gone) claims.markGone(entry)
        else this.lookAnew()
      }
    }))
  }

  private letIn(seat: Seat): void {
    this.turn = undefined
    this.stopWaiting(seat)
    this.outside.grant(seat)
    this.settle()
  }

  /** There was an answer to one that had been asked for before. */
  noteEarlierAnswered(): void {
    if (this.turn !== undefined) this.settle()
  }

  /** An answer that is lost holds nobody up for ever. */
  private waitsForAnother(seat: Seat): boolean {
    const { line, now } = this.outside
    if (!line.isAwaited(seat.entry)) return false
    if (this.turn?.seat !== seat) this.turn = { seat, since: now() }
    if (now() >= this.turn.since + awaitedFor) return false
    this.pollWithin(awaitedFor)
    return true
  }

  /**
   * Gives the next one the turn where that is this process's own, at the moment of a release, and tells which that is. The
   * holder's claim still stands then, and is deleted only while the next one's stands: whatever else happens, one of the two
   * keeps everybody out.
   */
  handOver(seat: Seat): Seat | undefined {
    const one = this.placeOf(seat)
    const heir = one?.next?.seat
    if (one === undefined || heir?.entry.state !== "queued") return undefined
    if (one.previous?.isHandedOver === false) return undefined
    const { leases, liveness } = this.outside
    if (this.heardFrom !== undefined && one.next!.seenAt < this.heardFrom) return undefined
    if (heir.lease === undefined || !leases.isFresh(heir.lease) || heir.entry.isBeingGranted) return undefined
    // While it was silent others may have passed it over.
    if (heir.life !== undefined && !liveness.isStill(heir.life)) return undefined
    this.leave(seat)
    seat.leaveRoom = () => {}
    one.isHandedOver = true
    this.turn = { seat: heir, since: this.outside.now() }
    return heir
  }

  /**
   * The release that has handed over has set out, and the next one is let in: so the releases of short sections go together, in
   * their order. Whoever is let in may be released before this returns.
   */
  goOn(): void {
    this.mustGoOn = true
    if (this.isGoingOn) return
    this.isGoingOn = true
    while (this.mustGoOn) {
      this.mustGoOn = false
      this.settle()
    }
    this.isGoingOn = false
  }

  // How it hears.

  /** To all deletions: it is near the head. */
  private listen(foremost: Seat): void {
    if (this.stopListening !== undefined || this.outside.now() < this.mutedUntil) return
    const since = this.placeOf(foremost)!.seenAt
    // A server lets a watch that begins in the past catch up at its own slow pace. There is time for that further back.
    const isPatient = this.others > fewAhead
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
        this.settle()
      }
    )
  }

  /** Its past has been compacted, or the server would not have it: it looks, at a pace that no server minds. */
  private lookAfterRefusal(): void {
    this.mustLook = true
    this.mutedUntil = this.outside.now() + lookPause
    this.pollWithin(lookPause)
  }

  private stopHearing(): void {
    this.stopListening?.()
    this.stopListening = undefined
    this.heardFrom = undefined
  }

  /** To the end of the one before it: it is far from the head. */
  private watch(foremost: Seat): void {
    const target = this.placeOf(foremost)!.previous
    if (target === undefined) return this.look(foremost)
    if (this.target === target.name || this.outside.now() < this.mutedUntil) return
    this.stopWatching()
    this.stopHearing()
    this.target = target.name
    const stop = this.outside.watches.add(
      { key: target.other.key },
      target.seenAt,
      () => {
        this.stopWatching()
        this.lookAnew()
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

  /** Who stands before it? One look at a time; what happens meanwhile is looked at once more where it matters. */
  private look(seat: Seat): void {
    if (this.isLooking) return
    const { created } = seat
    const most = this.seeksDead ? this.mostPassedOver + 1 : undefined
    this.seeksDead = false
    this.ask(seat, Queue.look(seat, created!, most), (value, asked) => {
      const view = Queue.view(value, seat.claim, 0n, most)
      this.observeRevision(view.revision, asked)
      if (seat.entry.state !== "queued" || seat.created !== created) return
      const one = this.placeOf(seat)
      if (view.own !== created) {
        this.outside.claims.markGone(seat.entry)
        if (one !== undefined && this.byName.get(one.name) === one) this.foresee(one, view.revision)
        return
      }
      seat.ahead = Queue.ahead(view, seat.claim)
      this.take(seat, view)
      const placed = this.placeOf(seat)
      if (placed !== undefined) this.mind(placed)
    })
  }

  /** Who stands behind all that is known? */
  private lookOn(seat: Seat): void {
    const since = this.to
    this.ask(seat, Queue.lookOn(seat, since + 1n), (value, asked) => {
      if (this.to !== since || this.from !== 0n) return
      const { found, isWhole, revision } = Queue.listed(value)
      this.observeRevision(revision, asked)
      if (this.to !== since) return
      const newest = found[found.length - 1]?.created ?? since
      // What went together with it came behind it, at the same revision.
      this.to = isWhole && newest < revision ? revision - 1n : newest
      this.replace(since + 1n, this.to, found, revision)
      // Those who were deleted before they were ever seen there.
      for (const one of Array.from(this.waiting)) {
        if (one.created! <= this.to && this.placeOf(one) === undefined) this.outside.claims.markGone(one.entry)
      }
    })
  }

  private ask(seat: Seat, operation: Operation, take: (value: ITxnResponse, asked: bigint) => void): void {
    if (this.isLooking) return
    this.isLooking = true
    this.mustLook = false
    const asked = this.noteAsked()
    this.pollWithin(this.from === 0n ? nearPoll : farPoll(seat))
    const { fork, outgoing } = this.outside
    fork(
      Effect.match(outgoing.run(operation), {
        onFailure: (failure) => {
          this.isLooking = false
          this.retryLookSoon(failure)
        },
        onSuccess: ({ value }) => {
          this.isLooking = false
          take(value, asked)
          this.settle()
        }
      }).pipe(Effect.ensuring(Effect.sync(() => this.noteAnswered())))
    )
  }

  /** No answer: again soon, until the leases can no longer be alive. */
  private retryLookSoon(failure: CallFailure): void {
    const now = this.outside.now()
    this.mustLook = true
    for (const { entry } of Array.from(this.waiting)) this.outside.claims.failIfExpired(entry, failure, now)
    const { first } = this.waiting
    if (first !== undefined) this.pollWithin(first.entry.retryAfter)
  }

  /** It is never put off by what happens meanwhile. */
  private pollWithin(millis: number): void {
    const at = this.outside.now() + millis
    if (at >= this.wakeAt) return
    this.wakeAt = at
    this.outside.stir(at)
  }

  /** Nothing has been heard for some time: whatever was to tell may have been lost. */
  wake(): void {
    this.wakeAt = Infinity
    const { first } = this.waiting
    if (first?.entry.isBeingGranted === true) return
    if (first !== undefined) return this.look(first)
    this.stopHearing()
    if (this.unanswered === 0) this.outside.onEmpty()
  }

  /** Nobody waits. Somebody may again, soon: until then it goes on listening, which spares a look. */
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
    if (this.unanswered === 0 && this.standing.first?.seat === undefined) this.outside.onEmpty()
  }

  // Those who die.

  /** Those of a process that died in a queue are taken out by the one behind them, but for one that stands first. */
  private mind(one: Standing): void {
    const { previous, seat } = one
    if (seat?.entry.state !== "queued") return
    seat.stopMourning()
    const process = previous?.other.standing.process
    if (previous === undefined || process === undefined || previous.other.standing.capacity !== 1) return
    const { liveness } = this.outside
    // It may have been let in, unless others stand before it, of whom a look tells.
    if (process === liveness.process || (previous.previous === undefined && this.from === 0n)) return
    seat.stopMourning = liveness.mourn(seat.claim.prefix, process, () => this.passOver(one, seat, process))
  }

  private passOver(one: Standing, seat: Seat, process: string): void {
    const run: Array<Queue.Other> = []
    let before = one.previous
    while (before?.previous !== undefined) {
      const { capacity, process: its } = before.other.standing
      if (its !== process || capacity !== 1) break
      run.push(before.other)
      before = before.previous
    }
    // First those who came first: if they live after all they ask anew in that order.
    const dead = run.slice(-this.mostPassedOver).toReversed()
    this.seeksDead = true
    if (before === undefined || dead.length === 0) return this.lookAnew()
    const { fork, outgoing } = this.outside
    fork(Effect.match(outgoing.run(Queue.passOver(seat, dead, before.other, lives(seat.claim.prefix).of(process))), {
      onFailure: ({ cause }) => {
        if (isTooLarge(cause)) this.mostPassedOver = Math.max(1, dead.length >> 1)
        this.lookAnew()
      },
      onSuccess: ({ value }) => {
        const revision = BigInt(value.header.revision)
        if (!value.succeeded) return this.lookAnew()
        this.takeDeletions(dead.map(({ name }) => ({ name, revision })))
        if (dead.length < run.length && this.byName.get(one.name) === one) this.mind(one)
      }
    }))
  }

  /** It lives after all, or who stood before it has gone. */
  private lookAnew(): void {
    this.mustLook = true
    this.settle()
  }
}

/** How many processes before its own a process may have, and hear of each deletion. */
const mostListeners = 10

/** With as many of its own a process looks for those behind them once, rather than each for itself. */
const crowd = 8

/** With fewer of its own that it knows to stand there a process looks for those behind them. */
const fewPlaced = 5

/** With more others before its own than these a process has time to begin to listen. */
const fewAhead = 4

/** Milliseconds. */
const nearPoll = 2_000
const longestPoll = 10_000
/** The more stand before it the less often: all the others who wait do so too. */
const farPoll = ({ ahead: { place } }: Seat): number => Math.min(longestPoll, nearPoll * (1 + place / 100))
const lookPause = 200
const holderKnownFor = 100
const lingering = 5_000
/** For as long as a call may take: an answer to what was asked before comes within that, or not at all. */
const awaitedFor = 2_000
