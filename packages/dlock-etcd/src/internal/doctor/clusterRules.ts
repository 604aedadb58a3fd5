/** What the members together mean for locks. */

import type { Finding } from "effect-dlock/Diagnosis"
import type { Listed, Member } from "./members.ts"

/** An address that did not answer. */
export interface Absent {
  readonly address: string
  readonly cause: Error
}

/** The answer of `etcd grpc-proxy`, which names itself as the only member. */
export const isProxy = (listed: ReadonlyArray<Listed>): boolean =>
  listed.length > 0 && listed.every(({ id }) => id === "0")

/** Milliseconds of the shortest ttl behind a proxy: it runs its own loop of keep-alives. */
const leastBehindProxy = 4_000

export const proxyFinding = (ttl: number): Finding => ({
  check: "proxy",
  severity: ttl < leastBehindProxy ? "warning" : "note",
  seen: "etcd grpc-proxy is in between",
  why: "it answers a keep-alive after up to half a second, and its members are not seen from here; " +
    "two watches that begin in one moment may get each other's answers, so a loss is noticed at the next renewal",
  fix: ttl < leastBehindProxy
    ? "use a ttl of 4 s or more, or name the members themselves in DLOCK_ETCD_HOSTS"
    : "name the members themselves in DLOCK_ETCD_HOSTS to do without it"
})

/** Whether enough members answer, and whether we could go to another one. */
export const membersFinding = (
  met: ReadonlyArray<Member>,
  listed: ReadonlyArray<Listed>,
  absent: ReadonlyArray<Absent>
): Finding => {
  const check = "members"
  const voters = listed.filter(({ isLearner }) => !isLearner)
  const ids = new Set(met.map(({ id }) => id))
  const up = voters.filter(({ id }) => ids.has(id))
  const quorum = Math.floor(voters.length / 2) + 1
  const seen = `${up.length} of ${voters.length} voting members answer`
  if (up.length < voters.length || absent.length > 0) {
    const away = absent.map(({ address, cause }) => `${address}: ${cause.message}`)
    const unstarted = voters.filter(({ id, urls }) => !ids.has(id) && urls.length === 0).map(({ id }) =>
      `member ${id} was never started`
    )
    return {
      check,
      severity: up.length < quorum ? "error" : "warning",
      seen: [seen, ...away, ...unstarted].join("; "),
      why: up.length < quorum
        ? "a majority must answer, or no lock can be taken or renewed"
        : `the loss of ${up.length - quorum + 1} more ends the majority, and then no lock can be taken or renewed`,
      fix: "start the member, or replace it: etcdctl member remove ID, then etcdctl member add; " +
        "and see whether its address can be reached from here"
    }
  }
  if (voters.length < 3) {
    return {
      check,
      severity: voters.length === 2 ? "warning" : "note",
      seen,
      why: voters.length === 2
        ? "two members are worse than one: the loss of either ends the majority"
        : "while this member is away nobody gets a lock, and holders lose theirs at their deadlines",
      fix: "run three members, or five: etcdctl member add"
    }
  }
  return { check, severity: "ok", seen }
}

export const versionsFinding = (met: ReadonlyArray<Member>): Finding | undefined => {
  const versions = Array.from(new Set(met.map(({ version }) => version)))
  return versions.length < 2 ? undefined : {
    check: "versions",
    severity: "warning",
    seen: met.map(({ address, version }) => `${address} ${version}`).join(", "),
    why: "a cluster works as its oldest member does, and should be so only during an update",
    fix: "end the update: bring all members to the newest of these versions"
  }
}

/** Members that a locker would not go to. */
export const unnamedFinding = (
  given: ReadonlyArray<string>,
  met: ReadonlyArray<Member>
): Finding | undefined => {
  const unnamed = met.filter(({ address, isLearner }) => !isLearner && !given.includes(address))
  return unnamed.length === 0 ? undefined : {
    check: "hosts",
    severity: given.length === 1 ? "warning" : "note",
    seen: `not among the hosts: ${unnamed.map(({ address }) => address).join(", ")}`,
    why: "a locker goes to no other member than its hosts when one of them fails",
    fix: `DLOCK_ETCD_HOSTS=${[...given, ...unnamed.map(({ address }) => address)].join(",")}`
  }
}

/** What was seen of the leadership over the observation. */
export interface Leadership {
  readonly terms: ReadonlySet<string>
  readonly leaders: ReadonlySet<string>
  readonly seconds: number
}

export const leadershipFinding = ({ leaders, seconds, terms }: Leadership, met: ReadonlyArray<Member>): Finding => {
  const changes = met.flatMap(({ metrics }) => metrics?.value("etcd_server_leader_changes_seen_total") ?? [])
  const most = Math.max(...changes)
  const since = changes.length === 0 ? "" : `; ${most} ${most === 1 ? "change" : "changes"} since the members' start`
  return leaders.size > 1 || terms.size > 1
    ? {
      check: "leadership",
      severity: "warning",
      seen: `the leader changed within ${seconds.toFixed(1)} s${since}`,
      why:
        "no call is answered during an election, and a new leader gives the lease of a dead holder its whole time again",
      fix:
        "look into the members' logs for slow disks and late heartbeats; over slow links raise --heartbeat-interval " +
        "and --election-timeout (ten times as much)"
    }
    : { check: "leadership", severity: "ok", seen: `one leader in ${seconds.toFixed(1)} s${since}` }
}

/** The alarms of a cluster, by their names in the client. */
export const alarmFinding = (alarms: ReadonlyArray<string>): Finding => {
  const check = "alarms"
  if (alarms.some((alarm) => /corrupt/i.test(alarm))) {
    return {
      check,
      severity: "error",
      seen: "the alarm CORRUPT is raised",
      why: "the members disagree about their data, so two holders may each find their own claim",
      fix:
        "replace the members that are corrupt (etcdctl endpoint hashkv --cluster tells which), then etcdctl alarm disarm"
    }
  }
  if (alarms.some((alarm) => /nospace/i.test(alarm))) {
    return {
      check,
      severity: "error",
      seen: "the alarm NOSPACE is raised",
      why: "the cluster refuses every new lock; holders keep theirs and can release them",
      fix: "etcdctl compact REVISION, etcdctl defrag on each member, then etcdctl alarm disarm"
    }
  }
  return alarms.length === 0
    ? { check, severity: "ok", seen: "no alarm" }
    : { check, severity: "error", seen: alarms.join(", "), why: "an alarm stops writes", fix: "etcdctl alarm list" }
}
