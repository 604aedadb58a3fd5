import type { LockBackendError } from "effect-dlock/LockError"
import {
  type Ahead,
  type Answer,
  type Claim,
  type Gone,
  type Granted,
  type Held,
  LockStore,
  type Loss,
  type Renewal,
  type Withdrawn
} from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { backendError, type CallFailure, isClosed } from "./failure.ts"
import { type Beat, freshId, type Lease, Leases } from "./leases.ts"
import { type Names, names } from "./names.ts"
import type { Port } from "./port.ts"
import * as Queue from "./queue.ts"
import { Watches } from "./watches.ts"

/** What this process knows of a claim, from its first request to its end. */
class Entry {
  state: "asking" | "queued" | "held" | "over" = "asking"
  /** Requests that were sent and of which it is not known whether they have been executed. */
  unanswered = 0
  created: bigint | undefined
  lease: Lease<Entry> | undefined
  ahead: Ahead = { holder: undefined, place: 0, waiting: 1 }
  /** When to look without having been told to. */
  lookAt = Infinity
  looking = false
  lookedAt = -Infinity
  /** Something happened during the look that is under way. */
  stale = false
  /** What a waiting claim watches. */
  target: string | undefined
  /** When nobody can believe in the last grant or confirmation any more, the backend's guard included. */
  until = Infinity
  stopWatching: () => void = () => {}
  readonly granted = Deferred.makeUnsafe<Granted | Gone, LockBackendError>()
  readonly claim: Claim
  readonly names: Names
  readonly key: string

  constructor(claim: Claim) {
    this.claim = claim
    this.names = names(claim.key, claim.prefix)
    this.key = this.names.entry(claim.id).toString()
  }
}

/**
 * The store over a port: claims queue in a folder by create revision, which is also the fencing token. Those that wait
 * watch only what stands before them; those that hold are watched themselves; all of them live on shared leases.
 */
export const make = Effect.fnUntraced(function*(port: Port) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const entries = new Map<string, Entry>()
  const losses = yield* PubSub.unbounded<Loss>()
  const stirred = Latch.makeUnsafe()
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  let closed = false

  /** Until when the loop sleeps. */
  let wakesAt = Infinity
  const stir = (at: number): void => {
    if (at < wakesAt) stirred.openUnsafe()
  }

  const over = (entry: Entry): void => {
    entry.state = "over"
    entry.stopWatching()
    entries.delete(entry.claim.id)
    if (entry.lease !== undefined) leases.leave(entry.lease, entry.key)
  }

  const isOver = (entry: Entry): boolean => entry.state === "over"

  /** It is gone at the backend, whoever finds out first. */
  const isGone = (entry: Entry): void => {
    const { state } = entry
    if (state === "over") return
    over(entry)
    if (state === "held") fork(Effect.asVoid(PubSub.publish<Loss>(losses, { id: entry.claim.id, reason: "Expired" })))
    else Deferred.doneUnsafe(entry.granted, Effect.succeed({ _tag: "Gone" }))
  }

  const leases = new Leases<Entry>(clock, port, fork, (lease) => {
    for (const entry of Array.from(lease.claims.values())) {
      if (entry.state === "asking") entry.lease = undefined
      else isGone(entry)
    }
  })
  const watches = new Watches(port, fork)

  /** Is it still there? Asked where a list lacked it or a watch was refused: lists and watches are hints. */
  const verify = (entry: Entry): Effect.Effect<bigint, CallFailure> =>
    Effect.map(
      port.txn(Queue.look(entry.names, entry.claim, entry.created ?? 0n), limitOf(entry.claim)),
      ({ value }) => {
        const view = Queue.view(value)
        if (view.own !== entry.created) isGone(entry)
        return view.revision
      }
    )

  /**
   * Compares what a lease carries with what should be on it. A claim that nobody here knows is one whose request was
   * executed after its caller had given up; it goes.
   */
  const sweep = (lease: Lease<Entry>, { keys }: Beat): Effect.Effect<void, CallFailure> => {
    const strangers = Array.from(keys).filter((key) => !lease.claims.has(key))
    const missing = Array.from(lease.claims.values()).filter((entry) =>
      entry.created !== undefined && !keys.has(entry.key)
    )
    // Not waited for: those who are known have nothing to do with it.
    for (let from = 0; from < strangers.length; from += removedAtOnce) {
      fork(Effect.ignore(port.txn(Queue.remove(strangers.slice(from, from + removedAtOnce)))))
    }
    return Effect.forEach(missing, verify, { concurrency: 16, discard: true })
  }

  const tend = (lease: Lease<Entry>): Effect.Effect<void, CallFailure> =>
    Effect.flatMap(leases.beat(lease), (beat) => sweep(lease, beat))

  /** What the holder is told it may believe; whoever tells it nothing more lets the claim go with that. */
  const believe = (entry: Entry, lease: Lease<Entry>): bigint => {
    entry.until = toMillis(lease.confirmedAt) + lease.ttl
    return lease.confirmedAt
  }

  const grantedBy = (entry: Entry, lease: Lease<Entry>): Granted => ({
    _tag: "Granted",
    fencingToken: entry.created!,
    ttl: Duration.millis(lease.ttl - Duration.toMillis(entry.claim.guardGap)),
    confirmedAt: believe(entry, lease)
  })

  const isGranted = (entry: Entry, lease: Lease<Entry>): Granted => {
    if (entry.state !== "held") {
      entry.stopWatching()
      entry.state = "held"
      entry.lookAt = Infinity
      guard(entry, entry.created!, guardDelay)
    }
    const granted = grantedBy(entry, lease)
    stir(entry.until)
    Deferred.doneUnsafe(entry.granted, Effect.succeed(granted))
    return granted
  }

  /**
   * A held claim that somebody deletes is lost at once, not at the next renewal. The watch starts a little later than
   * the hold, from the revision `after` at which it was there: a short section never has one, and nothing is missed.
   */
  const guard = (entry: Entry, after: bigint, delay: number): void => {
    const fiber = fork(Effect.delay(
      Effect.sync(() => {
        if (entry.state !== "held") return
        const key = entry.names.entry(entry.claim.id)
        entry.stopWatching = watches.add({ key }, after, () => isGone(entry), () => guardAnew(entry, after))
      }),
      delay
    ))
    entry.stopWatching = () => fiber.interruptUnsafe()
  }

  /** Its watch was refused: what is there now, and from there on, at a pace that no server minds. */
  const guardAnew = (entry: Entry, after: bigint): void => {
    if (entry.state !== "held") return
    fork(Effect.map(
      Effect.orElseSucceed(verify(entry), () => after),
      (seenAt) => {
        if (entry.state === "held") guard(entry, seenAt, guardAnewDelay)
      }
    ))
  }

  /** Takes in how a claim stands: it is granted on a lease that is known to live, or told what to wait for. */
  const settle = (entry: Entry, view: Queue.View): Effect.Effect<void, CallFailure> =>
    Effect.suspend(() => {
      if (entry.state === "over" || entry.state === "held") return Effect.void
      if (view.own === undefined) {
        isGone(entry)
        return Effect.void
      }
      entry.created = view.own
      const { claim } = entry
      entry.ahead = {
        holder: view.before[0]?.standing.holder,
        place: claim.capacity === 1 ? Math.max(0, view.length - 2) : view.before.length,
        waiting: Math.max(1, view.length - 1)
      }
      entry.state = "queued"
      if (!Queue.isGranted(claim, view)) {
        await_(entry, view)
        return Effect.void
      }
      const lease = entry.lease!
      return Effect.map(leases.freshen(lease), () => {
        if (entry.state !== "queued") return
        if (lease.gone) isGone(entry)
        else isGranted(entry, lease)
      })
    })

  /** A mutex waits for the one before it; of permits any may come free that stand before. A poll is the net. */
  const await_ = (entry: Entry, view: Queue.View): void => {
    entry.lookAt = now() + pollAfter(entry)
    stir(entry.lookAt)
    const target = entry.claim.capacity === 1
      ? { key: view.before[view.before.length - 1]!.key }
      : { key: entry.names.folder, rangeEnd: entry.names.folderEnd }
    const watched = target.key.toString()
    if (entry.target === watched) return
    entry.stopWatching()
    entry.target = watched
    // Its watch was refused. A look watches from what it sees, so this does not go on, but for a server that always refuses.
    const check = () => {
      entry.target = undefined
      entry.lookAt = Math.min(entry.lookAt, Math.max(now(), entry.lookedAt + lookPause))
      stir(entry.lookAt)
    }
    const look = () => lookAgain(entry)
    entry.stopWatching = watches.add(target, view.revision, look, check, look)
  }

  const pollAfter = (entry: Entry): number =>
    Math.min(10_000, Math.max(1_000, Duration.toMillis(entry.claim.ttl) / 3)) * (1 + entry.ahead.place % 7 / 20)

  /** One look at a time; what happens meanwhile has it look once more. */
  const lookAgain = (entry: Entry): void => {
    if (entry.state !== "queued" || entry.created === undefined) return
    if (entry.looking) {
      entry.stale = true
      return
    }
    entry.looking = true
    entry.stale = false
    entry.lookedAt = now()
    entry.lookAt = entry.lookedAt + pollAfter(entry)
    fork(
      port.txn(Queue.look(entry.names, entry.claim, entry.created), limitOf(entry.claim)).pipe(
        Effect.flatMap(({ value }) => {
          const view = Queue.view(value)
          return settle(entry, view.own === entry.created ? view : { ...view, own: undefined })
        }),
        Effect.catch((failure: CallFailure) => Effect.sync(() => isSilent(entry, failure))),
        Effect.ensuring(Effect.sync(() => {
          entry.looking = false
          if (entry.stale) lookAgain(entry)
          else if (entry.state === "queued") stir(entry.lookAt)
        }))
      )
    )
  }

  /** No answer: again soon, until the lease can no longer be alive. */
  const isSilent = (entry: Entry, failure: CallFailure): void => {
    if (entry.state !== "queued" || entry.lease === undefined) return
    if (now() > toMillis(entry.lease.confirmedAt) + entry.lease.ttl) {
      Deferred.doneUnsafe(entry.granted, Effect.fail(backendError("wait")(failure)))
      return
    }
    entry.lookAt = now() + Math.min(Duration.toMillis(entry.claim.ttl) / 10, 500)
  }

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      if (closed) return Effect.fail(backendError("acquire")(isClosed))
      let entry = entries.get(claim.id)
      if (entry === undefined) {
        entry = new Entry(claim)
        entries.set(claim.id, entry)
      }
      return Effect.mapError(ask(entry, mode), backendError("acquire"))
    })

  const ask = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.gen(function*() {
      const { claim } = entry
      const lease = entry.lease ?? (yield* leases.join(seconds(claim), entry.key, entry))
      stir(leases.dueAt(lease))
      yield* leases.freshen(lease)
      if (isOver(entry)) return { _tag: "Gone" }
      if (lease.gone) return yield* askAgain(entry, mode)
      const enter = mode === "try" && claim.capacity === 1 ? Queue.enterIfEmpty : Queue.enter
      entry.unanswered++
      const reply = yield* port.txn(enter(entry.names, claim, lease.id), limitOf(claim)).pipe(
        // An answer to a second sending says nothing of the first.
        Effect.tap(({ doubled }) => Effect.sync(() => doubled || entry.unanswered--)),
        Effect.catch((failure: CallFailure) => {
          if (failure.notDone) entry.unanswered--
          if (!failure.leaseGone) return Effect.fail(failure)
          leases.lost(lease)
          return Effect.undefined
        })
      )
      if (isOver(entry)) return { _tag: "Gone" }
      // Gone while the answer was on its way, and what was put on it with it.
      if (reply === undefined || lease.gone) return yield* askAgain(entry, mode)
      const view = Queue.view(reply.value)
      if (view.own === undefined) {
        // Cancelled before, or a try that found somebody there.
        const busy = mode === "try" && view.before.length > 0
        const mismatched = busy && Queue.isMismatched(claim, view)
        forget(entry)
        return { _tag: mismatched ? "CapacityMismatch" : busy ? "Busy" : "Gone" }
      }
      entry.created = view.own
      if (Queue.isMismatched(claim, view) || (mode === "try" && !Queue.isGranted(claim, view))) {
        const mismatched = Queue.isMismatched(claim, view)
        yield* Effect.ignore(port.txn(Queue.leave(entry.names, claim, view.own, undefined)))
        forget(entry)
        return { _tag: mismatched ? "CapacityMismatch" : "Busy" }
      }
      if (entry.state === "held") return isGranted(entry, lease)
      yield* settle(entry, view)
      return yield* standing(entry)
    })

  const askAgain = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.suspend(() => {
      entry.lease = undefined
      return ask(entry, mode)
    })

  const standing = (entry: Entry): Effect.Effect<Answer> => {
    if (entry.state === "held" && entry.lease !== undefined) return Effect.succeed(grantedBy(entry, entry.lease))
    if (entry.state !== "queued") return Effect.succeed({ _tag: "Gone" })
    return Effect.succeed({
      _tag: "Queued",
      place: entry.ahead.place,
      ahead: () => entry.ahead,
      granted: Deferred.await(entry.granted)
    })
  }

  /** Its id is over. A request of it that may yet be executed is swept, or finds the mark of its withdrawal. */
  const forget = (entry: Entry): void => {
    over(entry)
    if (entry.unanswered > 0) fork(Effect.ignore(withdrawEntry(entry, true)))
  }

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const entry = entries.get(claim.id)
      const known = entry ?? new Entry(claim)
      const { state } = known
      if (entry !== undefined) over(entry)
      return Effect.map(
        Effect.mapError(withdrawEntry(known, entry === undefined || known.unanswered > 0), backendError("release")),
        (deleted) => deleted ? (state === "queued" ? "cancelled" : "released") : "notHeld"
      )
    })

  const withdrawEntry = (entry: Entry, mark: boolean): Effect.Effect<boolean, CallFailure> =>
    Effect.gen(function*() {
      const lease = mark ? yield* markLease : undefined
      const created = mark ? undefined : entry.created
      const leave = port.txn(Queue.leave(entry.names, entry.claim, created, lease), limitOf(entry.claim))
      const { value } = yield* Effect.tapError(leave, (failure) =>
        Effect.sync(() => {
          if (failure.leaseGone && marks?.id === lease) marks = undefined
        }))
      const { deleted, holder, length } = Queue.left(value)
      entry.ahead = { holder, place: entry.ahead.place, waiting: Math.max(1, length) }
      return deleted
    })

  // Marks outlive any request that may still be on its way, on a lease that is never kept alive. It has its id before
  // it is granted, so that many who ask for it at once, and again after a failure, make one lease.
  let marks: { readonly id: string; until: number } | undefined
  const markLease: Effect.Effect<string, CallFailure> = Effect.suspend(() => {
    if (marks === undefined || now() >= marks.until && marks.until > 0) marks = { id: freshId(), until: 0 }
    const mine = marks
    if (mine.until > 0) return Effect.succeed(mine.id)
    return Effect.map(port.grant(mine.id, markSeconds), ({ value }) => {
      mine.until = now() + value * 1_000 / 2
      return mine.id
    })
  })

  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    Effect.gen(function*() {
      const known = held.map(({ claim }) => entries.get(claim.id))
      const failures = new Map<Lease<Entry>, CallFailure | undefined>()
      for (const entry of known) if (entry?.lease !== undefined) failures.set(entry.lease, undefined)
      yield* Effect.forEach(Array.from(failures.keys()), (lease) =>
        Effect.match(tend(lease), {
          onFailure: (failure) => void failures.set(lease, failure),
          onSuccess: () => {}
        }), { concurrency: "unbounded", discard: true })
      return yield* Effect.forEach(held, ({ claim, fencingToken }, index): Effect.Effect<Renewal> => {
        const entry = known[index]
        if (entry === undefined || entry.state !== "held" || entry.lease === undefined) {
          return whose(claim, fencingToken)
        }
        const failure = failures.get(entry.lease)
        return Effect.succeed(
          failure === undefined
            ? { _tag: "Confirmed", confirmedAt: believe(entry, entry.lease) }
            : { _tag: "Unknown", error: backendError("renew")(failure) }
        )
      })
    })

  /** A claim that is not held any more: is its key another's by now? */
  const whose = (claim: Claim, created: bigint): Effect.Effect<Renewal> =>
    Effect.match(port.txn(Queue.look(names(claim.key, claim.prefix), claim, created)), {
      onFailure: (failure): Renewal => ({ _tag: "Unknown", error: backendError("renew")(failure) }),
      onSuccess: ({ value }): Renewal =>
        claim.capacity === 1 && Queue.view(value).length > 0 ? { _tag: "Replaced" } : { _tag: "Gone" }
    })

  // One loop tends the leases that no renewal tends, and looks for those whom no watch has told.
  yield* Effect.gen(function*() {
    while (true) {
      stirred.closeUnsafe()
      const at = now()
      let next = Infinity
      wakesAt = Infinity
      for (const lease of leases.all()) {
        const dueAt = leases.dueAt(lease)
        if (dueAt > at) next = Math.min(next, dueAt)
        else if (leases.isIdle(lease)) fork(leases.retire(lease))
        else {
          fork(Effect.ensuring(Effect.ignore(tend(lease)), stirred.open))
        }
      }
      for (const entry of Array.from(entries.values())) {
        if (entry.state === "held") {
          // Its lease lives on with others: what nobody renews must end by itself.
          if (entry.until <= at) fork(Effect.ignore(withdraw(entry.claim)))
          else next = Math.min(next, entry.until)
        } else if (entry.state === "queued" && !entry.looking) {
          if (entry.lookAt <= at) lookAgain(entry)
          else next = Math.min(next, entry.lookAt)
        }
      }
      wakesAt = next
      yield* next === Infinity
        ? stirred.await
        : Effect.timeoutOption(stirred.await, Math.max(1, Math.ceil(next - at)))
    }
  }).pipe(Effect.forkScoped)

  // Whatever is left goes with its leases, and the process can end.
  yield* Effect.addFinalizer(() => {
    closed = true
    watches.close()
    return leases.close()
  })

  return LockStore.of({ request, renew, withdraw, losses: Stream.fromPubSub(losses) })
})

const guardDelay = 30
const guardAnewDelay = 1_000
const lookPause = 200
/** A server takes at most 128 operations in a transaction unless told otherwise. */
const removedAtOnce = 100
const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000
const markSeconds = 960

/** What one call about a claim may take. */
const limitOf = (claim: Claim): number => Duration.toMillis(claim.ttl) / 3

/** Leases are whole seconds: as many as hold the claim's own time and the guard gap behind it. */
const seconds = (claim: Claim): number =>
  Math.ceil((Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap)) / 1_000)
