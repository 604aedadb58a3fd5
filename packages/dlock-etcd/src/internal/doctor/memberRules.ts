/** What the state of one member means for locks. */

import type { Finding } from "effect-dlock/Diagnosis"
import type { Member } from "./members.ts"

export type Found = Omit<Finding, "check" | "subject">

/** `undefined` if the member does not tell what the check needs. */
export type Rule = (member: Member) => Found | undefined

const ok = (seen: string): Found => ({ severity: "ok", seen })

const version: Rule = ({ version }) => {
  const [major = 0, minor = 0] = version.split(".").map(Number)
  if (major < 3 || (major === 3 && minor < 4)) {
    return {
      severity: "error",
      seen: `etcd ${version}`,
      why: "the transactions of the lock need etcd 3.4 or newer",
      fix: "update the cluster to etcd 3.5 or 3.6, one minor version at a time"
    }
  }
  return major === 3 && minor === 4
    ? {
      severity: "warning",
      seen: `etcd ${version}`,
      why: "3.4 is at its end of life; its older releases acknowledge keep-alives of leases that are gone " +
        "(before 3.4.38) and lose events of watches, so waiters and losses are noticed late",
      fix: "update the cluster to etcd 3.5 or 3.6"
    }
    : ok(`etcd ${version}`)
}

const megabyte = 1_048_576
const inMegabytes = (bytes: number): string => {
  const megabytes = bytes / 1_048_576
  return `${megabytes < 10 ? megabytes.toFixed(1) : Math.round(megabytes)} MB`
}

/** What etcd assumes where nobody set a quota. */
const defaultQuota = 2 * 1_024 * megabyte

const quota: Rule = ({ dbSize, dbSizeInUse, metrics }) => {
  const told = metrics?.value("etcd_server_quota_backend_bytes")
  const limit = told === undefined || told <= 0 ? defaultQuota : told
  const seen =
    `${inMegabytes(dbSize)} of ${inMegabytes(limit)}${told === undefined ? " (the default: not told)" : ""}, ` +
    `${inMegabytes(dbSizeInUse)} in use`
  return dbSize / limit < 0.8 ? ok(seen) : {
    severity: dbSize >= limit * 0.95 ? "error" : "warning",
    seen,
    why: "a cluster over its quota refuses every new lock until somebody repairs it; holders keep theirs",
    fix: "etcdctl compact REVISION, etcdctl defrag on each member, and set --auto-compaction-retention=1h; " +
      "or a larger --quota-backend-bytes"
  }
}

/** Seconds. Beyond this, heartbeats come late and leaders are deposed. */
const slowDisk = 0.1

const disk: Rule = ({ metrics }) => {
  const fsync = metrics?.below("etcd_disk_wal_fsync_duration_seconds", 0.99)
  const commit = metrics?.below("etcd_disk_backend_commit_duration_seconds", 0.99)
  if (fsync === undefined || commit === undefined) return undefined
  const seen = `p99 of fsync at most ${fsync * 1_000} ms, of commit at most ${commit * 1_000} ms, since its start`
  return fsync <= slowDisk && commit <= 2.5 * slowDisk ? ok(seen) : {
    severity: "warning",
    seen,
    why: "each lock waits for the disks of a majority; slow ones make leaders change, and renewals late",
    fix: "give etcd a disk of its own (SSD), and keep backups and other writers off it"
  }
}

/** Revisions that are no concern if they were never compacted. */
const fewRevisions = 100_000

const compaction: Rule = ({ metrics }) => {
  const compacted = metrics?.value("etcd_debugging_mvcc_compact_revision")
  const current = metrics?.value("etcd_debugging_mvcc_current_revision")
  if (compacted === undefined || current === undefined) return undefined
  const seen = `revisions that are kept: ${current - Math.max(compacted, 0)}`
  return current - compacted < fewRevisions ? ok(seen) : {
    severity: "note",
    seen,
    why: "each section leaves about 280 bytes of history, which fills the quota if nothing compacts",
    fix: "start the members with --auto-compaction-mode=periodic --auto-compaction-retention=1h"
  }
}

const role: Rule = ({ isLearner }) =>
  isLearner
    ? {
      severity: "warning",
      seen: "this address is that of a learner",
      why: "a learner refuses everything that a lock needs; the store asks the next host each time it comes to it",
      fix: "name the voting members in DLOCK_ETCD_HOSTS, or promote it: etcdctl member promote ID"
    }
    : undefined

const leader: Rule = ({ isLearner, leader }) =>
  leader === undefined && !isLearner
    ? {
      severity: "error",
      seen: "this member knows no leader",
      why: "without a leader no lock can be taken or renewed, and every lock is lost at its deadline",
      fix: "start the members that are down: more than half of them must run and reach each other"
    }
    : undefined

/** The checks of one member, by name. */
export const rules: Readonly<Record<string, Rule>> = { version, leader, learner: role, quota, disk, compaction }

export const judge = (member: Member): ReadonlyArray<Finding> =>
  Object.entries(rules).flatMap(([check, rule]) => {
    const found = rule(member)
    return found === undefined ? [] : [{ check, subject: member.address, ...found }]
  })
