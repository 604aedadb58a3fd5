import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import {
  type AcquireError,
  CapacityMismatch,
  type InvalidLockRequest,
  LockAlreadyHeld,
  type LockBackendError,
  LockTimeout
} from "../LockError.ts"
import {
  type Ahead,
  type Answer,
  type Claim,
  type Gone,
  type Granted,
  isExclusive,
  type LockStore,
  type Queued,
  type Withdrawn
} from "../LockStore.ts"
import { fullQueue, type Further, type Reply, type Requests } from "./acquire.ts"
import type { Awaited } from "./deadlock.ts"
import type { HeldLease } from "./lease/heldLease.ts"
import type { Withdrawals } from "./lease/release.ts"
import { about } from "./options/request.ts"
import { fromNanos, type Time } from "./scheduling/time.ts"
import { callBack } from "./telemetry/callBack.ts"
import type { Events } from "./telemetry/events.ts"
import { outcomeOf } from "./telemetry/meters.ts"

/** One of several locks that are acquired together. */
export interface Wanted {
  /** The key as the caller gave it. */
  readonly key: string
  /** The name of the lock at the backend. */
  readonly name: string
  /** Makes a claim with a new id. */
  readonly claim: () => Claim
}

/** What the acquisition of several locks needs from its locker. */
export interface SeveralContext {
  readonly store: Pick<LockStore["Service"], "request" | "requestAll" | "groupOf" | "heardAt">
  readonly time: Time
  readonly events: Events
  readonly withdrawals: Withdrawals
  /** Why no lock may be granted any more. `undefined` while the locker is open. */
  readonly closed: () => LockBackendError | undefined
  /** Makes the lease of a granted claim and starts its renewal. `onLost` is called if it is lost before it is handed over. */
  readonly hold: (
    wanted: Wanted,
    claim: Claim,
    granted: Granted,
    wallClockLead: number,
    onLost: () => void
  ) => HeldLease
  /** Ends the renewal of a lease that is given up. */
  readonly drop: (lease: HeldLease) => void
}

/** One lock in an attempt to acquire all of them. */
interface Member {
  readonly wanted: Wanted
  readonly claim: Claim
  isAsked: boolean
  /** Whether it came when few enough waited. */
  isPlaced: boolean
  /** Its place in the queue. */
  queued: Queued | undefined
  /** Absent until it is granted. It is renewed while the others are awaited. */
  lease: HeldLease | undefined
}

/** One attempt. If one of its claims is lost, all are given up, and the next attempt begins with new claims. */
interface Attempt {
  /** The id under which it is asked for. */
  readonly id: string
  readonly members: ReadonlyArray<Member>
  /** The claims that are requested together, one group after the other. */
  readonly groups: ReadonlyArray<ReadonlyArray<Member>>
  /** Fails when a lease is lost. */
  readonly broken: Deferred.Deferred<never, Broken>
}

/** The attempt cannot succeed any more. */
class Broken {
  readonly error: LockBackendError | undefined
  constructor(error?: LockBackendError) {
    this.error = error
  }
}

/**
 * Several locks that `acquire` asks for as if they were one claim.
 *
 * All claims of a group are requested at one instant. So of two callers, the same one is first in each queue that they
 * share, whoever waits for whom waits for an earlier one, and nobody waits for itself. The next group is requested when
 * all claims of the one before are held. Every caller goes through the groups in the same order, so callers that share
 * several groups cannot wait for each other either.
 *
 * That holds only if no claim is treated apart from the rest. If one is lost before all are held, all are withdrawn and
 * requested anew.
 */
export class Several implements Requests, Pick<Withdrawals, "before" | "giveUp"> {
  private readonly context: SeveralContext
  private readonly wanted: ReadonlyArray<Wanted>
  /** How many more locks the caller wants and already has. */
  private readonly had: number
  private attempt: Attempt | undefined
  /** The lock to which the latest answer belongs that ended an attempt. */
  private refused: Member | undefined
  /** What was still missing when the last attempt was given up. */
  private missing: { readonly member: Member; readonly acquired: number } | undefined

  constructor(context: SeveralContext, wanted: ReadonlyArray<Wanted>, had: number) {
    this.context = context
    this.wanted = wanted
    this.had = had
  }

  /** Requests the next group under the claim's id. Under a new id, all claims are new. */
  readonly request = ({ id }: Claim, mode: "queue" | "try"): Effect.Effect<Reply, LockBackendError> =>
    Effect.suspend(() => {
      const attempt = this.attempt?.id === id ? this.attempt : this.begin(id)
      const closed = this.context.closed()
      if (closed !== undefined) return Effect.andThen(this.abandon(attempt, leeway), Effect.fail(closed))
      if (!this.isWhole(attempt)) return this.startAnew(attempt, new Broken())
      const group = attempt.groups.find((members) => members.some(({ lease }) => lease === undefined))
      return group === undefined ? Effect.succeed(this.granted(attempt)) : this.ask(attempt, group, mode)
    })

  readonly isMeasured = true

  readonly heardAt = (_claim: Claim): bigint | undefined => {
    const next = this.attempt && this.firstMissing(this.attempt)
    return this.context.store.heardAt?.(next?.claim ?? this.wanted[0]!.claim())
  }

  readonly before = (_key: string): Effect.Effect<void> | undefined => {
    const { withdrawals } = this.context
    const all = this.wanted.flatMap(({ name }) => withdrawals.before(name) ?? [])
    return all.length === 0 ? undefined : Effect.all(all, { concurrency: "unbounded", discard: true })
  }

  readonly giveUp = (_claim: Claim, millis: number): Effect.Effect<Withdrawn | undefined> =>
    Effect.suspend(() => this.attempt === undefined ? Effect.undefined : this.abandon(this.attempt, millis))

  /** The locks that are there, and those that are waited for. */
  parts(): { readonly held: ReadonlyArray<HeldLease>; readonly waiting: ReadonlyArray<Awaited> } {
    const { members } = this.attempt ?? { members: [] }
    return {
      held: members.flatMap(({ lease }) => lease ?? []),
      waiting: members.flatMap(({ claim, lease, queued }) =>
        lease === undefined && queued !== undefined ? { claim, ahead: queued.ahead } : []
      )
    }
  }

  /** The key of the lock that was in the way when a request was refused. */
  get refusedKey(): string | undefined {
    return this.refused?.wanted.key
  }

  /** Whether all locks are there and still held. */
  isHeld(): boolean {
    return this.attempt !== undefined && this.isWhole(this.attempt)
  }

  /** The leases, in the order of the locks. Call it once all are granted. From then on they belong to the caller. */
  takeLeases(): ReadonlyArray<HeldLease> {
    const { members } = this.attempt!
    this.attempt = undefined
    return members.map(({ lease }) => lease!)
  }

  /** Names the lock that an error is about. */
  explain<E extends Exclude<AcquireError, InvalidLockRequest>>(error: E): Exclude<AcquireError, InvalidLockRequest> {
    if (error instanceof LockTimeout) {
      return ofSeveral(error, {
        key: (error.maxQueue === undefined ? this.missing?.member : this.refused)?.wanted.key ?? error.key,
        acquired: this.had + (this.missing?.acquired ?? 0),
        wanted: this.had + this.wanted.length
      })
    }
    const { claim, wanted: { key } } = this.refused ?? this.missing?.member ?? { wanted: error, claim: undefined }
    if (key === undefined) return error
    if (error instanceof LockAlreadyHeld) return new LockAlreadyHeld({ key, fencingToken: error.fencingToken })
    if (error instanceof CapacityMismatch) {
      const { inUse, kind } = error
      return new CapacityMismatch({ key, requested: claim?.capacity ?? error.requested, inUse, kind })
    }
    return about(key)(error)
  }

  private begin(id: string): Attempt {
    const members = this.wanted.map((wanted): Member => ({
      wanted,
      claim: wanted.claim(),
      isAsked: false,
      isPlaced: false,
      queued: undefined,
      lease: undefined
    }))
    this.refused = undefined
    return this.attempt = { id, members, groups: this.groupsOf(members), broken: Deferred.makeUnsafe() }
  }

  private groupsOf(members: ReadonlyArray<Member>): ReadonlyArray<ReadonlyArray<Member>> {
    const { groupOf, requestAll } = this.context.store
    // A store that cannot request claims at one instant gets them in one order, which is the same for all its clients.
    if (requestAll === undefined) {
      return members.toSorted((a, b) => a.claim.key < b.claim.key ? -1 : 1).map((member) => [member])
    }
    if (groupOf === undefined) return [members]
    const groups = Map.groupBy(members, ({ claim }) => groupOf(claim))
    return Array.from(groups).toSorted(([a], [b]) => a - b).map(([, group]) => group)
  }

  private ask(
    attempt: Attempt,
    group: ReadonlyArray<Member>,
    mode: "queue" | "try"
  ): Effect.Effect<Reply, LockBackendError> {
    const { events, store, time } = this.context
    const sentAt = time.now()
    const wallClockLead = time.wallClockLead(sentAt)
    for (const member of group) {
      member.isAsked = true
      member.queued = undefined
    }
    const claims = group.map(({ claim }) => claim)
    const [first] = claims
    const asked: Effect.Effect<ReadonlyArray<Answer>, LockBackendError> = claims.length === 1
      ? Effect.map(store.request(first!, mode), (answer) => [answer])
      : store.requestAll!(claims, mode)
    const measured = Effect.onExit(
      asked,
      (exit) =>
        Effect.sync(() =>
          events.called("acquire", time.now() - sentAt, Exit.isSuccess(exit) ? "answered" : outcomeOf(exit.cause))
        )
    )
    return Effect.flatMap(measured, (answers) => this.take(attempt, group, answers, wallClockLead))
  }

  private take(
    attempt: Attempt,
    group: ReadonlyArray<Member>,
    answers: ReadonlyArray<Answer>,
    wallClockLead: number
  ): Effect.Effect<Reply, LockBackendError> {
    // The caller may have given up while the answer was on its way.
    if (this.attempt !== attempt) return Effect.succeed({ _tag: "Gone" })
    let refusal: Answer | undefined
    let isWithStore = false
    group.forEach((member, index) => {
      const given = answers[index] ?? gone
      const full = given._tag === "Queued" && !member.isPlaced ? fullQueue(member.claim, given) : undefined
      const answer = full ?? given
      // A store that does not count lets all claims of the group wait.
      isWithStore = isWithStore || full !== undefined
      if ("capacityInUse" in answer && answer.capacityInUse !== undefined) {
        this.context.events.capacityDiffers(member.wanted.key, member.claim.capacity, answer.capacityInUse)
      }
      if (answer._tag === "Granted") this.takeGrant(attempt, member, answer, wallClockLead)
      else if (answer._tag === "Queued") {
        member.queued = answer
        member.isPlaced = true
      } // The others are `Gone` because of the one that was refused.
      else if (refusal === undefined || refusal._tag === "Gone") {
        refusal = answer
        this.refused = member
      }
    })
    if (refusal !== undefined) {
      const ended = refusal
      if (ended._tag === "Gone") return this.startAnew(attempt, new Broken(ended.error))
      // The store keeps nothing of a group that it refuses, so there is nothing to withdraw but the groups before it.
      if (!isWithStore) { for (const member of group) member.isAsked = member.lease !== undefined }
      return Effect.as(this.abandon(attempt, leeway), ended)
    }
    const waiting = group.filter(({ lease, queued }) => lease === undefined && queued !== undefined)
    const [next] = waiting
    if (next === undefined) return Effect.succeed(this.soFar(attempt))
    return Effect.succeed({
      _tag: "Queued",
      key: next.wanted.key,
      isExclusive: isExclusive(next.claim),
      place: next.queued!.place,
      ahead: () => this.ahead(next),
      granted: this.wait(attempt, waiting, wallClockLead)
    })
  }

  /** Waits for all these claims. If one is lost, or a lease is, all claims are given up. */
  private wait(
    attempt: Attempt,
    waiting: ReadonlyArray<Member>,
    wallClockLead: number
  ): Effect.Effect<Granted | Gone | Further, LockBackendError> {
    const all = Effect.forEach(
      waiting,
      (member) =>
        Effect.flatMap(member.queued!.granted, (answer): Effect.Effect<void, Broken> => {
          if (answer._tag === "Gone") return Effect.fail(new Broken(answer.error))
          if (this.attempt === attempt) this.takeGrant(attempt, member, answer, wallClockLead)
          return Effect.void
        }),
      { concurrency: "unbounded", discard: true }
    )
    return Effect.raceFirst(all, Deferred.await(attempt.broken)).pipe(
      Effect.matchEffect({
        onSuccess: () => Effect.succeed(this.soFar(attempt)),
        onFailure: (failure) => failure instanceof Broken ? this.startAnew(attempt, failure) : Effect.fail(failure)
      })
    )
  }

  private takeGrant(attempt: Attempt, member: Member, granted: Granted, wallClockLead: number): void {
    const { events, hold, time } = this.context
    if (member.lease !== undefined) {
      member.lease.confirm(fromNanos(granted.confirmedAt), wallClockLead)
      return
    }
    const lease = hold(member.wanted, member.claim, granted, wallClockLead, () => {
      callBack(events, () => Deferred.doneUnsafe(attempt.broken, Effect.fail(new Broken())), member.wanted.key)
    })
    member.lease = lease
    // A grant that came too late is lost already.
    lease.check(time.now())
  }

  /** The reply when nothing is awaited: all locks are there, or the next request goes on. */
  private soFar(attempt: Attempt): Granted | Further {
    return attempt.members.every(({ lease }) => lease !== undefined) && this.isWhole(attempt)
      ? this.granted(attempt)
      : further
  }

  /** The reply that stands for all grants. Each lease knows its own deadline. */
  private granted({ members }: Attempt): Granted {
    const ttl = Math.min(...members.map(({ lease }) => Duration.toMillis(lease!.ttl)))
    const confirmedAt = BigInt(Math.floor(this.context.time.now() * 1_000_000))
    return { _tag: "Granted", fencingToken: 0n, ttl: Duration.millis(ttl), confirmedAt }
  }

  /** Whether no lease of the attempt was lost. */
  private isWhole({ members }: Attempt): boolean {
    const now = this.context.time.now()
    return members.every(({ lease }) => lease === undefined || lease.check(now))
  }

  private firstMissing({ groups }: Attempt): Member | undefined {
    return groups.flat().find(({ lease }) => lease === undefined)
  }

  private ahead({ queued }: Member): Ahead {
    return (this.missing?.member.queued ?? queued)!.ahead()
  }

  private startAnew(attempt: Attempt, { error }: Broken): Effect.Effect<Gone> {
    return Effect.as(this.abandon(attempt, leeway), error === undefined ? gone : { ...gone, error })
  }

  /** Withdraws all claims of an attempt that a server may know. It returns what was withdrawn if all was in that time. */
  private abandon(attempt: Attempt, millis: number): Effect.Effect<Withdrawn | undefined> {
    // Uninterruptible: from here on nobody else knows of these claims.
    return Effect.uninterruptible(Effect.suspend(() => {
      if (this.attempt === attempt) {
        this.attempt = undefined
        const member = this.firstMissing(attempt)
        const acquired = attempt.members.filter(({ lease }) => lease !== undefined).length
        this.missing = member && { member, acquired }
      }
      const asked = attempt.members.filter(({ isAsked }) => isAsked)
      for (const { lease } of asked) if (lease !== undefined) this.context.drop(lease)
      const withdrawn = Effect.forEach(asked, ({ claim }) => this.context.withdrawals.giveUp(claim, millis), {
        concurrency: "unbounded"
      })
      return Effect.map(withdrawn, (all) => all.every((one) => one !== undefined) ? "cancelled" : undefined)
    }))
  }
}

/** The same error, about several locks. */
const ofSeveral = (
  { deadlock, holder, maxQueue, metadata, queueLength, waited }: LockTimeout,
  about: Pick<LockTimeout, "key" | "acquired" | "wanted">
): LockTimeout =>
  new LockTimeout({
    waited,
    queueLength,
    ...(holder !== undefined && { holder }),
    ...(metadata !== undefined && { metadata }),
    ...(deadlock !== undefined && { deadlock }),
    ...(maxQueue !== undefined && { maxQueue }),
    ...about
  })

const gone: Gone = { _tag: "Gone" }
const further: Further = { _tag: "Further" }

/** Milliseconds in which a healthy backend answers withdrawals. */
const leeway = 50
