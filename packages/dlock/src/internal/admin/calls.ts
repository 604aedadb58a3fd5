import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { LockAdmin, LockName, LockState } from "../../LockAdmin.ts"
import { type InvalidLockRequest, LockBackendError } from "../../LockError.ts"
import type { LockInfo } from "../../LockInfo.ts"
import type { RevokeOptions } from "../../LockOptions.ts"
import { invalidRequest } from "../options/invalidRequest.ts"
import { problemOfName, problemOfPart } from "../options/keys.ts"
import { about, usualGuardGap } from "../options/request.ts"
import * as Rules from "../options/rules.ts"
import type { Settings } from "../options/settings.ts"
import type { CallTimeouts } from "../scheduling/callTimeouts.ts"
import type { Time } from "../scheduling/time.ts"
import * as Timing from "../timing.ts"
import { infoOf } from "./info.ts"
import { untilGone } from "./untilGone.ts"
import { type IsNews, watch } from "./watch.ts"
import type { Watched } from "./watched.ts"

type Admin = LockAdmin["Service"]
type Operation = LockBackendError["operation"]
type Failure = LockBackendError | InvalidLockRequest

/** What these calls need of their locker. */
export interface AdminContext {
  /** Absent if the layer of the store provides none. */
  readonly admin: Admin | undefined
  readonly settings: Settings
  readonly time: Time
  readonly timeouts: CallTimeouts
  readonly isClosed: () => boolean
}

/** The calls of a locker about locks as seen from outside: who holds them, who waits, and to take them away. */
export class AdminCalls {
  private readonly context: AdminContext

  constructor(context: AdminContext) {
    this.context = context
  }

  readonly inspect = (key: string): Effect.Effect<LockInfo, Failure> =>
    Effect.suspend(() => {
      const admin = this.find(key, "inspect")
      return isAbsent(admin)
        ? Effect.fail(admin)
        : Effect.map(this.inspectBy(admin, key, "inspect"), (state) => this.infoOf(state))
    })

  readonly list = (prefix = ""): Stream.Stream<LockInfo, Failure> =>
    Stream.suspend((): Stream.Stream<LockInfo, Failure> => {
      const { prefix: own } = this.context.settings
      const wrong = problemOfPart(prefix, own)
      if (wrong !== undefined) return Stream.fail(invalidRequest(prefix, "prefix", wrong))
      const admin = this.findOpen(prefix, "list")
      if (isAbsent(admin)) return Stream.fail(admin)
      // The store limits its own calls: one call may find nothing among very many locks.
      return Stream.mapError(
        admin.list({ key: own + prefix, prefix: own }).pipe(
          Stream.map((state) => this.infoOf(state)),
          // Other applications may have keys in the backend that no caller can ask for.
          Stream.filter(({ key }) => problemOfName(key, own) === undefined)
        ),
        ({ cause, operation, retryable }) => failure(prefix, operation, retryable, cause)
      )
    })

  /** `newsOf`: which states are news. Absent: every one that differs. */
  readonly watchKey = (key: string, newsOf?: () => IsNews): Stream.Stream<LockInfo, Failure> =>
    Stream.suspend(() => {
      const admin = this.find(key, "watch")
      return isAbsent(admin)
        ? Stream.fail(admin)
        : Stream.map(watch(this.watched(admin, key, "watch"), newsOf), (state) => this.infoOf(state))
    })

  readonly revoke = (key: string, options: RevokeOptions): Effect.Effect<"released" | "running" | "notHeld", Failure> =>
    Effect.suspend(() => {
      const parsed = parseRevocation(key, options)
      if (isInvalid(parsed)) return Effect.fail(parsed)
      const admin = this.find(key, "revoke")
      if (isAbsent(admin)) return Effect.fail(admin)
      const { guardGap, holder: by, ttl } = this.context.settings
      const request = { ...parsed, by }
      const ask = (grace: number) =>
        this.limited(key, "revoke", Effect.suspend(() => admin.revoke(this.nameOf(key), { ...request, grace })))
      return Effect.flatMap(ask(parsed.grace), (answer) => {
        if (answer === "notHeld") return Effect.succeed("notHeld")
        if (answer === "foreign") return Effect.succeed("running")
        const patience = parsed.grace + Duration.toMillis(guardGap ?? usualGuardGap(ttl))
        const endsAt = this.context.time.now() + parsed.grace
        const repeat = Effect.suspend(() => ask(Math.max(0, endsAt - this.context.time.now())))
        return untilGone(this.watched(admin, key, "revoke"), parsed.token, {
          // A repeat that gives more time changes nothing, and tells whether the hold is still there.
          isStillHeld: Effect.map(ask(parsed.grace), (repeated) => repeated !== "notHeld"),
          isAskedAnew: Effect.map(repeat, (repeated) => repeated !== "notHeld"),
          patience
        })
      })
    })

  readonly breakLock = (key: string, options: { readonly token: bigint }): Effect.Effect<boolean, Failure> =>
    Effect.suspend(() => {
      const parsed = parseToken(key, options, ["token"])
      if (isInvalid(parsed)) return Effect.fail(parsed)
      const admin = this.find(key, "break")
      return isAbsent(admin)
        ? Effect.fail(admin)
        : this.limited(key, "break", Effect.suspend(() => admin.breakLock(this.nameOf(key), parsed)))
    })

  private nameOf(key: string): LockName {
    const { prefix } = this.context.settings
    return { key: prefix + key, prefix }
  }

  private infoOf(state: LockState): LockInfo {
    return infoOf(state, this.context.settings.prefix)
  }

  /** The admin, or why a call about a key fails before anything is sent. */
  private find(key: string, operation: Operation): Admin | Failure {
    const wrong = problemOfName(key, this.context.settings.prefix)
    return wrong === undefined ? this.findOpen(key, operation) : invalidRequest(key, "key", wrong)
  }

  private findOpen(key: string, operation: Operation): Admin | LockBackendError {
    const { admin, isClosed } = this.context
    const fails = (why: string) => failure(key, operation, false, new Error(why))
    if (isClosed()) return fails("the locker has been closed")
    return admin ?? fails("no LockAdmin was provided with this store, so its locks cannot be seen from outside")
  }

  private inspectBy(admin: Admin, key: string, operation: Operation): Effect.Effect<LockState, LockBackendError> {
    return this.limited(key, operation, Effect.suspend(() => admin.inspect(this.nameOf(key))))
  }

  private watched(admin: Admin, key: string, operation: Operation): Watched {
    return {
      time: this.context.time,
      inspect: Effect.suspend((): Effect.Effect<LockState, LockBackendError> => {
        // It may have closed while somebody watches.
        const found = this.findOpen(key, operation)
        return found instanceof LockBackendError ? Effect.fail(found) : this.inspectBy(admin, key, operation)
      }),
      changes: admin.changes?.(this.nameOf(key))
    }
  }

  /** Fails with the caller's key, and ends in time whatever the store does. */
  private limited<A>(
    key: string,
    operation: Operation,
    call: Effect.Effect<A, LockBackendError>
  ): Effect.Effect<A, LockBackendError> {
    const { settings, timeouts } = this.context
    const cause = new Error("the backend did not answer in time")
    const silent = Effect.suspend(() => Effect.fail(new LockBackendError({ operation, retryable: true, cause })))
    const limit = Timing.adminTimeout(Duration.toMillis(settings.ttl))
    return Effect.uninterruptibleMask((restore) =>
      Effect.mapError(timeouts.limit(call, limit, silent, restore), about(key))
    )
  }
}

/** A list of all locks is about no key. */
const failure = (key: string, operation: Operation, retryable: boolean, cause: unknown): LockBackendError =>
  new LockBackendError({ operation, ...(key !== "" && { key }), retryable, cause })

const isAbsent = (found: Admin | Failure): found is Failure => found instanceof Error

const isInvalid = (parsed: unknown): parsed is InvalidLockRequest => parsed instanceof Error

const parseToken = (
  key: string,
  options: { readonly token: bigint },
  known: ReadonlyArray<string>
): bigint | InvalidLockRequest => {
  if (typeof options !== "object" || options === null) return invalidRequest(key, "options", "must be an object")
  const unknown = Object.keys(options).find((name) => !known.includes(name))
  if (unknown !== undefined) {
    return invalidRequest(key, unknown, `is not an option of this call: there are ${known.join(", ")}`)
  }
  const token: unknown = options.token
  return typeof token === "bigint" ? token : invalidRequest(key, "token", "must be a bigint, as `inspect` tells it")
}

const parseRevocation = (
  key: string,
  options: RevokeOptions
): { readonly token: bigint; readonly grace: number; readonly why?: string } | InvalidLockRequest => {
  const token = parseToken(key, options, ["token", "grace", "why"])
  if (typeof token !== "bigint") return token
  const grace = options.grace === undefined ? Result.succeed(0) : Rules.grace(options.grace)
  if (Result.isFailure(grace)) return invalidRequest(key, "grace", grace.failure)
  if (options.why === undefined) return { token, grace: grace.success }
  const why = Rules.why(options.why)
  if (Result.isFailure(why)) return invalidRequest(key, "why", why.failure)
  return { token, grace: grace.success, why: why.success }
}
