/** The failures of a call to etcd, and what each tells about its request. */

import { LockBackendError } from "effect-dlock/LockError"

/** A call that failed. Unless `notDone`, the server may have executed the request, or may still execute it. */
export interface CallFailure {
  readonly _tag: "CallFailure"
  /** The request was not executed and never will be: the server refused it, or it was never sent. */
  readonly notDone: boolean
  /** Repeating the call may succeed without a change to the server or its settings. */
  readonly retryable: boolean
  /** The lease that the request named has ended. Nothing was executed, and nothing on that lease exists any more. */
  readonly leaseGone: boolean
  readonly cause: Error
}

/** Refusals by the server. It also names itself in errors about requests that may still be executed: they are excluded. */
const refusal = /etcdserver: (?!request timed out|leader changed|no leader|not capable|server stopped)/

/** Refusals of an auth token that expired, or is older than a change of the users. Each member decides this by itself. */
const ofToken = /invalid auth token|revision of auth store is old/

/** Refusals that concern one member. Another member may execute the request. */
const ofMember = /not supported for learner|too many requests|corrupt cluster/

/** The client's messages for a request that it did not send, because it had no connection. */
const unsent = /No connection established|Waiting for LB pick|Name resolution failed/

/** Refusals of the credentials or of the request: repeating the request does not help. */
const lasting =
  /permission denied|authentication failed|user name is empty|auth.* not enabled|PERMISSION_DENIED|INVALID_ARGUMENT|UNIMPLEMENTED|certificate|self.signed/i

/** Refusals that continue until an administrator repairs the server or changes its settings. */
const untilMended = /database space exceeded|too many operations in txn|request is too large/

export const isOfMember = (error: Error): boolean => ofMember.test(error.message) || ofToken.test(error.message)

/** Whether a transaction has more operations than the server allows. */
export const isTooLarge = ({ message }: Error): boolean => /too many operations/.test(message)

export const isUnsent = (error: Error): boolean => unsent.test(error.message)

/** Whether a new auth token may help a client that has credentials. */
export const isAboutToken = (error: unknown): boolean => {
  const { message } = sanitized(error)
  return ofToken.test(message) || message.includes("user name is empty")
}

export const isWithoutAuth = (error: unknown): boolean => /authentication is not enabled/.test(sanitized(error).message)

export const isLasting = (error: Error): boolean => lasting.test(error.message) && !ofToken.test(error.message)

/** An error of the client with its name and message, without the metadata attached to it. */
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

/** The server did not answer in time. */
export const silentFailure: CallFailure = {
  _tag: "CallFailure",
  notDone: false,
  retryable: true,
  leaseGone: false,
  cause: new Error("etcd did not answer in time")
}

/** The layer was closed while the call waited. */
export const closedFailure: CallFailure = {
  _tag: "CallFailure",
  notDone: true,
  retryable: false,
  leaseGone: false,
  cause: new Error("the locker has been closed")
}

/** A claim of a newer version of this library is on the key. What it means cannot be known. */
export const newerFailure: CallFailure = {
  _tag: "CallFailure",
  notDone: true,
  retryable: false,
  leaseGone: false,
  cause: new Error("a newer version of this library uses the key: update this process")
}

export const backendError = (operation: LockBackendError["operation"]) => (failure: CallFailure): LockBackendError =>
  new LockBackendError({ operation, retryable: failure.retryable, cause: failure.cause })
