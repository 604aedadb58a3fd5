/** What all scripts share: the encoding of calls and the decoding of replies. */

import type { LockKind } from "effect-dlock/LockError"
import { createHash } from "node:crypto"
import { baseKeys } from "./format.ts"
import type { LockKeys } from "./keys.ts"

/** The keys and the arguments of a call, which follow the number of keys in `EVALSHA sha numberOfKeys`. */
export class Call {
  /** The lock whose keys come first, if the script is about one lock. */
  readonly lock: LockKeys | undefined
  readonly moreKeys: ReadonlyArray<string>
  readonly args: ReadonlyArray<string>

  constructor(lock: LockKeys | undefined, moreKeys: ReadonlyArray<string>, args: ReadonlyArray<string>) {
    this.lock = lock
    this.moreKeys = moreKeys
    this.args = args
  }

  get keys(): ReadonlyArray<string> {
    return this.lock === undefined ? this.moreKeys : [...baseKeys(this.lock), ...this.moreKeys]
  }
}

export type ScriptName =
  | "acquire"
  | "acquireAll"
  | "breakHold"
  | "confirm"
  | "count"
  | "findHold"
  | "inspect"
  | "observe"
  | "peek"
  | "refresh"
  | "release"
  | "releaseAll"
  | "renew"
  | "revoke"
  | "run"
  | "shrink"
  | "waiting"

export interface Script<Args, Reply> {
  readonly name: ScriptName
  readonly lua: string
  readonly sha: string
  readonly encode: (args: Args) => Call
  /** One lock of the call. The call goes to the server that has this lock. */
  readonly lockOf: (args: Args) => LockKeys
  /** Throws if the reply is not a reply of this script. */
  readonly decode: (raw: unknown) => Reply
}

/** The holder of the lock, as another claim sees it. Of several holders, the one that expires first. */
export interface Holder {
  /** Empty for a holder of another library, because its value may be a secret. */
  readonly label: string
  /** Milliseconds until the holder's expiry, or -1 if the holder set no expiry. */
  readonly remaining: number
  /** Whether the holder is a client of another library that follows the common lock pattern. */
  readonly foreign: boolean
}

/** What a script reports besides its answer. */
export interface Progress {
  /** Whether the script stopped before it found the next waiter, so as to stay short. Call again to continue. */
  readonly more: boolean
}

/** The token of a grant, as `grantOf` reads it. */
export interface Token {
  readonly token: bigint
  /** Whether others wait behind the claim. */
  readonly isContended: boolean
}

export interface Granted extends Token {
  readonly _tag: "Granted"
}

export interface Queued {
  readonly _tag: "Queued"
  /** No grant of this claim so far has a greater token. */
  readonly floor: bigint
  /** 0 at the head of the queue. A waiter that was passed over does not count until it asks again. */
  readonly place: number
  /** The number of waiters, with this one and without those that were passed over. */
  readonly length: number
  readonly holder: Holder | undefined
}

export interface Busy {
  readonly _tag: "Busy"
  readonly length: number
  readonly holder: Holder | undefined
}

/** One of the claims in `inside` already holds the key. */
export interface AlreadyHeld {
  readonly _tag: "AlreadyHeld"
  /** The token of that claim. */
  readonly token: bigint
}

/** The claim was withdrawn before this request ran. */
export interface Cancelled {
  readonly _tag: "Cancelled"
}

/** The key is in use by another kind of lock, or with another capacity. */
export interface Mismatch {
  readonly _tag: "Mismatch"
  readonly kind: LockKind
  readonly capacity: number
}

/** The claim is neither held nor queued. */
export interface Gone {
  readonly _tag: "Gone"
}

/** The claim is held, and is never extended again, because its holder was asked to leave. */
export interface Revoked {
  readonly _tag: "Revoked"
}

export const whole = (value: number): string => String(Math.ceil(value))

export const unexpected = (raw: unknown): Error =>
  new Error(
    `Unexpected reply ${
      JSON.stringify(raw)
    }: is this a Redis, and do all processes use the same version of effect-dlock-redis?`
  )

export const list = (raw: unknown): ReadonlyArray<unknown> => {
  if (Array.isArray(raw)) return raw
  throw unexpected(raw)
}

export const holderOf = (kind: unknown, label: unknown, remaining: unknown): Holder | undefined =>
  kind === "free" ? undefined : { label: String(label), remaining: Number(remaining), foreign: kind === "foreign" }

/**
 * Reads the token of a grant. It has a zero in front if others wait behind the claim: versions that do not know this read
 * the same number.
 */
export const grantOf = (text: string): Token => ({ token: BigInt(text), isContended: text.startsWith("0") })

export const claimReply = (raw: unknown): Granted | Queued | Gone | Revoked => {
  const [tag, ...rest] = list(raw)
  switch (tag) {
    case "granted":
      return { _tag: "Granted", ...grantOf(String(rest[0])) }
    case "queued":
      return {
        _tag: "Queued",
        floor: BigInt(String(rest[0])),
        place: Number(rest[1]),
        length: Number(rest[2]),
        holder: holderOf(rest[3], rest[4], rest[5])
      }
    case "gone":
      return { _tag: "Gone" }
    case "revoked":
      return { _tag: "Revoked" }
    default:
      throw unexpected(raw)
  }
}

export const make = <Args, Reply>(script: Omit<Script<Args, Reply>, "sha">): Script<Args, Reply> => ({
  ...script,
  sha: createHash("sha1").update(script.lua).digest("hex")
})
