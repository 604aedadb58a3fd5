/** The errors of calls. They tell whether the script may have run. */

import { LockBackendError } from "effect-dlock/LockError"
import type { CallFailure } from "./port.ts"

/**
 * Replies that the server sends only before a script starts. Any other error may come from inside a script, and what
 * the script wrote before the error stays written. A user without a permission is refused either before the script or
 * inside it. Inside a script, the server's message mentions the script.
 */
const refusals =
  /^((NOSCRIPT|LOADING|READONLY|OOM|NOREPLICAS|MASTERDOWN|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|BUSY|NOAUTH|WRONGPASS|MISCONF)\b|NOPERM (?!.*\bscript\b))/

/** The client's errors for requests that it did not send. */
const unsent = /^(Stream|Cluster) isn't (writeable|ready) and enableOfflineQueue/

/** Refusals that end when the operator acts or the server recovers. */
const passing = /^(LOADING|READONLY|OOM|NOREPLICAS|MASTERDOWN|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|BUSY|MISCONF)\b/

/** Refusals of our credentials, or of the server's certificate. Repeating the request cannot succeed. */
const credentials = /\b(WRONGPASS|NOAUTH|NOPERM)\b|invalid (username-)?password|AUTH failed|certificate/i

/**
 * Whether the server sent this error. Each client has its own class for such errors, but all of them begin with a code.
 */
export const isReply = (error: Error): boolean =>
  error.name === "ReplyError" || refusals.test(error.message) ||
  /^(ERR|WRONG[A-Z]+|NOPERM|CROSSSLOT) /.test(error.message)

/** Whether the server sent this error, and would send it again for the same request. */
export const isFinal = (error: Error): boolean => isReply(error) && !passing.test(error.message)

export const isRefusedCredentials = (error: Error): boolean => credentials.test(error.message)

/**
 * The text that a cluster's client puts in front of the last of several refusals. None of them let the script start.
 */
const redirected = /^Too many Cluster redirections\. Last error: (ReplyError: )?/

/**
 * How a server asks for a password after a HELLO without one. The text is long and describes commands that our users do
 * not see.
 */
const asksForPassword = /NOAUTH HELLO must be called with the client already authenticated.*?same time/
const missing = "NOAUTH the server asks for a password, and none was given"

/**
 * A copy of a client's error that is safe to pass on: its name and message, without the command and arguments that the
 * client attaches, and without the user and password of an address.
 */
export const sanitized = (error: unknown): Error => {
  const { code, message, name } = (error ?? {}) as { readonly [field in "code" | "message" | "name"]?: unknown }
  const words = [message, code, "unknown failure"].find((text) => typeof text === "string" && text !== "") as string
  const clean = new Error(
    words.replace(/\/\/[^@/\s]*@/g, "//").replace(redirected, "").replace(asksForPassword, missing)
  )
  clean.name = typeof name === "string" ? name : "Error"
  return clean
}

export const notSent: CallFailure = {
  _tag: "CallFailure",
  notDone: true,
  retryable: true,
  cause: new Error("Redis is not connected")
}

/**
 * The failure of a call without a connection, with the reason. It is final if the same request cannot succeed later.
 */
export const notConnectedNow = (reason: Error | undefined, final: boolean): CallFailure =>
  reason === undefined
    ? notSent
    : { ...notSent, retryable: !final, cause: new Error(`${notSent.cause.message}: ${reason.message}`) }

/** The failure of a call after the layer was closed. */
export const closed: CallFailure = {
  _tag: "CallFailure",
  notDone: false,
  retryable: false,
  cause: new Error("the locker has been closed")
}

/** The failure of a call that got no answer within its time limit. */
export const silent: CallFailure = {
  _tag: "CallFailure",
  notDone: false,
  retryable: true,
  cause: new Error("Redis did not answer in time")
}

export const connectionLost: CallFailure = {
  ...silent,
  cause: new Error("The connection to Redis was lost before the reply came")
}

export const fromClient = (error: unknown): CallFailure => {
  const cause = sanitized(error)
  const reply = isReply(cause)
  return {
    _tag: "CallFailure",
    notDone: reply ? refusals.test(cause.message) : unsent.test(cause.message),
    retryable: !reply || passing.test(cause.message),
    cause
  }
}

/**
 * The failure for a reply that is not a reply of the script. Another program or another version answers at this
 * address.
 */
export const unusable = (error: unknown): CallFailure => ({
  _tag: "CallFailure",
  notDone: false,
  retryable: false,
  cause: sanitized(error)
})

/** The same error with a likely cause, where the client's message does not suggest it. */
export const explained = (error: Error, secure: boolean): Error => {
  const { message } = error
  const hint = secure && /ETIMEDOUT|ECONNRESET|EPIPE|wrong version|packet length|disconnected before/i.test(message)
    ? "if this port has no TLS, the address must begin with redis:, not rediss:"
    : !secure && /ECONNRESET|EPIPE|Protocol error|Connection is closed/.test(message)
    ? "is this a Redis without TLS? With TLS the address must begin with rediss:"
    : undefined
  return hint === undefined ? error : new Error(`${message} (${hint})`)
}

/** The error of a layer that could not connect. */
export const notConnected = (cause: Error, retryable: boolean): LockBackendError =>
  new LockBackendError({ operation: "connect", retryable, cause })

export const backendError = (operation: LockBackendError["operation"]) => (failure: CallFailure): LockBackendError =>
  new LockBackendError({ operation, retryable: failure.retryable, cause: failure.cause })
