/** What the replicas of a server mean for locks: what a failover loses. */

import type { Facts } from "./facts.ts"
import { ok, type Rule } from "./rules.ts"

export interface Failover {
  /** The option `waitReplicas`. */
  readonly waitReplicas: number
  /** Whether somebody promotes replicas by themselves: sentinels, or the nodes of a cluster. */
  readonly isAutomatic: boolean
}

const role: Rule = ({ info }) => {
  const given = info("role")
  if (given === undefined) return undefined
  if (given !== "slave") return ok("this is a primary")
  return {
    severity: "error",
    seen: `this is a replica of ${info("master_host")}:${info("master_port")}, whose link is ${
      info("master_link_status") ?? "unknown"
    }`,
    why: "a replica cannot grant a lock",
    fix: "name the address of its primary, or sentinels and master (DLOCK_REDIS_SENTINELS, DLOCK_REDIS_MASTER)"
  }
}

/** Seconds. A replica acknowledges every second. */
const late = 5

const replicas: Rule = ({ info, replicas }) => {
  if (info("role") !== "master") return undefined
  const behind = replicas.filter(({ isOnline, lag }) => !isOnline || lag > late)
  const seen = replicas.length === 0
    ? "no replica"
    : replicas.map(({ isOnline, lag, name }) => `${name} ${isOnline ? `${lag} s behind` : "not online"}`).join(", ")
  if (replicas.length === 0) {
    return {
      severity: "note",
      seen,
      why: "while the server is away nobody gets a lock, and holders lose theirs at their deadlines",
      fix: "add a replica and sentinels, or a cluster, if a restart of the server takes longer than locks may wait"
    }
  }
  return behind.length === 0 ? ok(seen) : {
    severity: "warning",
    seen,
    why: "a failover to a replica that is behind loses the locks that were granted meanwhile",
    fix: "look into the replica's log and at its network; a larger repl-backlog-size spares it full copies"
  }
}

const waiting = ({ waitReplicas }: Failover): Rule => ({ info, replicas }) => {
  if (info("role") !== "master") return undefined
  const online = replicas.filter(({ isOnline }) => isOnline).length
  if (waitReplicas > online) {
    return {
      severity: "error",
      seen: `waitReplicas is ${waitReplicas}, replicas online: ${online}`,
      why: "no grant is confirmed by so many, so every acquire fails",
      fix: "bring the replicas back, or lower DLOCK_REDIS_WAIT_REPLICAS"
    }
  }
  if (replicas.length === 0 || waitReplicas > 0) {
    return ok(`waitReplicas is ${waitReplicas}, replicas online: ${online}`)
  }
  return {
    severity: "warning",
    seen: `waitReplicas is 0, replicas online: ${online}`,
    why: "a failover loses the locks of the last moments, so two processes can hold one lock",
    fix: "set DLOCK_REDIS_WAIT_REPLICAS=1 (waitReplicas: 1), which costs about a round trip for each acquire"
  }
}

const isolation = ({ isAutomatic }: Failover): Rule => ({ config, info, replicas }) => {
  if (info("role") !== "master" || replicas.length === 0) return undefined
  const least = config("min-replicas-to-write")
  if (least === undefined) return undefined
  const seen = `min-replicas-to-write ${least}, min-replicas-max-lag ${config("min-replicas-max-lag") ?? "unknown"}`
  return Number(least) > 0 ? ok(seen) : {
    severity: isAutomatic ? "warning" : "note",
    seen,
    why: "a primary that is cut off goes on granting and renewing locks while its replica has been promoted",
    fix: "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 5, and the same in redis.conf of all servers"
  }
}

export const rulesFor = (failover: Failover): Readonly<Record<string, Rule>> => ({
  replica: role,
  replicas,
  "wait-replicas": waiting(failover),
  "min-replicas": isolation(failover)
})

/** Whether a server is a node of a cluster. */
export const isClusterNode = ({ info }: Facts): boolean => info("cluster_enabled") === "1"
