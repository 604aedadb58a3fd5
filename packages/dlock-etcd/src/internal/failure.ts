import { LockBackendError } from "effect-dlock/LockError"

/**
 * A call that brought no answer. What it asked for may have been done, and may yet be done, unless `notDone`: the
 * server looked at it and refused.
 */
export interface CallFailure {
  readonly _tag: "CallFailure"
  readonly notDone: boolean
  readonly retryable: boolean
  /** The lease that the request named is gone: nothing was done, and nothing on that lease exists any more. */
  readonly leaseGone: boolean
  readonly cause: Error
}

/** Answers of the server itself, which names itself in them; not those that it gives while the request is on its way. */
const refusal = /etcdserver: (?!request timed out|leader changed|no leader|not capable|server stopped)/

/** Refusals of who we are or of what we ask: no repetition mends them. */
const lasting =
  /permission denied|authentication failed|user name is empty|invalid auth|auth.* not enabled|PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ARGUMENT|UNIMPLEMENTED|certificate|self.signed/i

export const isLasting = (error: Error): boolean => lasting.test(error.message)

/** An error of the client as we pass it on: its name and words, without the metadata that hangs on it. */
export const sanitized = (error: unknown): Error => {
  const { message, name } = (error ?? {}) as { readonly message?: unknown; readonly name?: unknown }
  const clean = new Error(typeof message === "string" && message !== "" ? message : "unknown failure")
  clean.name = typeof name === "string" ? name : "Error"
  return clean
}

export const fromClient = (error: unknown): CallFailure => {
  const cause = sanitized(error)
  return {
    _tag: "CallFailure",
    notDone: refusal.test(cause.message) || isLasting(cause),
    retryable: !isLasting(cause),
    leaseGone: /requested lease not found|is expired or revoked/.test(cause.message),
    cause
  }
}

export const silent: CallFailure = {
  _tag: "CallFailure",
  notDone: false,
  retryable: true,
  leaseGone: false,
  cause: new Error("etcd did not answer in time")
}

/** The layer has been closed under whoever still waits. */
export const isClosed: CallFailure = {
  _tag: "CallFailure",
  notDone: true,
  retryable: false,
  leaseGone: false,
  cause: new Error("the store is closed")
}

export const backendError = (operation: LockBackendError["operation"]) => (failure: CallFailure): LockBackendError =>
  new LockBackendError({ operation, retryable: failure.retryable, cause: failure.cause })
