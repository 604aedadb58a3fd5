/** How a lock is stored in the server: where its keys stand in a call, and what its values look like. */

import type { LockKeys } from "./keys.ts"

/** The keys that every capacity has, in the order in which a call names them. */
const every = ["lock", "counter", "queue", "deadlines", "waiters", "parked"] as const

/** The keys that serve capacity above 1 alone. */
const shared = ["holders", "values"] as const

export const baseKeys = (keys: LockKeys): ReadonlyArray<string> => every.map((name) => keys[name])

export const sharedKeys = (keys: LockKeys): ReadonlyArray<string> => shared.map((name) => keys[name])

/** How many there are of each. */
export const baseKeyCount = every.length
export const sharedKeyCount = shared.length

/** The same keys as a list of Lua variables. */
export const baseVariables = every.join(", ")

/** Where `holders` stands, and `values` behind it, in a script about one claim: behind the lock's keys and a tombstone. */
export const sharedAt = baseKeyCount + 2

/** The keys of a script about one claim, which may go without the last two. */
export const K = {
  ...Object.fromEntries(every.map((name, index) => [name, `KEYS[${index + 1}]`])) as Record<
    typeof every[number],
    string
  >,
  tombstone: `KEYS[${baseKeyCount + 1}]`,
  holders: `KEYS[${sharedAt}]`
}

// What follows makes Lua of Lua: arguments and results are expressions.

const startOfGrant = (id: string, token: string): string => `${id} .. ":" .. ${token} .. ":"`

/** The value of `lock`, `id:token:label`. Whatever else stands in the key is another client's. */
export const lockValue = {
  write: (id: string, token: string, label: string): string => `${startOfGrant(id, token)} .. ${label}`,
  /** A pattern that captures all three. */
  pattern: `"^(" .. string.rep("[%w_-]", 22) .. "):(%d+):(.*)$"`,
  /** A pattern that captures the token. */
  token: `"^[%w_-]+:(%d+):"`,
  /** What the value begins with while this claim holds. */
  startOfClaim: (id: string): string => `${id} .. ":"`,
  /** The token, in a value that begins so. */
  tokenBehind: (value: string, start: string): string => `string.match(${value}, "^%d+", #${start} + 1)`,
  /** What the value begins with while this claim holds by this token. */
  startOfGrant
}

/** A field of `values`: what one of several holders holds, `token|permits|capacity|label`. */
export const sharedValue = {
  write: (token: string, permits: string, capacity: string, label: string): string =>
    `table.concat({ ${token}, ${permits}, ${capacity}, ${label} }, "|")`,
  /** A pattern that captures all four. */
  pattern: `"^(%d+)|(%d+)|(%d+)|(.*)$"`,
  /** What the value begins with while it is held by this token. */
  startOfGrant: (token: string): string => `${token} .. "|"`
}

/** A field of `waiters`: its inbox, ttl, guard, permits, capacity, whether it listens, and its label. */
export const waiterValue = {
  /** Of a list of all seven. */
  write: (fields: string): string => `table.concat(${fields}, "|")`,
  /** A pattern that captures all seven. */
  pattern: `"^(.-)|(%d+)|(%d+)|(%d+)|(%d+)|([01])|(.*)$"`,
  /** The number of the capacity among them. */
  capacity: 5
}
