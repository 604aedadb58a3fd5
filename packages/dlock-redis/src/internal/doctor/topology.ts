/** What the nodes of a cluster and the sentinels tell. */

import type { Finding } from "effect-dlock/Diagnosis"
import * as Effect from "effect/Effect"
import type { Redis as Client, RedisOptions } from "ioredis"
import type * as Library from "ioredis"
import { sanitized } from "../client/failure.ts"
import type { Ask } from "../client/port.ts"
import { pairsOf } from "./facts.ts"

interface Node {
  readonly id: string
  readonly address: string
  readonly flags: ReadonlyArray<string>
  readonly primary: string
}

const nodesOf = (text: string): ReadonlyArray<Node> =>
  text.split("\n").flatMap((line) => {
    const [id, address, flags, primary] = line.trim().split(" ")
    return primary === undefined
      ? []
      : [{ id: id!, address: address!.split("@")[0]!, flags: flags!.split(","), primary }]
  })

/** What one node of a cluster tells of all. */
export const clusterFindings = (ask: Ask): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.gen(function*() {
    const told = (...command: readonly [string, ...Array<string>]) =>
      Effect.orElseSucceed(Effect.map(ask(...command), String), () => "")
    const state = new Map(
      Array.from((yield* told("CLUSTER", "INFO")).matchAll(/^(\w+):(.*?)\r?$/gm), ([, name, value]) => [name!, value!])
    )
    const nodes = nodesOf(yield* told("CLUSTER", "NODES"))
    const findings: Array<Finding> = []
    const served = state.get("cluster_slots_ok")
    findings.push({
      check: "cluster",
      severity: state.get("cluster_state") === "ok" && served === "16384" ? "ok" : "error",
      seen: `cluster_state ${state.get("cluster_state") ?? "unknown"}, ${served ?? "?"} of 16384 slots served`,
      ...(served !== "16384" && {
        why: "the locks of the other slots can neither be taken nor renewed",
        fix: "redis-cli --cluster check HOST:PORT, then --cluster fix"
      })
    })
    if (nodes.length === 0) {
      return [...findings, {
        check: "cluster-nodes",
        severity: "note",
        seen: "the nodes are not told (+cluster|nodes)"
      }]
    }
    const failing = nodes.filter(({ flags }) => flags.some((flag) => /^(fail\??|noaddr|handshake)$/.test(flag)))
    const primaries = nodes.filter((node) => node.flags.includes("master") && !failing.includes(node))
    const alone = primaries.filter(({ id }) => !nodes.some((node) => node.primary === id && !failing.includes(node)))
    if (failing.length > 0) {
      findings.push({
        check: "cluster-nodes",
        severity: "warning",
        seen: failing.map(({ address, flags }) => `${address} (${flags.join(",")})`).join(", "),
        why: "a node that fails serves no locks, and its replica may be missing when the primary fails next",
        fix: "start the node, or remove it: redis-cli --cluster del-node HOST:PORT NODE_ID"
      })
    } else if (alone.length > 0) {
      findings.push({
        check: "cluster-nodes",
        severity: "warning",
        seen: `without a replica: ${alone.map(({ address }) => address).join(", ")}`,
        why: "when such a primary is away, the locks of its slots can neither be taken nor renewed",
        fix: "redis-cli --cluster add-node NEW:PORT HOST:PORT --cluster-slave"
      })
    } else findings.push({ check: "cluster-nodes", severity: "ok", seen: `${nodes.length} nodes, none fails` })
    return findings
  })

/** A server that is asked alone although it is a node of a cluster. */
export const nodeAlone = (subject: string): Finding => ({
  check: "cluster",
  severity: "error",
  subject,
  seen: "this is a node of a cluster, and its address is that of a single server",
  why: "it redirects (MOVED) the locks of all slots that are not its own, so they cannot be taken",
  fix: "name some nodes in DLOCK_REDIS_CLUSTER instead of DLOCK_REDIS_URL"
})

/** What a sentinel says of the primary. */
interface Said {
  readonly sentinel: string
  readonly primary: ReadonlyMap<string, string>
  readonly problem: string | undefined
}

export const sentinelFindings = (
  { Redis }: Pick<typeof Library, "Redis">,
  options: RedisOptions,
  limit: number
): Effect.Effect<ReadonlyArray<Finding>> => {
  const { name = "", sentinels = [] } = options
  return Effect.map(
    Effect.forEach(sentinels, ({ host, port }) =>
      Effect.acquireUseRelease(
        Effect.sync(() =>
          new Redis({
            host: host!,
            port: port!,
            ...(options.sentinelUsername !== undefined && { username: options.sentinelUsername }),
            ...(options.sentinelPassword !== undefined && { password: options.sentinelPassword as string }),
            ...(options.sentinelTLS !== undefined && { tls: options.sentinelTLS }),
            lazyConnect: true,
            retryStrategy: null,
            maxRetriesPerRequest: 0,
            connectTimeout: limit,
            commandTimeout: limit,
            disconnectTimeout: 100
          }).on("error", () => {})
        ),
        (client) => ask(client, name, `${host}:${port}`),
        (client) => Effect.sync(() => client.disconnect())
      ), { concurrency: "unbounded" }),
    (said) => judge(name, said)
  )
}

const ask = (client: Client, name: string, sentinel: string): Effect.Effect<Said> =>
  Effect.tryPromise({
    try: async () => {
      await client.connect()
      const primary = pairsOf(await client.call("SENTINEL", "MASTER", name))
      // A user of the documented permissions may not ask this; then nothing is known against it.
      const quorum = await client.call("SENTINEL", "CKQUORUM", name).then(() => undefined, (error: unknown) => {
        const { message } = sanitized(error)
        return message.startsWith("NOQUORUM") ? message : undefined
      })
      return { sentinel, primary, problem: quorum }
    },
    catch: sanitized
  }).pipe(
    Effect.catch(({ message }) => Effect.succeed({ sentinel, primary: new Map<string, string>(), problem: message }))
  )

const judge = (name: string, said: ReadonlyArray<Said>): ReadonlyArray<Finding> => {
  const answered = said.filter(({ primary }) => primary.size > 0)
  const addresses = new Set(answered.map(({ primary }) => `${primary.get("ip")}:${primary.get("port")}`))
  const known = Math.max(0, ...answered.map(({ primary }) => Number(primary.get("num-other-sentinels")) + 1))
  const quorum = Number(answered[0]?.primary.get("quorum"))
  const problems = said.flatMap(({ problem, sentinel }) => problem === undefined ? [] : [`${sentinel}: ${problem}`])
  const seen = `${known} sentinels know ${name}, the quorum is ${quorum}`
  const check = "sentinels"
  if (addresses.size > 1) {
    return [{
      check,
      severity: "error",
      seen: `the sentinels name different primaries: ${Array.from(addresses).join(", ")}`,
      why: "processes that hear different sentinels hold the same lock on two servers",
      fix: `SENTINEL RESET ${name} on the sentinels that are wrong, and look into their network`
    }]
  }
  if (problems.some((problem) => problem.includes("NOQUORUM"))) {
    return [{
      check,
      severity: "error",
      seen: problems.join("; "),
      why: "no failover is possible: when the primary fails, no lock can be taken until somebody acts",
      fix: "start the missing sentinels"
    }]
  }
  if (problems.length > 0) {
    return [{
      check,
      severity: "warning",
      seen: `${seen}; no good answer from ${problems.join("; ")}`,
      why: "one more sentinel that is away can make a failover impossible",
      fix: "start the sentinel, or correct DLOCK_REDIS_SENTINELS"
    }]
  }
  if (known < 3 || quorum < 2) {
    return [{
      check,
      severity: "warning",
      seen,
      why: known < 3
        ? "with fewer than three sentinels, the loss of one machine makes a failover impossible"
        : "one sentinel alone may order a failover while the primary is well",
      fix: known < 3
        ? "run three sentinels on three machines, with a quorum of 2"
        : `SENTINEL SET ${name} quorum 2 on every sentinel`
    }]
  }
  return [{ check, severity: "ok", seen }]
}
