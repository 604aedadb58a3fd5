import { Locker } from "effect-dlock/Locker"
import { LockTimeout } from "effect-dlock/LockError"
import type { HolderInfo, LockInfo } from "effect-dlock/LockInfo"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Root } from "../backend.ts"
import { exitCodes } from "../exitCodes.ts"
import { Failure } from "../failure.ts"
import * as Info from "../info.ts"
import { shown } from "../shown.ts"
import { say } from "./saying.ts"

/**
 * Says who has the lock that a call did not get, and fails with the code for that.
 *
 * The holder is asked for once more: a call that does not wait is not told who is in the way, and none is told since when.
 */
export const failBusy = (
  keys: ReadonlyArray<string>,
  conflict: Option.Option<number>,
  timeout?: LockTimeout
) =>
  Effect.gen(function*() {
    const exitCode = Option.getOrElse(conflict, () => exitCodes.busy)
    const lock = yield* firstHeld(timeout === undefined ? keys : [timeout.key])
    const waited = timeout === undefined || timeout.maxQueue !== undefined
      ? ""
      : `gave up after ${(Duration.toMillis(timeout.waited) / 1_000).toFixed(1)} s: `
    const names = lock?.holders.map(nameOf) ?? (timeout?.holder === undefined ? [] : [shown(timeout.holder)])
    const key = shown(lock?.key ?? timeout?.key ?? keys[0]!)
    const queue = lock === undefined || lock.queueLength === 0 ? "" : `; ${lock.queueLength} wait for it`
    const deadlock = timeout?.deadlock === undefined ? "" : `. ${shown(timeout.message)}`
    yield* say(
      names.length === 0
        ? `${waited}${key} was held by another a moment ago`
        : `${waited}${key} is held by ${names.join(", ")}${queue}${deadlock}`,
      {
        outcome: "busy",
        exitCode,
        ...(timeout !== undefined && { waitedMs: Duration.toMillis(timeout.waited) }),
        ...(lock !== undefined && { lock: Info.toJson(lock) })
      }
    )
    return yield* Effect.fail(new Failure({ message: "", exitCode }))
  })

const firstHeld = (keys: ReadonlyArray<string>): Effect.Effect<LockInfo | undefined, never, Locker> =>
  Effect.gen(function*() {
    for (const key of keys) {
      const info = yield* Effect.option(Locker.inspect(key))
      if (Option.isSome(info) && info.value.holders.length > 0) return info.value
    }
    return undefined
  })

const nameOf = ({ holder, metadata, since }: HolderInfo): string => {
  const facts = Object.entries(metadata).map(([name, value]) => `${shown(name)}=${shown(value)}`)
  const about = facts.length === 0 ? "" : ` (${facts.join(", ")})`
  return `${shown(holder) || "a client of another library"}${about}${
    Option.isSome(since) ? ` since ${DateTime.formatIso(since.value)}` : ""
  }`
}

/** Turns the timeout of a call, or the answer that it did not wait, into that failure. */
export const orBusy = (keys: ReadonlyArray<string>, conflict: Option.Option<number>) =>
<A, E, R>(
  effect: Effect.Effect<Option.Option<A>, E | LockTimeout, R>
): Effect.Effect<A, Exclude<E, LockTimeout> | Failure, R | Locker | Root> =>
  Effect.matchEffect(effect, {
    onFailure: (error): Effect.Effect<never, Exclude<E, LockTimeout> | Failure, Locker | Root> =>
      error instanceof LockTimeout
        ? failBusy(keys, conflict, error)
        : Effect.fail(error as Exclude<E, LockTimeout>),
    onSuccess: Option.match({ onNone: () => failBusy(keys, conflict), onSome: Effect.succeed<A> })
  })
