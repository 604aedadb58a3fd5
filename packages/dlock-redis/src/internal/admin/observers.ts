/** Who in this process observes which lock. */

import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import type { LockKeys } from "../protocol/keys.ts"
import { toMillis } from "../store/trackedClaim.ts"

/** A lock that is observed. All who observe it share one registration. */
interface Observed {
  readonly keys: LockKeys
  readonly listeners: Set<() => void>
  /** When the server was last asked to tell of changes, and did so. Undefined before that. */
  registeredAt: number | undefined
  /** Keeps this process registered. */
  keeping: Fiber.Fiber<never> | undefined
}

export interface Observers {
  /** Emits when the lock may have changed. Without keys there is no such lock, and it never emits. */
  readonly changes: (keys: LockKeys | undefined) => Stream.Stream<void>
}

/**
 * Registers this process's inbox with locks that it observes, as long as it does. The server tells it of changes until the
 * registration expires, so that a process that died costs little for a short time. Where the server may have told nothing
 * for a while, everything may have changed.
 */
export const make = Effect.fnUntraced(function*(port: Port): Effect.fn.Return<Observers, never, Scope.Scope> {
  const fork = yield* FiberSet.makeRuntime<never>()
  const clock = yield* Clock.clockWith(Effect.succeed)
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  const isCounted = port.slotOf === undefined
  const all = new Map<string, Observed>()

  const tell = (observed: Observed): void => observed.listeners.forEach((listener) => listener())

  const register = (observed: Observed, isFirst: boolean) => {
    const note = (askedAt: number | undefined): void => {
      const before = observed.registeredAt
      observed.registeredAt = askedAt
      const isWithoutGap = isFirst || (before !== undefined && now() - before < registeredFor)
      // Those whom the server does not tell have to ask.
      if (askedAt === undefined || !isWithoutGap) tell(observed)
    }
    return Effect.match(
      Effect.suspend(() => {
        const askedAt = now()
        const args = { keys: observed.keys, inbox: port.inbox, time: registeredFor, isCounted }
        return Effect.map(port.run(Scripts.observe, args), ({ value }) => value ? askedAt : undefined)
      }),
      { onFailure: () => note(undefined), onSuccess: note }
    )
  }

  const keep = (observed: Observed): Effect.Effect<never> =>
    Effect.andThen(
      register(observed, true),
      Effect.forever(Effect.andThen(
        Effect.suspend(() => Effect.sleep(observed.registeredAt === undefined ? againAfter : registerEach)),
        Effect.suspend(() => register(observed, false))
      ))
    )

  const add = (keys: LockKeys, listener: () => void): Observed => {
    let observed = all.get(keys.lock)
    if (observed === undefined) {
      observed = { keys, listeners: new Set(), registeredAt: undefined, keeping: undefined }
      all.set(keys.lock, observed)
      observed.keeping = fork(keep(observed))
    }
    observed.listeners.add(listener)
    return observed
  }

  const remove = (observed: Observed, listener: () => void): void => {
    const { keeping, keys, listeners } = observed
    listeners.delete(listener)
    if (listeners.size > 0) return
    all.delete(keys.lock)
    keeping?.interruptUnsafe()
    fork(Effect.ignore(port.run(Scripts.observe, { keys, inbox: port.inbox, time: 0, isCounted })))
  }

  port.onMessage((message) => {
    if (all.size === 0 || !message.startsWith("o:")) return
    const notification = Scripts.decodeNotification(message)
    const observed = notification?._tag === "Changed" ? all.get(notification.lock) : undefined
    if (observed !== undefined) tell(observed)
  })
  // Messages may have been lost, and the server may be another one.
  port.onReconnect(() => {
    for (const observed of all.values()) {
      observed.registeredAt = undefined
      fork(register(observed, false))
    }
  })

  return {
    changes: (keys) =>
      keys === undefined ? Stream.never : Stream.callback<void>((queue) => {
        const listener = () => void Queue.offerUnsafe(queue, undefined)
        return Effect.acquireRelease(
          Effect.sync(() => add(keys, listener)),
          (observed) => Effect.sync(() => remove(observed, listener))
        )
        // Several hints are as good as one.
      }, { bufferSize: 1, strategy: "sliding" })
  }
})

/** Milliseconds for which the server tells of changes after a registration. */
const registeredFor = 15_000
/** Milliseconds until a registration is renewed. */
const registerEach = 5_000
/** And until one that failed or was refused is repeated: often enough to see that nobody holds a lock for a second. */
const againAfter = 500
