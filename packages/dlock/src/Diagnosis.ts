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
import { renewalTimeout } from "./internal/timing.ts"

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
export const latency = ({ operationTimeout, ownLag, subject, trips, ttl }: Latencies): Finding => {
  const sorted = trips.toSorted((one, other) => one - other)
  const [p50, p99, longest] = [percentile(sorted, 0.5), percentile(sorted, 0.99), sorted.at(-1) ?? 0]
  const limit = Math.min(renewalTimeout(ttl), operationTimeout)
  // What this process was late by now and then is no fault of the server.
  const byServer = (value: number) => Math.max(0, value - ownLag)
  const severity: Severity = p50 >= limit
    ? "error"
    // Of a few round trips, the longest says no more than how unlucky they were.
    : p50 >= limit / 5 || (trips.length >= enough && byServer(p99) >= limit / 5) || byServer(longest) >= limit / 2
    ? "warning"
    : "ok"
  return {
    check: "latency",
    severity,
    subject,
    seen: `p50 ${millis(p50)}, p99 ${millis(p99)}, longest ${millis(longest)} of ${trips.length} round trips; ` +
      `a renewal may take ${millis(limit)} with a ttl of ${ttl / 1_000} s`,
    ...(severity === "ok" ? {} : {
      why: severity === "error"
        ? "renewals end without an answer, and every lock is lost at its deadline"
        : "with a little more load, renewals end without an answer and locks are lost at their deadlines",
      fix: `use a longer ttl (DLOCK_DEFAULT_TTL, at least ${
        Math.ceil(6 * 5 * Math.max(p99, longest / 2.5) / 1_000)
      } s for this latency)${
        limit === operationTimeout ? " and a longer DLOCK_OPERATION_TIMEOUT" : ""
      }, or bring the server nearer`
    })
  }
}

/** The value below which this share of the numbers is. */
const percentile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

/** A number of milliseconds for people: three digits are enough. */
const millis = (value: number): string => `${Number(value.toPrecision(3))} ms`

/** So many round trips have a percentile that means something. */
const enough = 100

/**
 * The diagnosis of a server that cannot be reached, by the error of the attempt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unreachable = (subject: string, cause: Error): Diagnosis => {
  const [kind, , fix] = kinds.find(([, words]) => words.test(cause.message)) ??
    ["other" as const, undefined, "look into the server's log"]
  return {
    unreachable: kind,
    findings: [{
      check: "connection",
      severity: "error",
      subject,
      seen: `not reachable (${kind}): ${cause.message}`,
      why: "no lock can be taken",
      fix
    }]
  }
}

const kinds: ReadonlyArray<readonly [Unreachable, RegExp, fix: string]> = [
  [
    "dns",
    /ENOTFOUND|EAI_AGAIN|Name resolution failed/,
    "check the host's name in the address, and the DNS of this machine"
  ],
  [
    "credentials",
    /\b(WRONGPASS|NOAUTH|NOPERM)\b|invalid (username-)?password|authentication failed|user name is empty|AUTH failed|auth.* not enabled/i,
    "check the user, its password and its permissions (the message names what it lacks)"
  ],
  [
    "tls",
    /certificate|self.signed|wrong version|packet length|without TLS|with TLS|EPROTO|SSL|altnames|secure TLS/i,
    "use the scheme that the server speaks (redis: or rediss:, http: or https:), and name its authority in the CA variable"
  ],
  ["other", /knows no primary/, "correct the name in DLOCK_REDIS_MASTER: SENTINEL MASTERS lists those that they know"],
  ["refused", /ECONNREFUSED|ENOENT/, "start the server, or correct host and port in the address"],
  [
    "silent",
    /ETIMEDOUT|did not answer|DEADLINE_EXCEEDED|Deadline exceeded|no answer|EHOSTUNREACH|ENETUNREACH/i,
    "check firewalls and security groups between this machine and the server, and whether the server is overloaded"
  ]
]
