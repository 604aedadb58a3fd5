/** How the server stores a lock: the order of its keys in a call, and the format of its values. */

import type { LockKeys } from "./keys.ts"

/** The keys that a lock of any capacity has, in the order in which a call names them. */
const every = ["lock", "counter", "queue", "deadlines", "waiters", "parked"] as const

/** The keys that only a capacity above 1 needs. */
const shared = ["holders", "values"] as const

export const baseKeys = (keys: LockKeys): ReadonlyArray<string> => every.map((name) => keys[name])

export const sharedKeys = (keys: LockKeys): ReadonlyArray<string> => shared.map((name) => keys[name])

/** The number of keys in each group. */
export const baseKeyCount = every.length
export const sharedKeyCount = shared.length

/** The keys of the first group as a list of Lua variables. */
export const baseVariables = every.join(", ")

/**
 * The position of `holders`, directly before `values`, in a script about one claim. The lock's keys and a tombstone
 * come first.
 */
export const sharedAt = baseKeyCount + 2

/** The keys of a script about one claim. The script may be called without `holders` and `values`. */
export const K = {
  ...Object.fromEntries(every.map((name, index) => [name, `KEYS[${index + 1}]`])) as Record<
    typeof every[number],
    string
  >,
  tombstone: `KEYS[${baseKeyCount + 1}]`,
  holders: `KEYS[${sharedAt}]`
}

// The functions below build Lua code. Their arguments and results are Lua expressions.

const startOfGrant = (id: string, token: string): string => `${id} .. ":" .. ${token} .. ":"`

/** The value of `lock`: `id:token:label`. Any other value belongs to another client. */
export const lockValue = {
  write: (id: string, token: string, label: string): string => `${startOfGrant(id, token)} .. ${label}`,
  /** A Lua pattern that captures id, token and label. */
  pattern: `"^(" .. string.rep("[%w_-]", 22) .. "):(%d+):(.*)$"`,
  /** A Lua pattern that captures the token. */
  token: `"^[%w_-]+:(%d+):"`,
  /** The start of the value while this claim holds the lock. */
  startOfClaim: (id: string): string => `${id} .. ":"`,
  /** The token, from a value that begins with `start`. */
  tokenBehind: (value: string, start: string): string => `string.match(${value}, "^%d+", #${start} + 1)`,
  /** The start of the value while this claim holds the lock under this token. */
  startOfGrant
}

/** A field of `values`: what one of several holders has, as `token|permits|capacity|label`. */
export const sharedValue = {
  write: (token: string, permits: string, capacity: string, label: string): string =>
    `table.concat({ ${token}, ${permits}, ${capacity}, ${label} }, "|")`,
  /** A Lua pattern that captures all four parts. */
  pattern: `"^(%d+)|(%d+)|(%d+)|(.*)$"`,
  /** The start of the value while its claim holds it under this token. */
  startOfGrant: (token: string): string => `${token} .. "|"`
}

/** A field of `waiters`: inbox, ttl, guard, permits, capacity, whether the process listens, and label. */
export const waiterValue = {
  /** Writes a Lua list of all seven parts. */
  write: (fields: string): string => `table.concat(${fields}, "|")`,
  /** A Lua pattern that captures all seven parts. */
  pattern: `"^(.-)|(%d+)|(%d+)|(%d+)|(%d+)|([01])|(.*)$"`,
  /** The position of the capacity among the parts. */
  capacity: 5
}
