/** The options of a Redis store: their parsers, defaults and environment variables. */

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import { keysOf } from "./protocol/keys.ts"

/** How a Redis store works, as it was given. */
export interface Options extends StoreOptions.Limits {
  /** Stands before every key and its prefix, as a client's own `keyPrefix` would. None unless given. */
  readonly keyPrefix?: string | undefined
  /**
   * How often the head of a queue asks while a client of another library holds the key, and the longest delay past a
   * known expiry. Besides, the foremost waiter of a process asks every two seconds, for messages may get lost. 100
   * milliseconds unless given.
   */
  readonly retryInterval?: Duration.Input | undefined
  /**
   * For a fleet in which clients of another library still take the same keys: a release frees the key for everybody and
   * wakes our next waiter, instead of handing the lock over. Costs the fairness among ours. Off unless given.
   */
  readonly interop?: boolean | undefined
  /**
   * How many replicas must have a grant before it counts. One that they do not confirm within a tenth of its `ttl`, at
   * most a second, is given back and asked for again as a new claim. Narrows what a failover can lose, at one more trip
   * to the server and one to the replicas for each acquire; it does not close the gap. None unless given.
   */
  readonly waitReplicas?: number | undefined
}

const keyPrefix: StoreOptions.Parser<string> = (value) =>
  typeof value === "string" && !value.includes("\0") && value.isWellFormed() && keysOf(`${value}k`) !== undefined
    ? Result.succeed(value)
    : Result.fail("must be a string whose braces, if any, are a whole hash tag such as {shop}:")

/** The options, and their variables. One that is forgotten here does not compile. */
export const fields = {
  keyPrefix: StoreOptions.withDefault(keyPrefix, "", "DLOCK_REDIS_KEY_PREFIX"),
  retryInterval: StoreOptions.withDefault(StoreOptions.duration(10, 60_000), 100, "DLOCK_RETRY_INTERVAL"),
  interop: StoreOptions.withDefault(
    StoreOptions.boolean,
    false,
    "DLOCK_REDIS_INTEROP",
    StoreOptions.booleanFromText
  ),
  waitReplicas: StoreOptions.withDefault(
    StoreOptions.integer(0, 100),
    0,
    "DLOCK_REDIS_WAIT_REPLICAS",
    StoreOptions.numberFromText
  ),
  ...StoreOptions.limits
} satisfies StoreOptions.Fields<Options>

/** The same, read; durations in milliseconds. */
export type Settings = StoreOptions.Parsed<typeof fields>
