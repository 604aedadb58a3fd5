/**
 * What a backend's doctor finds: what is wrong with a server for locks, before it hurts.
 *
 * **When to use**
 *
 * Use to read the findings of `RedisDoctor` and `EtcdDoctor`, or to write a doctor for a store of your own.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Telling from "./internal/telling.ts"

/**
 * How bad a finding is.
 *
 * **Details**
 *
 * - `error`: locks can be lost or refused with this setting, or already are. Do not deploy.
 * - `warning`: a failure, a failover or more load makes an error of it.
 * - `note`: worth knowing, and right in some deployments.
 * - `ok`: the check has found nothing.
 *
 * @category models
 * @since 0.1.0
 */
export type Severity = "error" | "warning" | "note" | "ok"

/**
 * What one check has found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Finding {
  /** The name of the check, such as `eviction`. It stays the same from version to version. */
  readonly check: string
  readonly severity: Severity
  /** The server, member or program that it is about. Absent if it is about the deployment. */
  readonly subject?: string | undefined
  /** What was seen, with its figure. */
  readonly seen: string
  /** Why that hurts a lock. Absent if all is well. */
  readonly why?: string | undefined
  /** What to do: the command or the setting. Absent if there is nothing to do. */
  readonly fix?: string | undefined
}

/**
 * Why there is no connection.
 *
 * **Details**
 *
 * - `refused`: nobody listens at the address.
 * - `dns`: the host has no address.
 * - `credentials`: the server asks for a user or a password, or refuses the one it was given.
 * - `tls`: one side speaks TLS and the other does not, or a certificate is not trusted.
 * - `silent`: no answer came in time.
 * - `other`: anything else.
 *
 * @category models
 * @since 0.1.0
 */
export type Unreachable = "refused" | "dns" | "credentials" | "tls" | "silent" | "other"

/**
 * All findings of one examination.
 *
 * @category models
 * @since 0.1.0
 */
export interface Diagnosis {
  /** Why the server could not be examined. Absent if it could. Then there is one finding, which says how to mend it. */
  readonly unreachable?: Unreachable | undefined
  readonly findings: ReadonlyArray<Finding>
}

/**
 * What an examination is about.
 *
 * @category options
 * @since 0.1.0
 */
export interface Examination {
  /** The prefix of the locks, whose keys the user must be allowed to use. Default: `dlock:`. */
  readonly prefix?: string | undefined
  /** The shortest `ttl` of the locks, against which latencies are held. Default: 30 seconds. */
  readonly ttl?: Duration.Input | undefined
  /** For how long the server's clock, its latency and its leader are watched. Default: 2 seconds. */
  readonly observation?: Duration.Input | undefined
}

/**
 * The milliseconds of round trips, and what they are held against.
 *
 * @category latency
 * @since 0.1.0
 */
export interface Latencies {
  readonly subject: string
  /** The milliseconds of each round trip. */
  readonly trips: ReadonlyArray<number>
  /** The milliseconds for which this process itself was late meanwhile, at most. */
  readonly ownLag: number
  /** The milliseconds of the shortest ttl. */
  readonly ttl: number
  /** The milliseconds that one call may take. */
  readonly operationTimeout: number
}

/**
 * Judges round trips by the time that a renewal has: a sixth of the `ttl`, and never more than `operationTimeout`.
 *
 * @category latency
 * @since 0.1.0
 */
export const latency: (latencies: Latencies) => Finding = Telling.latency

/**
 * The diagnosis of a server that cannot be reached, by the error of the attempt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unreachable: (subject: string, cause: Error) => Diagnosis = Telling.unreachable
