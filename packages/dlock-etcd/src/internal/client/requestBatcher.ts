/** Sends the transactions of many claims together. */

import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import type { Operation, Urgency } from "../protocol/operation.ts"
import { type CallFailure, closedFailure, isTooLarge, isUnsent, silentFailure } from "./failure.ts"
import type { Port, Reply } from "./port.ts"

/** An operation as its caller hands it over, with what the caller wants to hear of it. */
export interface Submission extends Operation {
  /** Called when it is on its way, or among those that go next. */
  readonly onQueued?: () => void
  /** Called when the caller was interrupted before anything was sent. */
  readonly onUnsent?: () => void
  /** Called with the outcome when the caller was interrupted while it was under way. */
  readonly onLate?: (outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>) => void
}

/** An operation that waits, or is under way in a batch. */
interface BatchMember extends Submission {
  readonly resume: (next: Effect.Effect<Reply<ITxnResponse>, CallFailure>) => void
  isPatient: boolean
  /** By when it must have an answer, once it has been sent. */
  until: number
  hasGone: boolean
  hasEnded: boolean
  isSent: boolean
  /** It was sent before, and had no answer to that. */
  isDoubled: boolean
  /** Its operation says so, or it was in a batch that was refused: the refusal was meant for one of that. */
  isAlone: boolean
}

interface Batch {
  readonly since: number
  readonly members: ReadonlyArray<BatchMember>
  /** The keys from whose queues claims are withdrawn with it. */
  readonly withdrawnFrom: ReadonlyArray<string>
  /** The keys whose queues claims enter with it. */
  readonly enteredTo: ReadonlyArray<string>
  /** It was sent beside the others: see `takeBeside`. */
  readonly isBeside: boolean
}

/**
 * Sends operations to the server, alone or in batches. Two transactions are under way at a time, and operations that come
 * meanwhile go together in the next one, so that thousands at once cost tens of transactions. A limit counts from the
 * sending: what waits in a crowd does not fail.
 *
 * The server compares all of a batch before it does any of it. So a batch has one operation of a claim, since a withdrawal
 * would not see its own entry, and one entry to a queue, since two would both find it empty. Withdrawals come before entries,
 * so what an entry reads lacks the claims that were withdrawn with it. Withdrawals from one queue go in their order: each after
 * the answer to the one before, or together with it. Where the server refuses a batch, its members go one by one: one of them
 * was meant.
 */
export class RequestBatcher {
  private readonly lanes: Readonly<Record<Urgency, Array<BatchMember>>> = { withdraw: [], look: [], enter: [] }
  private readonly batches = new Set<Batch>()
  private readonly port: Port
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private mostMembers = 60
  /** Callers are being told of answers. They go on at once, and what they ask next is to go together. */
  private isTelling = false
  private isTimed = false
  /** When patient operations go without waiting for others. */
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

  /** Sends an operation alone. While there is no connection, each operation waits for one by itself. */
  private goAtOnce(operation: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    const { key, onQueued, urgency } = operation
    const batch = {
      since: this.now(),
      members: [],
      withdrawnFrom: urgency === "withdraw" ? [key] : [],
      enteredTo: urgency === "enter" ? [key] : [],
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

  /** Is anything waiting that may not wait for others? */
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

  /** Two at a time: the server works at one while the other is on its way. One that hangs does not count. */
  private mayGo(): boolean {
    return !this.isTelling && this.hasRoom(2, false)
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
      // What is left waits for an answer, unless the callers of all that were taken had gone: others are behind those.
      else if (this.waiting === before) break
    }
    while (this.lanes.enter.length > 0 && !this.isTelling && this.hasRoom(mostBeside, true)) {
      const members = this.takeBeside()
      if (members.length === 0) break
      this.fork(this.go(members, true))
    }
    if (this.isEmpty() || this.isTelling || this.isTimed) return
    this.isTimed = true
    this.fork(Effect.delay(
      Effect.sync(() => {
        this.isTimed = false
        this.send()
      }),
      Math.ceil(this.nextHangsIn())
    ))
  }

  /** After how many milliseconds the next batch counts as hanging. */
  private nextHangsIn(): number {
    const now = this.now()
    let next = now + hangsAfter
    for (const { since } of this.batches) if (since > now - hangsAfter) next = Math.min(next, since + hangsAfter)
    return next - now
  }

  /** Lets each operation wait for a connection by itself, so that one whose caller goes meanwhile is never sent. */
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
        // From now on the call itself tells a caller that is interrupted.
        member.isSent = true
        this.port.telemetry.callBack(() => member.resume(asked))
      }
    }
  }

  /** Ends an operation whose caller has gone while it waited, for the first time or to be sent once more. */
  private giveUp(member: BatchMember): void {
    this.end(member, Exit.fail({ ...silentFailure, notDone: !member.isDoubled }))
  }

  /** Sends an operation by itself. Where the caller goes meanwhile, the answer is not heard. */
  private ask({ limit, onLate, onUnsent, request }: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    let wasSent = true
    const asked = this.port.txn(request, limit, () => {
      wasSent = false
      onUnsent?.()
    })
    if (onLate === undefined) return asked
    return Effect.onInterrupt(asked, () => Effect.sync(() => void (wasSent && onLate(Exit.fail(silentFailure)))))
  }

  /** Is no withdrawal from the same queue under way before it, but for what hangs? */
  private isInTurn({ key, urgency }: Operation): boolean {
    if (urgency !== "withdraw") return true
    for (const { withdrawnFrom, since } of this.batches) {
      if (since > this.now() - hangsAfter && withdrawnFrom.includes(key)) return false
    }
    return true
  }

  /** Takes the next batch out of what waits. */
  private take(): ReadonlyArray<BatchMember> {
    const members: Array<BatchMember> = []
    const claims = new Set<string>()
    const withdrawnFrom = new Set<string>()
    const enteredTo = new Set<string>()
    for (const lane of [this.lanes.withdraw, this.lanes.look, this.lanes.enter]) {
      const later: Array<BatchMember> = []
      for (const member of lane.splice(0, this.mostMembers - members.length)) {
        if (member.hasGone) {
          this.giveUp(member)
          continue
        }
        const { claim, key, isAlone, needsEmpty, urgency } = member
        const isApart = isAlone ? members.length > 0 : members[0]?.isAlone === true
        const isSecond = urgency === "enter" && (enteredTo.has(key) || (needsEmpty === true && withdrawnFrom.has(key)))
        if (isApart || isSecond || claims.has(claim) || !this.isInTurn(member)) {
          later.push(member)
          continue
        }
        members.push(member)
        claims.add(claim)
        if (urgency === "withdraw") withdrawnFrom.add(key)
        else if (urgency === "enter") enteredTo.add(key)
      }
      lane.unshift(...later)
    }
    return members
  }

  /**
   * Takes more entries to queues that others are on their way to. These could not go together with those, and the claims of a
   * process with many for one lock are to stand side by side, not each behind one of every other process.
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
      const mayGo = others.has(key) && !entering.has(key) && !claims.has(claim) &&
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
    const enteredTo = members.flatMap(({ key, urgency }) => urgency === "enter" ? key : [])
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
      this.isTelling = true
      if (Exit.isSuccess(exit)) this.tell(members, exit.value)
      else {
        const [reason] = exit.cause.reasons
        this.retryOrFail(members, reason?._tag === "Fail" ? reason.error : closedFailure)
      }
      this.isTelling = false
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

  /** Fails all that waits or is under way. */
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

const inOneTransaction = (members: ReadonlyArray<BatchMember>): ITxnRequest => ({
  success: members.map(({ request }) => ({ request_txn: request }) as IRequestOp)
})

/** Milliseconds. */
const hangsAfter = 250
/** For how long a patient operation waits for others to go with. */
const patience = 1

/** With the two others these are as many as may ask for one key at a time, see `AskingOrder`. */
const mostBeside = 14
/** How many waiting operations are searched: thousands may wait, for as many locks. */
const mostSought = 256
/** With less time left an operation is not sent again. */
const leastLeft = 50
