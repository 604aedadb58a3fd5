/** How the server stores a lock: the order of its keys in a call, and the format of its values. */

import type { LockKind } from "effect-dlock/LockError"
import type { LockKeys } from "./keys.ts"

/**
 * The version of everything in this file. Values that other versions of this library could misread begin with it. A
 * script that meets a later version changes nothing, and the caller learns that a newer version uses the key.
 */
export const layout = "1"

/** The keys that a lock of any kind has, in the order in which a call names them. */
const every = ["lock", "counter", "queue", "deadlines", "waiters", "parked", "observers"] as const

/**
 * The keys of the holders of a semaphore or a read-write lock. The first ones are all that a mutex needs to find such
 * holders.
 */
const shared = ["holders", "totals", "values"] as const
const forMutex = shared.slice(0, 2)

export const baseKeys = (keys: LockKeys): ReadonlyArray<string> => every.map((name) => keys[name])

export const sharedKeys = (keys: LockKeys): ReadonlyArray<string> => shared.map((name) => keys[name])

export const sharedKeysForMutex = (keys: LockKeys): ReadonlyArray<string> => forMutex.map((name) => keys[name])

/** The number of keys in each group. */
export const baseKeyCount = every.length
export const sharedKeyCount = shared.length

/** The keys of the groups as lists of Lua variables. */
export const baseVariables = every.join(", ")
export const sharedVariables = "holders, totalsKey, values"

/**
 * The position of the first key of shared holders in a script about one claim. The lock's keys and a tombstone come
 * first.
 */
export const sharedAt = baseKeyCount + 2

/** The keys of a script about one claim. The script may be called without the keys of shared holders. */
export const K = {
  ...Object.fromEntries(every.map((name, index) => [name, `KEYS[${index + 1}]`])) as Record<
    typeof every[number],
    string
  >,
  tombstone: `KEYS[${baseKeyCount + 1}]`,
  holders: `KEYS[${sharedAt}]`,
  totals: `KEYS[${sharedAt + 1}]`,
  values: `KEYS[${sharedAt + 2}]`
}

/** A kind of lock as one letter. */
export const letterOf: { readonly [kind in LockKind]: string } = { mutex: "m", semaphore: "s", readWrite: "r" }

export const kindOf = (letter: unknown): LockKind =>
  letter === letterOf.semaphore ? "semaphore" : letter === letterOf.readWrite ? "readWrite" : "mutex"

// The functions below build Lua code. Their arguments and results are Lua expressions.

const join = (...parts: ReadonlyArray<string>): string => `table.concat({ ${parts.join(", ")} }, "|")`

const startOfGrant = (id: string, token: string): string => `${id} .. ":" .. ${token} .. ":"`

/**
 * The value of `lock`: `id:token:inbox|label`. Any other value belongs to another client. The inbox is where the
 * holder's process listens, with a mark behind it if the holder was asked to leave (see `revocation.ts`).
 */
export const lockValue = {
  write: (id: string, token: string, inbox: string, label: string): string =>
    `${startOfGrant(id, token)} .. ${inbox} .. "|" .. ${label}`,
  /** A Lua pattern that captures id, token, inbox and label. */
  pattern: `"^(" .. string.rep("[%w_-]", 22) .. "):(%d+):([^|]*)|(.*)$"`,
  /** A Lua pattern that captures the token. */
  token: `"^[%w_-]+:(%d+):"`,
  /** The start of the value while this claim holds the lock. */
  startOfClaim: (id: string): string => `${id} .. ":"`,
  /** The token, from a value that begins with `start`. */
  tokenBehind: (value: string, start: string): string => `string.match(${value}, "^%d+", #${start} + 1)`,
  /** The start of the value while this claim holds the lock under this token. */
  startOfGrant
}

const writeShared = (...parts: ReadonlyArray<string>): string => `"${layout}|" .. ${parts.join(" .. \"|\" .. ")}`

/**
 * A field of `values`: what one of several holders has, as `layout|token|permits|capacity|kind|count|inbox|label`.
 * `count` names the count of all holders that includes this one. The inbox may have a mark behind it, as in `lockValue`.
 */
export const sharedValue = {
  /** Writes the value from its parts after the layout, in order. */
  write: writeShared,
  /** Writes the value from a Lua table with these fields. */
  writeTable: (one: string): string =>
    writeShared(
      ...["token", "permits", "capacity", "kind", "count"].map((name) => `${one}.${name}`),
      `${one}.inbox .. ${one}.mark`,
      `${one}.label`
    ),
  /** A Lua pattern that captures token, permits, capacity, kind and count. */
  start: `"^${layout}|(%d+)|(%d+)|(%d+)|(%a)|(%d+)|"`,
  /** A Lua pattern that captures all parts after the layout. */
  pattern: `"^${layout}|(%d+)|(%d+)|(%d+)|(%a)|(%d+)|([^|]*)|(.*)$"`,
  /** The start of the value while its claim holds it under this token. */
  startOfGrant: (token: string): string => `"${layout}|" .. ${token} .. "|"`
}

/**
 * The value of `totals`, which counts the shared holders: `layout|kind|holders|permits|token|count|progress|capacities`.
 *
 * - `token`: the largest token so far.
 * - `count`: the name of this count. A holder under another name is not counted yet.
 * - `progress`: `-` if every holder is counted. Otherwise the cursor of the scan that counts them, or `w` after the scan.
 * - `capacities`: how many holders know the key with each capacity, as `4:2,8:1`.
 */
export const totalsValue = {
  write: (totals: string, capacities: string): string =>
    join(
      `"${layout}"`,
      `${totals}.kind`,
      ...["holders", "permits", "token", "count"].map((name) => `string.format("%.0f", ${totals}.${name})`),
      `${totals}.progress`,
      capacities
    ),
  /** A Lua pattern that captures all parts after the layout. */
  pattern: `"^${layout}|(%a)|(%d+)|(%d+)|(%d+)|(%d+)|([%dw-]+)|(.*)$"`,
  /**
   * The usual case: every holder is counted and they agree about the capacity. Captures kind, holders, permits, token,
   * count, capacity, and again the holders.
   */
  plainPattern: `"^${layout}|(%a)|(%d+)|(%d+)|(%d+)|(%d+)|%-|(%d+):(%d+)$"`,
  /** Writes the usual case. */
  writePlain: (
    kind: string,
    holders: string,
    permits: string,
    token: string,
    count: string,
    capacity: string
  ): string =>
    `"${layout}|" .. ${
      [kind, holders, permits, token, count].join(" .. \"|\" .. ")
    } .. "|-|" .. ${capacity} .. ":" .. ${holders}`
}

/**
 * A field of `waiters`, as `layout|inbox|ttl|guard|kind|permits|capacity|listening|group|label`. `listening` is whether
 * the process listened when it last asked. `group` is 1 for a claim that was requested together with others, and empty
 * otherwise. Such a claim is never passed over, so it always counts as one whose process does not tell (`listening` is 0).
 */
export const waiterValue = {
  /** Writes the value from a Lua table with these fields. */
  write: (want: string): string =>
    join(
      `"${layout}"`,
      ...["inbox", "ttl", "guard", "kind", "permits", "capacity"].map((name) => `${want}.${name}`),
      `${want}.listening and 1 or 0`,
      `${want}.isGrouped and "1" or ""`,
      `${want}.label`
    ),
  /** A Lua pattern that captures inbox, ttl, guard, kind, permits, capacity, listening, group and label. */
  pattern: `"^${layout}|([^|]*)|(%d+)|(%d+)|(%a)|(%d+)|(%d+)|([01])|([^|]*)|(.*)$"`
}

/**
 * The record of a job's last run, as `layout|slot|countedAt|id|startedAt|endedAt|outcome|label`. `-` stands for what is not
 * there: a slot, a run that counts, an end. The times are in milliseconds.
 */
export const runValue = {
  /** Writes the value from its parts after the layout, in order. */
  write: writeShared,
  /** A Lua pattern that captures the parts after the layout, without the label. */
  pattern: `"^${layout}|([%d-]+)|([%d-]+)|([^|]*)|(%d+)|([%d-]+)|([%a-])|"`
}
