import { LockBackendError } from "effect-dlock/LockError"
import { type Answer, type Claim, type Held, LockStore, type Renewal, type Withdrawn } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import { Entry } from "./entry.ts"
import { backendError } from "./failure.ts"
import { type Names, names } from "./names.ts"
import type { CallFailure, Port } from "./port.ts"
import * as Scripts from "./scripts.ts"
import { type Group, Waiting } from "./waiting.ts"

export interface StoreOptions {
  /** Stands before every name, as the client's own `keyPrefix` would. */
  readonly keyPrefix: string
  /** Milliseconds. */
  readonly retryInterval: number
  /** Milliseconds that one call of the store's own making may take. */
  readonly callLimit: number
}

/**
 * The store over a port: the client's half of the protocol. The scripts decide; this keeps what may be believed, asks
 * again where a message may be missing, and ends every claim that was ever asked for.
 */
export const make = Effect.fnUntraced(function*(port: Port, options: StoreOptions) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const entries = new Map<string, Entry>()
  const waiting = new Waiting(options.retryInterval)
  const stirred = Latch.makeUnsafe()
  let sleepsUntil = Infinity
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())

  const namesOf = (claim: Claim): Names => names(options.keyPrefix + claim.key)!

  /** Ends a claim that nobody waits for, without anybody waiting for that. */
  const leaveBehind = (lock: Names, id: string): void => {
    fork(Effect.ignore(
      Effect.timeoutOption(port.run(Scripts.leave, { names: lock, id, mark: true, interop: false }), options.callLimit)
    ))
  }

  /** Its id is over. A request that may yet run must find it cancelled. */
  const forget = (entry: Entry): void => {
    entry.state = "over"
    entries.delete(entry.claim.id)
    waiting.remove(entry)
    if (entry.unanswered > 0) leaveBehind(entry.names, entry.claim.id)
  }

  const isQueued = (entry: Entry, sentAt: bigint, reply: Scripts.Queued): void => {
    const { floor, holder, length, place } = reply
    entry.isQueued(sentAt, floor, { holder: labelOf(holder), place, waiting: length })
    if (entry.state !== "queued") return
    waiting.schedule(entry, toMillis(sentAt), holder)
    waiting.add(entry)
    if (entry.refreshAt < sleepsUntil) stirred.openUnsafe()
  }

  const isGranted = (entry: Entry, token: bigint, sentAt: bigint) => {
    waiting.remove(entry)
    if (waiting.groups.size === 0) stirred.openUnsafe()
    return entry.isGranted(token, sentAt)
  }

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      let entry = entries.get(claim.id)
      if (entry === undefined) {
        entry = new Entry(claim, namesOf(claim))
        entries.set(claim.id, entry)
      }
      entry.asked(clock.monotonicTimeNanosUnsafe())
      return Effect.matchEffect(port.run(Scripts.acquire, acquireArgs(entry, mode), entry), {
        onFailure: (failure) => Effect.fail(backendError("acquire")(failure)),
        onSuccess: ({ sentAt, value }) => Effect.succeed(answer(entry, sentAt, value))
      })
    })

  const acquireArgs = ({ claim, names }: Entry, mode: "queue" | "try"): Scripts.AcquireArgs => ({
    names,
    id: claim.id,
    inbox: port.inbox,
    ttl: Duration.toMillis(claim.ttl),
    guard: Duration.toMillis(claim.guardGap),
    permits: claim.permits,
    capacity: claim.capacity,
    mode,
    label: claim.holder
  })

  const answer = (
    entry: Entry,
    sentAt: bigint,
    reply: Scripts.Granted | Scripts.Queued | Scripts.Busy | Scripts.Mismatch | Scripts.Cancelled
  ): Answer => {
    switch (reply._tag) {
      case "Granted":
        return isGranted(entry, reply.token, sentAt)
      case "Queued":
        isQueued(entry, sentAt, reply)
        return {
          _tag: "Queued",
          place: entry.ahead.place,
          ahead: () => entry.ahead,
          granted: Deferred.await(entry.granted)
        }
      case "Busy":
        forget(entry)
        return { _tag: "Busy" }
      case "Mismatch":
        forget(entry)
        return { _tag: "CapacityMismatch" }
      case "Cancelled":
        forget(entry)
        return { _tag: "Gone" }
    }
  }

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const entry = entries.get(claim.id)
      // A claim that is not known any more may have been asked for; better a mark too many.
      const mark = entry === undefined || entry.unanswered > 0
      if (entry !== undefined) {
        entry.state = "over"
        entries.delete(claim.id)
        waiting.remove(entry)
        if (waiting.groups.size === 0) stirred.openUnsafe()
      }
      const args = { names: entry?.names ?? namesOf(claim), id: claim.id, mark, interop: false }
      return Effect.matchEffect(port.run(Scripts.leave, args), {
        onFailure: (failure) => Effect.fail(backendError("release")(failure)),
        onSuccess: ({ value }) => {
          if (value._tag === "Released") return Effect.succeed("released")
          if (entry !== undefined) {
            entry.ahead = { holder: labelOf(value.holder), place: entry.ahead.place, waiting: value.length + 1 }
          }
          return Effect.succeed(value._tag === "Cancelled" ? "cancelled" : "notHeld")
        }
      })
    })

  const renewSome = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    Effect.match(
      port.run(Scripts.renew, {
        claims: held.map(({ claim, fencingToken }) => ({
          names: entries.get(claim.id)?.names ?? namesOf(claim),
          id: claim.id,
          token: fencingToken,
          ttl: Duration.toMillis(claim.ttl),
          guard: Duration.toMillis(claim.guardGap),
          capacity: claim.capacity
        }))
      }),
      {
        onFailure: (failure: CallFailure): ReadonlyArray<Renewal> => {
          const error = backendError("renew")(failure)
          return held.map(() => ({ _tag: "Unknown", error }))
        },
        onSuccess: ({ sentAt, value }) =>
          value.map((reply, index): Renewal => {
            if (reply === "ok") return { _tag: "Confirmed", confirmedAt: sentAt }
            const entry = entries.get(held[index]!.claim.id)
            if (entry !== undefined) forget(entry)
            return { _tag: reply === "expired" ? "Gone" : "Replaced" }
          })
      }
    )

  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    held.length <= renewalsPerCall
      ? renewSome(held)
      : Effect.map(
        Effect.forEach(chunks(held, renewalsPerCall), renewSome, { concurrency: "unbounded" }),
        (answers) => answers.flat()
      )

  /** Tells the server that these claims of one lock still wait, and takes in how they stand. */
  const refresh = (group: Group, due: ReadonlyArray<Entry>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const claims = due.map(({ claim }) => ({
        id: claim.id,
        ttl: Duration.toMillis(claim.ttl),
        guard: Duration.toMillis(claim.guardGap)
      }))
      const limit = Math.min(options.callLimit, ...claims.map(({ ttl }) => ttl / 4))
      return port.run(Scripts.refresh, { names: group.names, inbox: port.inbox, claims }).pipe(
        Effect.timeoutOption(limit),
        Effect.match({
          onFailure: (failure) => due.forEach((entry) => postpone(entry, failure.cause)),
          onSuccess: (reply) =>
            reply._tag === "None"
              ? due.forEach((entry) => postpone(entry, new Error("Redis did not answer in time")))
              : reply.value.value.forEach((answer, index) => isRefreshed(due[index]!, reply.value.sentAt, answer))
        })
      )
    })

  const isRefreshed = (entry: Entry, sentAt: bigint, reply: Scripts.Granted | Scripts.Queued | Scripts.Gone): void => {
    if (entry.state !== "queued") return
    switch (reply._tag) {
      case "Granted":
        return void isGranted(entry, reply.token, sentAt)
      case "Queued":
        return isQueued(entry, sentAt, reply)
      case "Gone":
        forget(entry)
        Deferred.doneUnsafe(entry.granted, Effect.succeed({ _tag: "Gone" }))
    }
  }

  /** No answer: again soon, until the place in the queue can no longer be alive. */
  const postpone = (entry: Entry, cause: Error): void => {
    if (entry.state !== "queued") return
    const at = now()
    if (at >= toMillis(entry.confirmedAt) + Duration.toMillis(entry.claim.ttl)) {
      const error = new LockBackendError({ operation: "wait", retryable: true, cause })
      entry.refreshAt = Infinity
      return void Deferred.doneUnsafe(entry.granted, Effect.fail(error))
    }
    entry.refreshAt = at + Math.min(Duration.toMillis(entry.claim.ttl) / 10, 500)
  }

  const refreshDue = (): void => {
    const at = now()
    for (const group of waiting.groups.values()) {
      if (group.asking) continue
      const due = waiting.due(group, at)
      if (due.length === 0) continue
      group.asking = true
      fork(
        Effect.forEach(chunks(due, refreshesPerCall), (some) => refresh(group, some), { discard: true }).pipe(
          Effect.ensuring(Effect.sync(() => {
            group.asking = false
            stirred.openUnsafe()
          }))
        )
      )
    }
  }

  const hear = (message: string): void => {
    const push = Scripts.decodePush(message)
    if (push === undefined) return
    if (push._tag === "Wake") {
      waiting.hurry(now(), push.lock)
      return void stirred.openUnsafe()
    }
    const entry = entries.get(push.id)
    if (entry === undefined) {
      // A late ghost, or somebody else's joke: either way nobody here will ever release it.
      const lock = names(push.lock)
      return lock === undefined ? undefined : leaveBehind(lock, push.id)
    }
    if (entry.state !== "asking" && entry.state !== "queued") return
    const sentAt = entry.baseOf(push.token, clock.monotonicTimeNanosUnsafe())
    if (sentAt !== undefined) return void isGranted(entry, push.token, sentAt)
    entry.refreshAt = 0
    stirred.openUnsafe()
  }

  // Those who still wait when the store goes would never hear of it. They withdraw by themselves; the same once more,
  // behind them on the one connection, tells when that is done.
  yield* Effect.addFinalizer(() => {
    const left = Array.from(entries.values()).filter(({ state }) => state !== "held")
    const cause = new Error("the store has been closed")
    const failed = Effect.fail(new LockBackendError({ operation: "wait", retryable: false, cause }))
    for (const entry of left) Deferred.doneUnsafe(entry.granted, failed)
    const leave = ({ claim, names, unanswered }: Entry) =>
      Effect.ignore(port.run(Scripts.leave, { names, id: claim.id, mark: unanswered > 0, interop: false }))
    return Effect.timeoutOption(Effect.forEach(left, leave, { concurrency: "unbounded" }), options.callLimit)
  })

  port.onMessage(hear)
  port.onReconnect(() => {
    waiting.hurry(now())
    stirred.openUnsafe()
  })

  // One loop for all that wait. It sleeps without a timer while nobody does.
  let probeAt = Infinity
  yield* Effect.gen(function*() {
    while (true) {
      stirred.closeUnsafe()
      refreshDue()
      const at = now()
      if (waiting.groups.size === 0) probeAt = Infinity
      else if (probeAt === Infinity) probeAt = at + probePeriod
      else if (probeAt <= at) {
        probeAt = at + probePeriod
        fork(port.probe)
      }
      sleepsUntil = Math.min(waiting.nextAt(), probeAt)
      yield* sleepsUntil === Infinity
        ? stirred.await
        : Effect.timeoutOption(stirred.await, Math.max(1, Math.ceil(sleepsUntil - at)))
    }
  }).pipe(Effect.forkScoped)

  return LockStore.of({ request, renew, withdraw, losses: Stream.empty })
})

const renewalsPerCall = 256
const refreshesPerCall = 100
const probePeriod = 5_000

const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000

const labelOf = (holder: Scripts.Holder | undefined): string | undefined =>
  holder === undefined || holder.foreign ? undefined : holder.label

const chunks = <A>(all: ReadonlyArray<A>, size: number): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, index) => all.slice(index * size, (index + 1) * size))
