/** Sends the transactions of many claims in batches. */

import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import type { Operation, Urgency } from "../protocol/operation.ts"
import { type CallFailure, closedFailure, isTooLarge, isUnsent, silentFailure } from "./failure.ts"
import type { Port, Reply } from "./port.ts"

/** An operation with the callbacks of its caller. */
export interface Submission extends Operation {
  /** Called when the operation was sent or waits for the next batch. */
  readonly onQueued?: () => void
  /** Called if the caller was interrupted before the operation was sent. */
  readonly onUnsent?: () => void
  /** Called with the outcome if the caller was interrupted while the operation had no answer yet. */
  readonly onLate?: (outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>) => void
}

/** An operation that waits for a batch, or was sent in one. */
interface BatchMember extends Submission {
  readonly resume: (next: Effect.Effect<Reply<ITxnResponse>, CallFailure>) => void
  isPatient: boolean
  /** When it must have its answer, in milliseconds. `Infinity` until it is sent. */
  until: number
  /** Its caller was interrupted. */
  hasGone: boolean
  /** Its outcome was reported. */
  hasEnded: boolean
  isSent: boolean
  /** It was sent before and had no answer. */
  isDoubled: boolean
  /** It must be sent alone: its operation demands that, or its batch was refused because of one of its members. */
  isAlone: boolean
}

/** A transaction that has no answer yet. */
interface Batch {
  /** When it was sent, in milliseconds. */
  readonly since: number
  readonly members: ReadonlyArray<BatchMember>
  /** The locks from whose queues the batch withdraws claims. */
  readonly withdrawnFrom: ReadonlyArray<string>
  /** The locks into whose queues the batch enters claims. */
  readonly enteredTo: ReadonlyArray<string>
  /** The batch was sent beside the two regular ones: see `takeBeside`. */
  readonly isBeside: boolean
}

/**
 * Sends operations to the server, alone or in batches. At most two transactions are pending at a time. Operations that arrive
 * meanwhile go together in the next transaction, so thousands of operations cost tens of transactions. The limit of an
 * operation counts from its sending, so an operation that waits in a crowd does not fail.
 *
 * The server evaluates all comparisons of a batch before it executes any of its operations. Therefore:
 *
 * - A batch has at most one operation of a claim: a withdrawal would not see an entry in the same batch.
 * - A batch has at most one entry into a queue: two entries would both find the queue empty. An operation about several claims
 *   enters several queues.
 * - Withdrawals come before entries, so an entry does not read the claims that its batch withdraws.
 *
 * Withdrawals from one queue keep their order: each goes after the answer to the previous one, or in the same batch. If the
 * server refuses a batch, the members are sent one by one, because the refusal concerns one of them.
 */
export class RequestBatcher {
  private readonly lanes: Readonly<Record<Urgency, Array<BatchMember>>> = { withdraw: [], look: [], enter: [] }
  private readonly batches = new Set<Batch>()
  private readonly port: Port
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private mostMembers = 60
  /**
   * More than zero while operations are gathered for one batch: some callers submit theirs together, or receive their answers
   * and continue at once.
   */
  private gathering = 0
  private isTimed = false
  /** When patient operations are sent although no other operation goes with them, in milliseconds. */
  private patientUntil = Infinity
  private isPatienceTimed = false
  private hasClosed = false

  constructor(port: Port, now: () => number, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.now = now
    this.fork = fork
  }

  run(operation: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    return Effect.suspend(() => {
      if (this.hasClosed) return Effect.fail(closedFailure)
      const isAlone = this.mayGo() && this.isEmpty() && operation.isPatient !== true && this.isInTurn(operation)
      return this.port.isAway() || (isAlone && operation.onLate === undefined)
        ? this.goAtOnce(operation)
        : this.wait(operation)
    })
  }

  /** Runs effects at the same time. The operations that they submit at once go in one batch. */
  together<A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>): Effect.Effect<ReadonlyArray<A>, E> {
    return Effect.suspend(() => {
      let isGathering = true
      this.gathering++
      const send = Effect.sync(() => {
        if (!isGathering) return
        isGathering = false
        this.gathering--
        this.send()
      })
      // An effect that is run beside others begins at once, so the last one runs when all others have submitted.
      const unbounded = { concurrency: "unbounded" } as const
      const all = Effect.all([Effect.all(effects, unbounded), send], unbounded)
      return Effect.ensuring(Effect.map(all, ([results]) => results), send)
    })
  }

  /** Sends an operation alone and at once. While no host can be reached, each operation waits for one by itself. */
  private goAtOnce(operation: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    const { key, onQueued, urgency } = operation
    const batch = {
      since: this.now(),
      members: [],
      withdrawnFrom: urgency === "withdraw" ? [key] : [],
      enteredTo: urgency === "enter" ? locksOf(operation) : [],
      isBeside: false
    }
    this.batches.add(batch)
    onQueued?.()
    return Effect.ensuring(
      this.ask(operation),
      Effect.sync(() => {
        this.batches.delete(batch)
        this.send()
      })
    )
  }

  private wait(operation: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    return Effect.callback((resume) => {
      const member: BatchMember = {
        ...operation,
        resume,
        isPatient: operation.isPatient === true,
        until: Infinity,
        hasGone: false,
        hasEnded: false,
        isSent: false,
        isDoubled: false,
        isAlone: operation.isAlone === true
      }
      this.lanes[operation.urgency].push(member)
      if (member.isPatient) this.waitPatiently()
      this.send()
      operation.onQueued?.()
      return Effect.sync(() => {
        member.hasGone = true
        if (!member.isSent) operation.onUnsent?.()
      })
    })
  }

  private waitPatiently(): void {
    const now = this.now()
    if (this.patientUntil === Infinity) this.patientUntil = now + patience
    if (this.isPatienceTimed || now >= this.patientUntil) return
    this.isPatienceTimed = true
    this.fork(Effect.delay(
      Effect.sync(() => {
        this.isPatienceTimed = false
        if (this.patientUntil === Infinity) return
        this.send()
        if (this.patientUntil !== Infinity) this.waitPatiently()
      }),
      Math.ceil(this.patientUntil - now)
    ))
  }

  /** Whether an operation waits that must be sent now. */
  private isDue(): boolean {
    const { enter, look, withdraw } = this.lanes
    const isUrgent = look.length + enter.length > 0 || withdraw.some(({ isPatient }) => !isPatient)
    return isUrgent || this.now() >= this.patientUntil
  }

  private get waiting(): number {
    return this.lanes.withdraw.length + this.lanes.look.length + this.lanes.enter.length
  }

  private isEmpty(): boolean {
    return this.waiting === 0
  }

  /**
   * Whether another batch may be sent. Two may be pending: the server executes one while the other travels. Hanging ones do not
   * count.
   */
  private mayGo(): boolean {
    return this.gathering === 0 && this.hasRoom(2, false)
  }

  private hasRoom(most: number, beside: boolean): boolean {
    if (this.batches.size < most) return true
    const young = this.now() - hangsAfter
    let count = 0
    for (const { isBeside, since } of this.batches) if (isBeside === beside && since > young) count++
    return count < most
  }

  private send(): void {
    if (this.port.isAway()) this.disband()
    while (!this.isEmpty() && this.mayGo() && this.isDue()) {
      const before = this.waiting
      const members = this.take()
      if (!this.lanes.withdraw.some(({ isPatient }) => isPatient)) this.patientUntil = Infinity
      if (members.length > 0) this.fork(this.go(members, false))
      // Nothing was taken: the rest waits for an answer. If interrupted operations were dropped, there may be more to take.
      else if (this.waiting === before) break
    }
    while (this.lanes.enter.length > 0 && this.gathering === 0 && this.hasRoom(mostBeside, true)) {
      const members = this.takeBeside()
      if (members.length === 0) break
      this.fork(this.go(members, true))
    }
    if (this.isEmpty() || this.gathering > 0 || this.isTimed) return
    this.isTimed = true
    this.fork(Effect.delay(
      Effect.sync(() => {
        this.isTimed = false
        this.send()
      }),
      Math.ceil(this.nextHangsIn())
    ))
  }

  /** How many milliseconds are left until the next batch counts as hanging. */
  private nextHangsIn(): number {
    const now = this.now()
    let next = now + hangsAfter
    for (const { since } of this.batches) if (since > now - hangsAfter) next = Math.min(next, since + hangsAfter)
    return next - now
  }

  /**
   * Lets each operation wait for a host by itself, so that an operation whose caller is interrupted meanwhile is never sent.
   */
  private disband(): void {
    for (const lane of Object.values(this.lanes)) {
      for (const member of lane.splice(0)) {
        if (member.hasGone) {
          this.giveUp(member)
          continue
        }
        const { isDoubled } = member
        const limit = Math.min(member.limit ?? Infinity, member.until - this.now())
        const asked = Effect.mapBoth(this.ask({ ...member, limit }), {
          onFailure: (failure) => ({ ...failure, notDone: failure.notDone && !isDoubled }),
          onSuccess: (reply) => ({ ...reply, doubled: reply.doubled || isDoubled })
        })
        // From now on the call itself calls `onUnsent` or `onLate` on interruption.
        member.isSent = true
        this.port.telemetry.callBack(() => member.resume(asked))
      }
    }
  }

  /** Ends a waiting operation whose caller was interrupted. The operation may have been sent before. */
  private giveUp(member: BatchMember): void {
    this.end(member, Exit.fail({ ...silentFailure, notDone: !member.isDoubled }))
  }

  /** Sends an operation alone. If the caller is interrupted, `onLate` gets a failure, because the answer is discarded. */
  private ask({ limit, onLate, onUnsent, request }: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    let wasSent = true
    const asked = this.port.txn(request, limit, () => {
      wasSent = false
      onUnsent?.()
    })
    if (onLate === undefined) return asked
    return Effect.onInterrupt(asked, () => Effect.sync(() => void (wasSent && onLate(Exit.fail(silentFailure)))))
  }

  /**
   * Whether the operation keeps the order of withdrawals: no earlier withdrawal from the same queue is pending, hanging ones
   * aside.
   */
  private isInTurn({ key, urgency }: Operation): boolean {
    if (urgency !== "withdraw") return true
    for (const { withdrawnFrom, since } of this.batches) {
      if (since > this.now() - hangsAfter && withdrawnFrom.includes(key)) return false
    }
    return true
  }

  /** Takes the next batch from the waiting operations. */
  private take(): ReadonlyArray<BatchMember> {
    const members: Array<BatchMember> = []
    const claims = new Set<string>()
    const withdrawnFrom = new Set<string>()
    const enteredTo = new Set<string>()
    let largest = 0
    for (const lane of [this.lanes.withdraw, this.lanes.look, this.lanes.enter]) {
      const later: Array<BatchMember> = []
      for (const member of lane.splice(0, this.mostMembers - members.length)) {
        if (member.hasGone) {
          this.giveUp(member)
          continue
        }
        const { key, isAlone, needsEmpty, size = 0, urgency } = member
        const isApart = isAlone ? members.length > 0 : members[0]?.isAlone === true
        const locks = locksOf(member)
        const isSecond = urgency === "enter" &&
          locks.some((lock) => enteredTo.has(lock) || (needsEmpty === true && withdrawnFrom.has(lock)))
        const isTooMuch = members.length > 0 && members.length + 1 + Math.max(size, largest) > mostOperations
        if (
          isApart || isSecond || isTooMuch || claimsOf(member).some((id) => claims.has(id)) || !this.isInTurn(member)
        ) {
          later.push(member)
          continue
        }
        members.push(member)
        largest = Math.max(largest, size)
        for (const id of claimsOf(member)) claims.add(id)
        if (urgency === "withdraw") withdrawnFrom.add(key)
        else if (urgency === "enter") { for (const lock of locks) enteredTo.add(lock) }
      }
      lane.unshift(...later)
    }
    return members
  }

  /**
   * Takes entries for queues into which a pending batch already enters a claim. They could not go in that batch. They are sent
   * beside it so that the claims of one process get adjacent places, and not each a place behind one of every other process.
   */
  private takeBeside(): ReadonlyArray<BatchMember> {
    const others = new Set<string>()
    for (const { enteredTo } of this.batches) for (const key of enteredTo) others.add(key)
    const entering = new Set<string>()
    const claims = new Set<string>()
    const near = this.lanes.enter.slice(0, mostSought)
    const members: Array<BatchMember> = []
    const later: Array<BatchMember> = []
    for (const member of near) {
      const { claim, key, hasGone, isAlone } = member
      // Claims that enter several queues go in turn, so none of their queues has a pending entry.
      const isOfOne = member.others === undefined
      const mayGo = isOfOne && others.has(key) && !entering.has(key) && !claims.has(claim) &&
        members.length < this.mostMembers
      if (!mayGo || hasGone || isAlone) later.push(member)
      else {
        members.push(member)
        entering.add(key)
        claims.add(claim)
      }
    }
    if (members.length > 0) this.lanes.enter.splice(0, near.length, ...later)
    return members
  }

  private go(members: ReadonlyArray<BatchMember>, isBeside: boolean): Effect.Effect<void> {
    const withdrawnFrom = members.flatMap(({ key, urgency }) => urgency === "withdraw" ? key : [])
    const enteredTo = members.flatMap((member) => member.urgency === "enter" ? locksOf(member) : [])
    const batch = { since: this.now(), members, withdrawnFrom, enteredTo, isBeside }
    this.batches.add(batch)
    let limit = Infinity
    for (const member of members) {
      member.isSent = true
      if (member.until === Infinity) member.until = batch.since + Math.min(member.limit ?? Infinity, this.port.longest)
      limit = Math.min(limit, member.until - batch.since)
    }
    const [first] = members
    const request = members.length === 1 ? first!.request : inOneTransaction(members)
    return Effect.map(Effect.exit(this.port.txn(request, limit)), (exit) => {
      this.batches.delete(batch)
      this.gathering++
      if (Exit.isSuccess(exit)) this.tell(members, exit.value)
      else {
        const [reason] = exit.cause.reasons
        this.retryOrFail(members, reason?._tag === "Fail" ? reason.error : closedFailure)
      }
      this.gathering--
      this.send()
    })
  }

  private tell(members: ReadonlyArray<BatchMember>, { doubled, sentAt, value }: Reply<ITxnResponse>): void {
    const { header, responses } = value
    members.forEach((member, index) => {
      const { response_txn } = (responses[index] ?? {}) as { readonly response_txn?: ITxnResponse }
      const own = members.length === 1 ? value : { ...response_txn!, header }
      this.end(member, Exit.succeed({ doubled: doubled || member.isDoubled, sentAt, value: own }))
    })
  }

  private retryOrFail(members: ReadonlyArray<BatchMember>, failure: CallFailure): void {
    const hasClosed = failure.cause === closedFailure.cause
    const isRefused = failure.leaseGone || (failure.notDone && !hasClosed && !isUnsent(failure.cause))
    if (members.length > 1 && isTooLarge(failure.cause)) {
      this.mostMembers = Math.min(this.mostMembers, members.length) >> 1
    }
    const now = this.now()
    for (const member of members) {
      const isOver = members.length === 1 || hasClosed || member.hasGone || member.until < now + leastLeft
      const mayGoOn = isRefused || !failure.notDone
      if (!failure.notDone) member.isDoubled = true
      if (!mayGoOn || isOver) {
        this.end(member, Exit.fail({ ...failure, notDone: failure.notDone && !member.isDoubled }))
        continue
      }
      if (isRefused) member.isAlone = true
      member.isPatient = false
      this.lanes[member.urgency].push(member)
    }
  }

  private end(member: BatchMember, outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>): void {
    if (member.hasEnded) return
    member.hasEnded = true
    if (!member.hasGone) this.port.telemetry.callBack(() => member.resume(outcome))
    else if (member.isSent) member.onLate?.(outcome)
  }

  /** Fails all operations that wait or have no answer. */
  close(): void {
    this.hasClosed = true
    for (const { members } of this.batches) {
      for (const member of members) this.end(member, Exit.fail({ ...closedFailure, notDone: false }))
    }
    for (const lane of Object.values(this.lanes)) {
      for (const member of lane.splice(0)) this.end(member, Exit.fail({ ...closedFailure, notDone: !member.isDoubled }))
    }
  }
}

const locksOf = ({ key, others }: Operation): ReadonlyArray<string> =>
  others === undefined ? [key] : [key, ...others.map(({ key }) => key)]

const claimsOf = ({ claim, others }: Operation): ReadonlyArray<string> =>
  others === undefined ? [claim] : [claim, ...others.map(({ claim }) => claim)]

const inOneTransaction = (members: ReadonlyArray<BatchMember>): ITxnRequest => ({
  success: members.map(({ request }) => ({ request_txn: request }) as IRequestOp)
})

/** How many operations a server allows in a transaction by default, the largest one inside it included. */
const mostOperations = 128

// Times in milliseconds.

/** A batch that has had no answer for this long counts as hanging. */
const hangsAfter = 250
/** How long a patient operation waits for other operations. */
const patience = 1

/** How many batches are sent beside the two regular ones. Together they are as many as `AskingOrder` allows for one key. */
const mostBeside = 14
/** How many waiting operations `takeBeside` searches: thousands may wait, for as many locks. */
const mostSought = 256
/** If less time is left, an operation is not sent again. */
const leastLeft = 50
