import { LockBackendError } from "effect-dlock/LockError"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import { chunks } from "./chunks.ts"
import { type Claims, toMillis } from "./claims.ts"
import type { Entry } from "./entry.ts"
import { silent } from "./failure.ts"
import type { Port } from "./port.ts"
import * as Scripts from "./scripts.ts"
import type { Group } from "./waiting.ts"

/** What is to be done when a waiting claim asked how it stands, and is no longer queued. */
export interface Outcomes {
  readonly granted: (entry: Entry, token: bigint, sentAt: bigint) => void
  readonly gone: (entry: Entry) => void
}

/**
 * Keeps the places of those who wait: one loop for all of them, which tells the server in time that they are still
 * there and takes in how they stand. It sleeps without a timer while nobody waits.
 */
export const keep = Effect.fnUntraced(function*(
  port: Port,
  claims: Claims,
  callLimit: number,
  outcomes: Outcomes
) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const { stirred, waiting } = claims
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())

  /** Tells the server that these claims of one lock still wait, and takes in how they stand. */
  const refresh = (group: Group, due: ReadonlyArray<Entry>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const asked = due.map(({ claim }) => ({
        id: claim.id,
        ttl: Duration.toMillis(claim.ttl),
        guard: Duration.toMillis(claim.guardGap)
      }))
      const limit = Math.min(callLimit, ...asked.map(({ ttl }) => ttl / 4))
      return port.run(Scripts.refresh, { names: group.names, inbox: port.inbox, claims: asked }).pipe(
        Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.fail(silent) }),
        Effect.match({
          onFailure: ({ cause }) => due.forEach((entry) => postpone(entry, cause)),
          onSuccess: ({ sentAt, value }) => value.forEach((answer, index) => isRefreshed(due[index]!, sentAt, answer))
        })
      )
    })

  const isRefreshed = (entry: Entry, sentAt: bigint, reply: Scripts.Granted | Scripts.Queued | Scripts.Gone): void => {
    if (entry.state !== "queued") return
    switch (reply._tag) {
      case "Granted":
        return outcomes.granted(entry, reply.token, sentAt)
      case "Queued":
        return claims.isQueued(entry, sentAt, reply)
      case "Gone":
        return outcomes.gone(entry)
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

  let probeAt = now() + probePeriod
  yield* Effect.gen(function*() {
    while (true) {
      stirred.closeUnsafe()
      refreshDue()
      const at = now()
      const waits = waiting.groups.size > 0
      // However short each wait is: the first one after the period looks whether the inbox still hears.
      if (waits && probeAt <= at) {
        probeAt = at + probePeriod
        fork(port.probe)
      }
      claims.sleepsUntil = waits ? Math.min(waiting.nextAt(), probeAt) : Infinity
      yield* claims.sleepsUntil === Infinity
        ? stirred.await
        : Effect.timeoutOption(stirred.await, Math.max(1, Math.ceil(claims.sleepsUntil - at)))
    }
  }).pipe(Effect.forkScoped)
})

const refreshesPerCall = 100
const probePeriod = 5_000
