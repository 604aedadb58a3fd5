/** What a call to etcd can fail with, and what that says of the request. */

import { LockBackendError } from "effect-dlock/LockError"

/**
 * A call that brought no answer. What it asked for may have been done, and may yet be done, unless `notDone`: the
 * server looked at it and refused, or it never left.
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

/** Refusals of a token: it has run out, or the users have changed since it was given. Each member has its own word on that. */
const ofToken = /invalid auth token|revision of auth store is old/

/** What one member says of itself. Another may well do what it will not. */
const ofMember = /not supported for learner|too many requests|corrupt cluster/

/** The client's own words for what it did not send, since there was no connection. */
const unsent = /No connection established|Waiting for LB pick|Name resolution failed/

/** Refusals of who we are or of what we ask: no repetition mends them. */
const lasting =
  /permission denied|authentication failed|user name is empty|auth.* not enabled|PERMISSION_DENIED|INVALID_ARGUMENT|UNIMPLEMENTED|certificate|self.signed/i

/** Refusals that stand until somebody mends the server or its settings. */
const untilMended = /database space exceeded|too many operations in txn|request is too large/

export const isOfMember = (error: Error): boolean => ofMember.test(error.message) || ofToken.test(error.message)

/** It has more operations than the server takes in one transaction. */
export const isTooLarge = ({ message }: Error): boolean => /too many operations/.test(message)

export const isUnsent = (error: Error): boolean => unsent.test(error.message)

/** May another token help a client that has credentials? */
export const isAboutToken = (error: unknown): boolean => {
  const { message } = sanitized(error)
  return ofToken.test(message) || message.includes("user name is empty")
}

export const isWithoutAuth = (error: unknown): boolean => /authentication is not enabled/.test(sanitized(error).message)

export const isLasting = (error: Error): boolean => lasting.test(error.message) && !ofToken.test(error.message)

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
    notDone: refusal.test(cause.message) || isUnsent(cause) || isLasting(cause),
    retryable: !isLasting(cause) && !untilMended.test(cause.message),
    leaseGone: /requested lease not found|is expired or revoked/.test(cause.message),
    cause
  }
}

/** The server gave no answer in time. */
export const silentFailure: CallFailure = {
  _tag: "CallFailure",
  notDone: false,
  retryable: true,
  leaseGone: false,
  cause: new Error("etcd did not answer in time")
}

/** The layer has been closed, and those who still wait are told. */
export const closedFailure: CallFailure = {
  _tag: "CallFailure",
  notDone: true,
  retryable: false,
  leaseGone: false,
  cause: new Error("the locker has been closed")
}

export const backendError = (operation: LockBackendError["operation"]) => (failure: CallFailure): LockBackendError =>
  new LockBackendError({ operation, retryable: failure.retryable, cause: failure.cause })
