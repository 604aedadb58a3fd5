/** The errors of calls, and whether a script may have run in spite of them. */

import { LockBackendError } from "effect-dlock/LockError"
import type { CallFailure } from "./port.ts"

/**
 * Replies after which the script cannot have started. Any other error may have come from within a script, and what a
 * script wrote before an error stays written. A user who lacks a permission is refused at the start or in the midst of a
 * script, and in the midst the server names the script.
 */
const refusals =
  /^((NOSCRIPT|LOADING|READONLY|OOM|NOREPLICAS|MASTERDOWN|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|BUSY|NOAUTH|WRONGPASS|MISCONF)\b|NOPERM (?!.*\bscript\b))/

/** The client's own words for what it did not send. */
const unsent = /^(Stream|Cluster) isn't (writeable|ready) and enableOfflineQueue/

/** Refusals that a server's operator or its own recovery lifts. */
const passing = /^(LOADING|READONLY|OOM|NOREPLICAS|MASTERDOWN|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|BUSY|MISCONF)\b/

/** Refusals of who we are, or of who they are: no repetition mends them. */
const credentials = /\b(WRONGPASS|NOAUTH|NOPERM)\b|invalid (username-)?password|AUTH failed|certificate/i

/** The server's own words: each client has a class of its own for them, but they begin with a code. */
export const isReply = (error: Error): boolean =>
  error.name === "ReplyError" || refusals.test(error.message) ||
  /^(ERR|WRONG[A-Z]+|NOPERM|CROSSSLOT) /.test(error.message)

/** The server's own word, which no repetition of the same request changes. */
export const isFinal = (error: Error): boolean => isReply(error) && !passing.test(error.message)

export const isRefusedCredentials = (error: Error): boolean => credentials.test(error.message)

/** What a cluster's client puts before the last of several refusals: none of them let the script start. */
const redirected = /^Too many Cluster redirections\. Last error: (ReplyError: )?/

/** How a server asks for a password that HELLO did not bring: at length, and about what our users never see. */
const asksForPassword = /NOAUTH HELLO must be called with the client already authenticated.*?same time/
const missing = "NOAUTH the server asks for a password, and none was given"

/**
 * An error of the client as we pass it on: its name and words, without the command and its arguments that the client
 * hangs on it, and without the user and password of an address.
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

/** The same with the reason, which is final where no repetition mends it. */
export const notConnectedNow = (reason: Error | undefined, final: boolean): CallFailure =>
  reason === undefined
    ? notSent
    : { ...notSent, retryable: !final, cause: new Error(`${notSent.cause.message}: ${reason.message}`) }

/** The layer has gone. */
export const closed: CallFailure = {
  _tag: "CallFailure",
  notDone: false,
  retryable: false,
  cause: new Error("the locker has been closed")
}

/** A server that did not answer in the time that a call has. */
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

/** What came back is none of the script's replies: another program answers on this address, or another version. */
export const unusable = (error: unknown): CallFailure => ({
  _tag: "CallFailure",
  notDone: false,
  retryable: false,
  cause: sanitized(error)
})

/** The same with a likely cause, where a client's words do not lead to it. */
export const explained = (error: Error, secure: boolean): Error => {
  const { message } = error
  const hint = secure && /ETIMEDOUT|ECONNRESET|EPIPE|wrong version|packet length|disconnected before/i.test(message)
    ? "if this port has no TLS, the address must begin with redis:, not rediss:"
    : !secure && /ECONNRESET|EPIPE|Protocol error|Connection is closed/.test(message)
    ? "is this a Redis without TLS? With TLS the address must begin with rediss:"
    : undefined
  return hint === undefined ? error : new Error(`${message} (${hint})`)
}

/** Why a layer is not built. */
export const notConnected = (cause: Error, retryable: boolean): LockBackendError =>
  new LockBackendError({ operation: "connect", retryable, cause })

export const backendError = (operation: LockBackendError["operation"]) => (failure: CallFailure): LockBackendError =>
  new LockBackendError({ operation, retryable: failure.retryable, cause: failure.cause })
