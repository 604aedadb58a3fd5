/** The options of a Redis store: their parsers, defaults and environment variables. */

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import { keysOf } from "./protocol/keys.ts"

/** The options of a Redis store, as the program gives them. */
export interface Options extends StoreOptions.Limits {
  /** Text in front of every key and its prefix, like the `keyPrefix` of a Redis client. Empty by default. */
  readonly keyPrefix?: string | undefined
  /**
   * How often the head of the queue asks for the lock while a client of another library holds the key, and the longest
   * delay after an expiry that this waiter knows. The foremost waiter of each process also asks at least every 2
   * seconds, because messages can get lost. 100 milliseconds by default.
   */
  readonly retryInterval?: Duration.Input | undefined
  /**
   * Whether clients of another library lock the same keys. If true, a release frees the key for every client and wakes
   * our next waiter, instead of handing the lock over to that waiter. Our waiters are then no longer served in order.
   * False by default.
   */
  readonly interop?: boolean | undefined
  /**
   * How many replicas must have a grant before it counts. If too few of them confirm the grant within a tenth of its
   * `ttl` (at most 1 second), the store withdraws the claim, and the locker asks again with a new claim. This makes it
   * less likely that a failover loses a lock, but does not rule it out. Each acquire then takes one more round trip to
   * the server and one to the replicas. 0 by default.
   */
  readonly waitReplicas?: number | undefined
}

const keyPrefix: StoreOptions.Parser<string> = (value) =>
  typeof value === "string" && !value.includes("\0") && value.isWellFormed() && keysOf(`${value}k`) !== undefined
    ? Result.succeed(value)
    : Result.fail("must be a string whose braces, if any, are a whole hash tag such as {shop}:")

/** The options and their environment variables. An option that is missing here does not compile. */
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

/** The parsed options. Durations are in milliseconds. */
export type Settings = StoreOptions.Parsed<typeof fields>
