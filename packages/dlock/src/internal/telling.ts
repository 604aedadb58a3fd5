/** What the doctors of all backends judge in the same way. */

import type { Diagnosis, Finding, Latencies, Severity, Unreachable } from "../Diagnosis.ts"
import { renewalTimeout } from "./timing.ts"

/** The value below which this share of the numbers is. */
const percentile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

/** A number of milliseconds for people: three digits are enough. */
const millis = (value: number): string => `${Number(value.toPrecision(3))} ms`

/** So many round trips have a percentile that means something. */
const enough = 100

export const latency = ({ operationTimeout, ownLag, subject, trips, ttl }: Latencies): Finding => {
  const sorted = trips.toSorted((one, other) => one - other)
  const [p50, p99, longest] = [percentile(sorted, 0.5), percentile(sorted, 0.99), sorted.at(-1) ?? 0]
  const limit = Math.min(renewalTimeout(ttl), operationTimeout)
  // What this process was late by now and then is no fault of the server.
  const byServer = (value: number) => Math.max(0, value - ownLag)
  const severity: Severity = p50 >= limit
    ? "error"
    // Of a few round trips, the longest says no more than how unlucky they were.
    : (trips.length >= enough && byServer(p99) >= limit / 5) || byServer(longest) >= limit / 2
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

const kinds: ReadonlyArray<readonly [Unreachable, RegExp, fix: string]> = [
  [
    "dns",
    /ENOTFOUND|EAI_AGAIN|Name resolution failed/,
    "check the host's name in the address, and the DNS of this machine"
  ],
  [
    "credentials",
    /\b(WRONGPASS|NOAUTH|NOPERM)\b|invalid (username-)?password|authentication failed|user name is empty|AUTH failed|auth.* not enabled/i,
    "check the user and the password in the variables"
  ],
  [
    "tls",
    /certificate|self.signed|wrong version|packet length|without TLS|has no TLS|EPROTO|SSL|altnames|secure TLS/i,
    "use the scheme that the server speaks (redis: or rediss:, http: or https:), and name its authority in the CA variable"
  ],
  ["refused", /ECONNREFUSED|ENOENT/, "start the server, or correct host and port in the address"],
  [
    "silent",
    /ETIMEDOUT|did not answer|DEADLINE_EXCEEDED|Deadline exceeded|no answer|EHOSTUNREACH|ENETUNREACH/i,
    "check firewalls and security groups between this machine and the server, and whether the server is overloaded"
  ]
]

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
