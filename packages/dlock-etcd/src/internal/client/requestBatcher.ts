import { callBack } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import type { Operation, Urgency } from "../protocol/operation.ts"
import { type CallFailure, closedFailure, isTooLarge, isUnsent, silentFailure } from "./failure.ts"
import type { Port, Reply } from "./port.ts"

/** An operation as its caller hands it over, with what the caller wants to hear of it. */
export interface Submission extends Operation {
  /** It is on its way, or has its place among those that go next. */
  readonly onQueued?: () => void
  /** Whoever asked has gone before anything was sent. */
  readonly onUnsent?: () => void
  /** Whoever asked has gone while it was under way, and this is what became of it. */
  readonly onLate?: (outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>) => void
}

/** An operation that waits, or is under way together with others. */
interface Member extends Submission {
  readonly resume: (next: Effect.Effect<Reply<ITxnResponse>, CallFailure>) => void
  isPatient: boolean
  /** When its time is over, once it has been sent. */
  until: number
  hasGone: boolean
  hasEnded: boolean
  isSent: boolean
  /** It was sent before, and nothing was heard of that. */
  isDoubled: boolean
  /** By its operation, or since it was refused together with others: one of them was meant. */
  isAlone: boolean
}

interface Flight {
  readonly since: number
  readonly members: ReadonlyArray<Member>
  /** The queues that claims leave with it. */
  readonly left: ReadonlyArray<string>
  /** The queues that claims enter with it. */
  readonly entered: ReadonlyArray<string>
  /** It goes beside the others: see `takeBeside`. */
  readonly isBeside: boolean
}

/**
 * What is under way to the server, and behind it what waits. What comes while two transactions are under way goes together
 * in the next one, so that thousands at once cost tens of transactions. A limit counts from the sending: what waits in a
 * crowd does not fail.
 *
 * The server compares all of a batch before it does any of it. So there is one of a claim in it, since a withdrawal would not
 * see its own acquire, and one that puts in a queue, since two would both find it empty. It leaves before it enters: who
 * enters sees who has left. Leaves of one queue go in their order: the next after the answer to the one before, or together
 * with it. Where the server refuses a batch its members go one by one: the refusal is of one of them.
 */
export class Outgoing {
  private readonly lanes: Readonly<Record<Urgency, Array<Member>>> = { leave: [], look: [], enter: [] }
  private readonly flights = new Set<Flight>()
  private readonly port: Port
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private mostMembers = 60
  /** Those who are told go on at once, and what they ask goes together. */
  private isTelling = false
  private isTimed = false
  /** When those who are patient go by themselves. */
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

  /** Without anybody to wait for, or to go with. While there is no connection each waits for one by itself. */
  private goAtOnce(operation: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    const { folder, onQueued, urgency } = operation
    const flight = {
      since: this.now(),
      members: [],
      left: urgency === "leave" ? [folder] : [],
      entered: urgency === "enter" ? [folder] : [],
      isBeside: false
    }
    this.flights.add(flight)
    onQueued?.()
    return Effect.ensuring(
      this.ask(operation),
      Effect.sync(() => {
        this.flights.delete(flight)
        this.send()
      })
    )
  }

  private wait(operation: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    return Effect.callback((resume) => {
      const member: Member = {
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

  /** Not for those alone who can wait. */
  private isDue(): boolean {
    const { enter, leave, look } = this.lanes
    const isUrgent = look.length + enter.length > 0 || leave.some(({ isPatient }) => !isPatient)
    return isUrgent || this.now() >= this.patientUntil
  }

  private get waiting(): number {
    return this.lanes.leave.length + this.lanes.look.length + this.lanes.enter.length
  }

  private isEmpty(): boolean {
    return this.waiting === 0
  }

  /** Two at a time: the server works at one while the other is on its way. One that hangs holds nobody up. */
  private mayGo(): boolean {
    return !this.isTelling && this.hasRoom(2, false)
  }

  private hasRoom(most: number, beside: boolean): boolean {
    if (this.flights.size < most) return true
    const young = this.now() - hangsAfter
    let count = 0
    for (const { isBeside, since } of this.flights) if (isBeside === beside && since > young) count++
    return count < most
  }

  private send(): void {
    if (this.port.isAway()) this.disband()
    while (!this.isEmpty() && this.mayGo() && this.isDue()) {
      const before = this.waiting
      const members = this.take()
      if (!this.lanes.leave.some(({ isPatient }) => isPatient)) this.patientUntil = Infinity
      if (members.length > 0) this.fork(this.go(members, false))
      // Those who are left wait for an answer, unless all who were looked at had gone: others are behind those.
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

  /** When the next of those under way is no longer waited for. */
  private nextHangsIn(): number {
    const now = this.now()
    let next = now + hangsAfter
    for (const { since } of this.flights) if (since > now - hangsAfter) next = Math.min(next, since + hangsAfter)
    return next - now
  }

  /** Whoever goes away meanwhile is not to be sent when there is a connection again: each waits by itself. */
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
        // Whoever goes from now on is told by that.
        member.isSent = true
        callBack(() => member.resume(asked))
      }
    }
  }

  /** Its caller has gone while it waited, for the first time or to be sent once more. */
  private giveUp(member: Member): void {
    this.end(member, Exit.fail({ ...silentFailure, notDone: !member.isDoubled }))
  }

  /** By itself: whoever goes meanwhile hears of no answer. */
  private ask({ limit, onLate, onUnsent, request }: Submission): Effect.Effect<Reply<ITxnResponse>, CallFailure> {
    let wasSent = true
    const asked = this.port.txn(request, limit, () => {
      wasSent = false
      onUnsent?.()
    })
    if (onLate === undefined) return asked
    return Effect.onInterrupt(asked, () => Effect.sync(() => void (wasSent && onLate(Exit.fail(silentFailure)))))
  }

  /** Nobody who leaves the same queue is under way before it, but for what hangs. */
  private isInTurn({ folder, urgency }: Operation): boolean {
    if (urgency !== "leave") return true
    for (const { left, since } of this.flights) {
      if (since > this.now() - hangsAfter && left.includes(folder)) return false
    }
    return true
  }

  /** The next batch. */
  private take(): ReadonlyArray<Member> {
    const members: Array<Member> = []
    const claims = new Set<string>()
    const left = new Set<string>()
    const entered = new Set<string>()
    for (const lane of [this.lanes.leave, this.lanes.look, this.lanes.enter]) {
      const later: Array<Member> = []
      for (const member of lane.splice(0, this.mostMembers - members.length)) {
        if (member.hasGone) {
          this.giveUp(member)
          continue
        }
        const { claim, folder, isAlone, needsEmpty, urgency } = member
        const isApart = isAlone ? members.length > 0 : members[0]?.isAlone === true
        const isSecond = urgency === "enter" && (entered.has(folder) || (needsEmpty === true && left.has(folder)))
        if (isApart || isSecond || claims.has(claim) || !this.isInTurn(member)) {
          later.push(member)
          continue
        }
        members.push(member)
        claims.add(claim)
        if (urgency === "leave") left.add(folder)
        else if (urgency === "enter") entered.add(folder)
      }
      lane.unshift(...later)
    }
    return members
  }

  /**
   * More for queues that others are on their way to. These could not go together with those, and a process with many who ask
   * for one lock is to have them stand together, not each behind one of every other process.
   */
  private takeBeside(): ReadonlyArray<Member> {
    const others = new Set<string>()
    for (const { entered } of this.flights) for (const folder of entered) others.add(folder)
    const entering = new Set<string>()
    const claims = new Set<string>()
    const near = this.lanes.enter.slice(0, mostSought)
    const members: Array<Member> = []
    const later: Array<Member> = []
    for (const member of near) {
      const { claim, folder, hasGone, isAlone } = member
      const mayGo = others.has(folder) && !entering.has(folder) && !claims.has(claim) &&
        members.length < this.mostMembers
      if (!mayGo || hasGone || isAlone) later.push(member)
      else {
        members.push(member)
        entering.add(folder)
        claims.add(claim)
      }
    }
    if (members.length > 0) this.lanes.enter.splice(0, near.length, ...later)
    return members
  }

  private go(members: ReadonlyArray<Member>, isBeside: boolean): Effect.Effect<void> {
    const left = members.flatMap(({ folder, urgency }) => urgency === "leave" ? folder : [])
    const entered = members.flatMap(({ folder, urgency }) => urgency === "enter" ? folder : [])
    const flight = { since: this.now(), members, left, entered, isBeside }
    this.flights.add(flight)
    let limit = Infinity
    for (const member of members) {
      member.isSent = true
      if (member.until === Infinity) member.until = flight.since + Math.min(member.limit ?? Infinity, this.port.longest)
      limit = Math.min(limit, member.until - flight.since)
    }
    const [first] = members
    const request = members.length === 1 ? first!.request : together(members)
    return Effect.map(Effect.exit(this.port.txn(request, limit)), (exit) => {
      this.flights.delete(flight)
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

  private tell(members: ReadonlyArray<Member>, { doubled, sentAt, value }: Reply<ITxnResponse>): void {
    const { header, responses } = value
    members.forEach((member, index) => {
      const { response_txn } = (responses[index] ?? {}) as { readonly response_txn?: ITxnResponse }
      const own = members.length === 1 ? value : { ...response_txn!, header }
      this.end(member, Exit.succeed({ doubled: doubled || member.isDoubled, sentAt, value: own }))
    })
  }

  private retryOrFail(members: ReadonlyArray<Member>, failure: CallFailure): void {
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

  private end(member: Member, outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>): void {
    if (member.hasEnded) return
    member.hasEnded = true
    if (!member.hasGone) callBack(() => member.resume(outcome))
    else if (member.isSent) member.onLate?.(outcome)
  }

  /** Nobody waits for them any more. */
  close(): void {
    this.hasClosed = true
    for (const { members } of this.flights) {
      for (const member of members) this.end(member, Exit.fail({ ...closedFailure, notDone: false }))
    }
    for (const lane of Object.values(this.lanes)) {
      for (const member of lane.splice(0)) this.end(member, Exit.fail({ ...closedFailure, notDone: !member.isDoubled }))
    }
  }
}

const together = (members: ReadonlyArray<Member>): ITxnRequest => ({
  success: members.map(({ request }) => ({ request_txn: request }) as IRequestOp)
})

/** Milliseconds. */
const hangsAfter = 250
/** For as long who is patient waits for others to go with. */
const patience = 1

/** With the two others these are as many as may ask for one queue at a time, see `Line`. */
const mostBeside = 14
/** Among the first of those that wait: thousands may, for as many locks. */
const mostSought = 256
/** Below this nothing is sent once more. */
const leastLeft = 50
