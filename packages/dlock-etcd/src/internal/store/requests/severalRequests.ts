/** Requests several claims in one transaction. */

import type { LockBackendError } from "effect-dlock/LockError"
import { type Answer, callLimit, type Claim, refusalOf } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ITxnResponse } from "etcd3"
import { backendError, type CallFailure, closedFailure, silentFailure } from "../../client/failure.ts"
import type { Reply } from "../../client/port.ts"
import type { Operation } from "../../protocol/operation.ts"
import * as Several from "../../protocol/severalTransactions.ts"
import * as Shared from "../../protocol/sharedSnapshot.ts"
import * as Snapshot from "../../protocol/snapshot.ts"
import * as Transactions from "../../protocol/transactions.ts"
import type { Epochs } from "../epochs.ts"
import type { Lease } from "../leases/leases.ts"
import type { StoreParts } from "../parts.ts"
import type { Asked } from "../queue/answers.ts"
import type { Room } from "../queue/room.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"
import type { Waiters } from "../waiters.ts"
import type { Placing } from "./placing.ts"

/** What the requests for single claims and for several have in common. */
export interface PlacingAll extends Pick<Placing, "forget" | "giveUp" | "refuse"> {
  /** Puts the claim on a lease of its length. */
  readonly joinNow: (tracked: TrackedClaim) => Lease<Place> | undefined
  readonly join: (tracked: TrackedClaim) => Effect.Effect<Lease<Place>, CallFailure>
  /** Records that a request of the claim has ended. `isKnown`: this process knows whether the server executed it. */
  readonly noteAnswered: (tracked: TrackedClaim, place: Place, isKnown: boolean) => void
  /** Takes what an answer tells of a claim on a mutex. */
  readonly takeMutex: (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    mode: "queue" | "try",
    snapshot: Snapshot.QueueSnapshot
  ) => Effect.Effect<Answer, CallFailure>
  /** Takes what an answer tells of a shared claim. */
  readonly takeShared: (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    room: Room,
    asked: Asked,
    entry: Shared.Entry
  ) => Effect.Effect<Answer, CallFailure>
  readonly isNotDone: (outcome: Exit.Failure<unknown, CallFailure>) => boolean
  /** Milliseconds. */
  readonly tryLimit: number
}

type Answers = Effect.Effect<ReadonlyArray<Answer>, CallFailure>

/**
 * Makes the store's `requestAll`. The claims are put in one transaction. From then on each of them waits, is granted and is
 * withdrawn like any other claim, but for two things: such a claim does not exchange its place with another one of this process,
 * since its places in all queues belong together; and if one of the claims is missing, all count as gone.
 */
export const make = (
  { askingOrder, batcher, hasClosed, leases, liveness, registry, wakeBy }: StoreParts,
  waiters: Waiters,
  epochs: Epochs,
  placing: PlacingAll
) => {
  const { forget, giveUp, noteAnswered, refuse } = placing

  const requestAll = (
    claims: ReadonlyArray<Claim>,
    mode: "queue" | "try"
  ): Effect.Effect<ReadonlyArray<Answer>, LockBackendError> =>
    Effect.suspend(() => {
      const refusal = claims.map(refusalOf).find((one) => one !== undefined)
      if (refusal !== undefined) return Effect.fail(refusal)
      if (claims.some((claim) => registry.hasEnded(claim))) return Effect.succeed(claims.map(() => gone))
      if (hasClosed()) return Effect.fail(backendError("acquire")(closedFailure))
      const all = claims.map((claim) => registry.track(claim))
      // The time of a request to wait counts from its sending, like that of a single claim.
      const asked = mode === "try"
        ? inTime(ask(all, mode), placing.tryLimit)
        : askingOrder.inTurnOfAll(all, ask(all, mode))
      return Effect.mapError(asked, backendError("acquire"))
    })

  const inTime = <A>(effect: Effect.Effect<A, CallFailure>, limit: number): Effect.Effect<A, CallFailure> =>
    Effect.timeoutOrElse(effect, { duration: limit, orElse: () => Effect.fail(silentFailure) })

  const limitOf = (all: ReadonlyArray<TrackedClaim>): number => Math.min(...all.map(({ claim }) => callLimit(claim)))

  const ask = (all: ReadonlyArray<TrackedClaim>, mode: "queue" | "try"): Answers =>
    Effect.gen(function*() {
      while (true) {
        if (hasClosed()) return yield* Effect.fail(closedFailure)
        if (all.some(({ isOver }) => isOver)) return all.map(() => gone)
        yield* inTime(findLeases(all), limitOf(all))
        if (all.some(({ isOver }) => isOver)) continue
        const ended = all.filter(({ place }) => place.lease === undefined || place.lease.gone)
        for (const { place } of ended) place.lease = undefined
        if (ended.length === 0) return yield* mode === "try" ? tryAll(all) : enterToWait(all)
      }
    })

  /** Puts each claim on a lease that is known to be alive. */
  const findLeases = (all: ReadonlyArray<TrackedClaim>): Effect.Effect<void, CallFailure> =>
    Effect.gen(function*() {
      for (const tracked of all) {
        const lease = tracked.place.lease ?? placing.joinNow(tracked) ?? (yield* placing.join(tracked))
        wakeBy(leases.dueAt(lease))
      }
      yield* Effect.forEach(leasesOf(all), (lease) => leases.ensureFresh(lease), {
        concurrency: "unbounded",
        discard: true
      })
    })

  /** Shows that this process is alive, which a claim that waits needs. */
  const show = (all: ReadonlyArray<TrackedClaim>) => inTime(liveness.show(prefixOf(all)), limitOf(all))

  const leasesOf = (all: ReadonlyArray<TrackedClaim>): ReadonlyArray<Lease<Place>> =>
    Array.from(new Set(all.flatMap(({ place: { lease } }) => lease ?? [])))

  const placesOf = (all: ReadonlyArray<TrackedClaim>): ReadonlyArray<Place> => all.map(({ place }) => place)

  const prefixOf = ([first]: ReadonlyArray<TrackedClaim>): string => first!.claim.prefix

  /** Enters all queues. A process that has not shown that it is alive need not do so if nothing is in the way. */
  const enterToWait = (all: ReadonlyArray<TrackedClaim>): Answers => {
    const prefix = prefixOf(all)
    const mode = "queue"
    const needsSign = all.some(({ claim }) => claim.kind === "mutex") && liveness.signOf(prefix) !== undefined
    if (!needsSign || liveness.lifeIn(prefix) !== undefined) return enter(all, mode)
    const shown = Effect.flatMap(show(all), () => enter(all, mode))
    return Several.mayEnterIfFree(placesOf(all)) ? enterIfFree(all, mode, () => shown) : shown
  }

  /** Enters all queues, whatever is in the way. */
  const enter = (all: ReadonlyArray<TrackedClaim>, mode: "queue" | "try"): Answers => {
    const prefix = prefixOf(all)
    const sign = all.some(({ claim }) => claim.kind === "mutex") ? liveness.signOf(prefix) : undefined
    const life = sign === undefined ? undefined : liveness.lifeIn(prefix)
    for (const { place } of all) place.lifeLease = life
    const operation = (epoch: Transactions.Epoch) => Several.enterAll(entering(all), epoch, sign)
    return put(all, mode, operation, (value, asked) => {
      if (value.succeeded) return takeAll(all, asked, value)
      if (Several.isUnsigned(value, all.length)) return Effect.flatMap(show(all), () => enter(all, mode))
      // One of the claims was cancelled before.
      return Effect.succeed(all.map(() => gone))
    })
  }

  /** Enters all queues if nothing is in the way of any claim. */
  const enterIfFree = (
    all: ReadonlyArray<TrackedClaim>,
    mode: "queue" | "try",
    otherwise: (obstacles: ReadonlyArray<Several.Obstacle>, asked: Asking) => Answers
  ): Answers =>
    put(
      all,
      mode,
      (epoch) => Several.enterAllIfFree(entering(all), epoch),
      (value, asked) =>
        value.succeeded ? takeAll(all, asked, value) : otherwise(Several.readObstacles(value, placesOf(all)), asked)
    )

  /**
   * Tries for all claims. Of a semaphore some permits may be left although others hold some: then the claims enter their queues,
   * and leave again if one of them is not granted at once.
   */
  const tryAll = (all: ReadonlyArray<TrackedClaim>): Answers => {
    const mode = "try"
    const entered = Effect.flatMap(enter(all, mode), (answers) => {
      const isWhole = answers.every(({ _tag }) => _tag === "Granted")
      return isWhole || answers.some(isRefused) ? Effect.succeed(answers) : leaveAll(all)
    })
    if (!Several.mayEnterIfFree(placesOf(all))) return entered
    return enterIfFree(all, mode, (obstacles, asked) => {
      // An earlier request, whose answer was lost, may have put the claims.
      if (obstacles.some(({ own }) => own !== undefined)) return entered
      const answers = all.map((tracked, index) => answerBehind(tracked, obstacles[index]!, asked))
      if (answers.every((answer) => answer === undefined)) return entered
      for (const tracked of all) forget(tracked, true)
      return Effect.forEach(answers, (answer) => answer ?? Effect.succeed(gone))
    })
  }

  /** Why a claim cannot be granted behind what is in its way. `undefined` if it may be. */
  const answerBehind = (
    { claim, place }: TrackedClaim,
    { base, head, listing, own }: Several.Obstacle,
    { rooms }: Asking
  ): Effect.Effect<Answer, CallFailure> | undefined => {
    if (head === undefined) return undefined
    const room = rooms.get(place)
    if (room === undefined) {
      const foreign = Snapshot.foreignIn({ before: [head] } as unknown as Snapshot.QueueSnapshot)
      return foreign === undefined ? Effect.succeed(busy) : refuse(foreign)
    }
    const entry: Shared.Entry = { revision: head.created, own, base, isClear: false, head, listing }
    const foreign = Shared.foreignIn(entry, claim)
    if (foreign !== undefined) return refuse(foreign)
    if (listing === undefined) return Effect.succeed(busy)
    room.room.takeIn({ ...entry, revision: listing.revision }, room.asked)
    return room.room.knowledge.roomFor(claim) === undefined ? Effect.succeed(busy) : undefined
  }

  const leaveAll = (all: ReadonlyArray<TrackedClaim>): Answers =>
    Effect.forEach(
      all,
      (tracked) => tracked.isOver ? Effect.succeed(busy) : giveUp(tracked, Effect.succeed(busy)),
      { concurrency: "unbounded" }
    )

  const entering = (all: ReadonlyArray<TrackedClaim>): ReadonlyArray<Several.Entering> =>
    all.map(({ place }) => ({ at: place, lease: place.lease! }))

  /** What was known of the queues when a request was sent: its answer is compared with that. */
  interface Asking {
    readonly rooms: ReadonlyMap<Place, { readonly room: Room; readonly asked: Asked }>
  }

  /** Sends a request for all claims, and takes its answer. */
  const put = (
    all: ReadonlyArray<TrackedClaim>,
    mode: "queue" | "try",
    operation: (epoch: Transactions.Epoch) => Operation,
    take: (value: ITxnResponse, asked: Asking) => Answers
  ): Answers =>
    Effect.suspend(() => {
      // A lease may end while something else is awaited. All claims move to new ones then.
      if (all.some(({ isOver, place: { lease } }) => isOver || lease === undefined || lease.gone)) return ask(all, mode)
      const places = placesOf(all)
      const epoch = epochs.of(prefixOf(all))
      const rooms = new Map<Place, { readonly room: Room; readonly asked: Asked }>()
      const ends: Array<() => void> = []
      for (const tracked of all) {
        const { claim, place } = tracked
        if (claim.kind === "mutex") {
          const queue = waiters.localQueues.get(claim.key)
          const asked = queue?.noteAsked()
          if (queue === undefined || asked === undefined) continue
          tracked.askedSince = asked
          ends.push(() => queue.noteAnswered(asked))
        } else {
          const room = waiters.roomOf(place)
          const asked = room.noteAsked()
          rooms.set(place, { room, asked })
          ends.push(() => room.noteAnswered(asked))
        }
      }
      const wereSent = all.map(({ isSent }) => isSent)
      for (const tracked of all) {
        tracked.place.unanswered++
        tracked.underWay++
        tracked.isSent = true
      }
      const end = (isKnown: boolean) => all.forEach((tracked, index) => noteAnswered(tracked, places[index]!, isKnown))
      const onUnsent = () => {
        end(true)
        all.forEach((tracked, index) => (tracked.isSent = wereSent[index]!))
      }
      const onLate = (outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>) => {
        if (Exit.isSuccess(outcome)) noteCreated(places, outcome.value.value, epoch.base)
        end(Exit.isSuccess(outcome) ? !outcome.value.doubled : placing.isNotDone(outcome))
      }
      const asked = Effect.matchEffect(batcher.run({ ...operation(epoch), onUnsent, onLate }), {
        onSuccess: ({ doubled, value }): Answers => {
          // From here on a withdrawal finds each claim that was put.
          noteCreated(places, value, epoch.base)
          end(!doubled)
          if (hasClosed()) return Effect.fail(closedFailure)
          const isLost = all.some(({ isOver, place }) => isOver || place.lease === undefined || place.lease.gone)
          if (isLost) return Effect.succeed(all.map(() => gone))
          const current = Transactions.epochIn(value)
          if (current !== undefined && current.text !== epoch.text) {
            const learnt = epochs.learn(prefixOf(all), current.text)
            return Effect.flatMap(learnt, () => put(all, mode, operation, take))
          }
          return take(value, { rooms })
        },
        onFailure: (failure): Answers => {
          end(failure.notDone)
          if (!failure.leaseGone) return Effect.fail(failure)
          // The server does not say which lease has ended.
          const confirmed = Effect.forEach(leasesOf(all), (lease) => leases.confirm(lease), {
            concurrency: "unbounded",
            discard: true
          })
          return Effect.flatMap(confirmed, () => ask(all, mode))
        }
      })
      return Effect.ensuring(asked, Effect.sync(() => ends.forEach((done) => done())))
    })

  /** Records which claims are in their queues. */
  const noteCreated = (places: ReadonlyArray<Place>, value: ITxnResponse, base: bigint): void => {
    const owns = value.succeeded
      ? Several.readEntries(value, places, base).map((seen) => seen.kind === "mutex" ? seen.snapshot : seen.entry)
      : value.responses.length > places.length && value.responses[1]?.response_range !== undefined
      ? places.map(({ claim }, index) => Snapshot.ownIn(value.responses[index + 1]!, claim))
      : Several.readObstacles(value, places)
    places.forEach((place, index) => {
      const seen = owns[index]!
      if (place.created === undefined && seen.own !== undefined) place.noteCreated(seen)
    })
  }

  /** Takes the answer to a request that put all claims, or found them. */
  const takeAll = (all: ReadonlyArray<TrackedClaim>, { rooms }: Asking, value: ITxnResponse): Answers => {
    const seen = Several.readEntries(value, placesOf(all), epochs.of(prefixOf(all)).base)
    const created = seen.map((one) => one.kind === "mutex" ? one.snapshot.own : one.entry.own)
    const isWhole = created.every((own) => own !== undefined && own === created[0]) &&
      all.every(({ place, state }) => state !== "held" || place.created === created[0])
    // One of the claims is missing, or was put again behind others. The caller withdraws all of them.
    if (!isWhole) {
      all.forEach(({ place }, index) => {
        const own = created[index]
        if (own !== undefined) place.created = own
      })
      return Effect.succeed(all.map(() => gone))
    }
    const answers = Effect.forEach(all, (tracked, index) => {
      const { place } = tracked
      const one = seen[index]!
      if (tracked.isOver) return Effect.succeed(gone)
      if (one.kind === "mutex") return placing.takeMutex(tracked, place.lease!, "queue", one.snapshot)
      const { asked, room } = rooms.get(place)!
      return placing.takeShared(tracked, place.lease!, room, asked, one.entry)
    })
    return Effect.flatMap(answers, (answers) => {
      if (!answers.some(isRefused)) return Effect.succeed(answers)
      // One of the claims has no place, so none has.
      const rest = all.filter(({ isOver }) => !isOver)
      return Effect.as(leaveAll(rest), answers.map((answer) => isRefused(answer) ? answer : gone))
    })
  }

  return { requestAll }
}

const gone: Answer = { _tag: "Gone" }
const busy: Answer = { _tag: "Busy" }

const isRefused = ({ _tag }: Answer): boolean => _tag === "CapacityMismatch" || _tag === "AlreadyHeld"
