/** What all scripts have in common: how their calls are encoded and their replies decoded. */

import { createHash } from "node:crypto"
import { baseKeys } from "./format.ts"
import type { LockKeys } from "./keys.ts"

/** What `EVALSHA sha numberOfKeys` takes after those: the keys, then the arguments. */
export class Call {
  /** The lock whose keys come first, where the script is about one. */
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

export interface Script<Args, Reply> {
  readonly name: string
  readonly lua: string
  readonly sha: string
  readonly encode: (args: Args) => Call
  /** A lock of the call: where it goes, the call goes. */
  readonly lockOf: (args: Args) => LockKeys
  /** Throws where the reply is not one of this script's. */
  readonly decode: (raw: unknown) => Reply
}

/** Who holds the lock as seen by a claim that does not: of several holders the one that expires first. */
export interface Holder {
  /** Empty for a foreign holder, whose value may be its secret. */
  readonly label: string
  /** Milliseconds, or -1 where the holder set no expiry. */
  readonly remaining: number
  /** A client that follows the common lock pattern, not one of ours. */
  readonly foreign: boolean
}

/** What a script says beside its answer. */
export interface Progress {
  /** It stopped before it found who is next, so as to stay short: ask for it to go on. */
  readonly more: boolean
}

export interface Granted {
  readonly _tag: "Granted"
  readonly token: bigint
}

export interface Queued {
  readonly _tag: "Queued"
  /** No grant of this claim so far has a greater token. */
  readonly floor: bigint
  /** 0 at the head. Who was passed over does not count until it asks again. */
  readonly place: number
  /** Claims that wait and were not passed over, this one included. */
  readonly length: number
  readonly holder: Holder | undefined
}

export interface Busy {
  readonly _tag: "Busy"
  readonly length: number
  readonly holder: Holder | undefined
}

/** One of the claims that it was asked inside holds the key. */
export interface AlreadyHeld {
  readonly _tag: "AlreadyHeld"
  /** The one of that claim. */
  readonly token: bigint
}

/** The claim was withdrawn before this request ran. */
export interface Cancelled {
  readonly _tag: "Cancelled"
}

/** The key is in use with another capacity. */
export interface Mismatch {
  readonly _tag: "Mismatch"
}

/** Neither held nor queued. */
export interface Gone {
  readonly _tag: "Gone"
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

export const claimReply = (raw: unknown): Granted | Queued | Gone => {
  const [tag, ...rest] = list(raw)
  switch (tag) {
    case "granted":
      return { _tag: "Granted", token: BigInt(String(rest[0])) }
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
    default:
      throw unexpected(raw)
  }
}

export const make = <Args, Reply>(script: Omit<Script<Args, Reply>, "sha">): Script<Args, Reply> => ({
  ...script,
  sha: createHash("sha1").update(script.lua).digest("hex")
})
