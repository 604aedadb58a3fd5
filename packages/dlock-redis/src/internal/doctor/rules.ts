/** What the settings and the state of one server mean for locks. */

import type { Finding } from "effect-dlock/Diagnosis"
import type { Facts } from "./facts.ts"

/** A finding without the server that it is about. */
export type Found = Omit<Finding, "check" | "subject">

/** `undefined` if the server does not tell what the check needs. */
export type Rule = (facts: Facts) => Found | undefined

export const ok = (seen: string): Found => ({ severity: "ok", seen })

const isBelow = (version: string, least: string): boolean => {
  const [given, wanted] = [version, least].map((text) => text.split(".").map(Number))
  const index = given!.findIndex((part, index) => part !== (wanted![index] ?? 0))
  return index >= 0 && given![index]! < (wanted![index] ?? 0)
}

const version: Rule = ({ info }) => {
  const valkey = info("valkey_version")
  const found = valkey ?? info("redis_version")
  if (found === undefined) return undefined
  const [name, least] = valkey === undefined ? ["Redis", "7.0"] : ["Valkey", "8.0"]
  return isBelow(found, least!)
    ? {
      severity: "error",
      seen: `${name} ${found}`,
      why: `the scripts of the lock are made for ${name} ${least} or newer, and are tested on nothing older`,
      fix: `update the server to ${name} ${least} or newer`
    }
    : ok(`${name} ${found}`)
}

const inMegabytes = (bytes: number): string => {
  const megabytes = bytes / 1_048_576
  return `${megabytes < 10 ? megabytes.toFixed(1) : Math.round(megabytes)} MB`
}

/** Above this share of its memory a server is nearly full. */
const nearlyFull = 0.9

const memory: Rule = ({ config, count, info }) => {
  const limit = count("maxmemory")
  const policy = info("maxmemory_policy") ?? config("maxmemory-policy")
  const used = count("used_memory")
  if (limit === undefined || policy === undefined || used === undefined) return undefined
  if (policy !== "noeviction") {
    const evicted = count("evicted_keys") ?? 0
    return {
      severity: limit > 0 ? "error" : "warning",
      seen: limit > 0
        ? `maxmemory-policy is ${policy}, with ${inMegabytes(used)} of ${inMegabytes(limit)} used` +
          ` and ${evicted} keys evicted since the start`
        : `maxmemory-policy is ${policy}, with no maxmemory set yet`,
      why: "a lock is a key with a time to live, so the server may evict it; another process then gets the lock " +
        "while the first one still holds it",
      fix: "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf; give a cache a server of its own"
    }
  }
  if (limit === 0) return ok("maxmemory-policy is noeviction, no maxmemory")
  const seen = `maxmemory-policy is noeviction, ${inMegabytes(used)} of ${inMegabytes(limit)} used`
  return used / limit < nearlyFull ? ok(seen) : {
    severity: used >= limit ? "error" : "warning",
    seen,
    why: "a full server refuses every new lock with OOM; locks that are held stay held",
    fix: "CONFIG SET maxmemory to more, or remove what fills the server (redis-cli --bigkeys)"
  }
}

const persistence: Rule = ({ config, info }) => {
  const aof = info("aof_enabled")
  const save = config("save")
  if (aof === undefined) return undefined
  if (aof === "1" && info("aof_last_write_status") === "err") return unwritable("the append-only file")
  if (info("rdb_last_bgsave_status") === "err" && save !== "") return unwritable("the last snapshot")
  const restart = "a restart frees locks that are held, and another process gets them while the first still works"
  if (aof !== "1") {
    if (save === undefined) {
      return { severity: "note", seen: "appendonly is no; whether there are snapshots is not told (+config|get)" }
    }
    return save === ""
      ? {
        severity: "error",
        seen: "no persistence: appendonly is no, and save is empty",
        why: restart,
        fix: "CONFIG SET appendonly yes, and the same in redis.conf; or let the server start only after the longest ttl"
      }
      : {
        severity: "warning",
        seen: `only snapshots (save ${save}): appendonly is no`,
        why: `${restart}, if they were granted after the last snapshot`,
        fix: "CONFIG SET appendonly yes, and the same in redis.conf"
      }
  }
  switch (config("appendfsync")) {
    case "always":
      return ok("appendonly is yes, appendfsync always")
    case "no":
      return {
        severity: "warning",
        seen: "appendonly is yes, appendfsync no",
        why: "the system writes when it likes, often after 30 s: a power failure frees all locks granted meanwhile",
        fix: "CONFIG SET appendfsync everysec (or always), and the same in redis.conf"
      }
    default:
      return {
        severity: "note",
        seen: `appendonly is yes, appendfsync ${config("appendfsync") ?? "not told (+config|get)"}`,
        why: "with everysec, a crash of the machine (not of the server) frees the locks of the last second",
        fix: "CONFIG SET appendfsync always where that second matters; it costs a write to the disk for each lock"
      }
  }
}

const unwritable = (what: string): Found => ({
  severity: "error",
  seen: `the server could not write ${what}`,
  why: "it then refuses every lock with MISCONF, and a restart frees those that are held",
  fix: "make room on its disk and look into its log; CONFIG GET dir tells where it writes"
})

const loading: Rule = ({ info }) =>
  info("loading") === "1"
    ? {
      severity: "error",
      seen: "the server is loading its data",
      why: "it refuses every lock until it has loaded",
      fix: "wait, and see why it was restarted"
    }
    : undefined

const timeouts: Rule = ({ config }) => {
  const timeout = Number(config("timeout") ?? NaN)
  const keepalive = Number(config("tcp-keepalive") ?? NaN)
  if (Number.isNaN(timeout) || Number.isNaN(keepalive)) return undefined
  const seen = `timeout ${timeout}, tcp-keepalive ${keepalive}`
  if (timeout > 0 && timeout < 30) {
    return {
      severity: "warning",
      seen,
      why: "the server closes connections that are idle for so long, so the next lock first waits for a connection",
      fix: "CONFIG SET timeout 0 (tcp-keepalive finds the dead ones), and the same in redis.conf"
    }
  }
  return keepalive === 0
    ? {
      severity: "warning",
      seen,
      why: "the server never notices that a machine is gone, so it keeps sending hand-overs to listeners that are dead",
      fix: "CONFIG SET tcp-keepalive 300 or less, and the same in redis.conf"
    }
    : ok(seen)
}

/** A listener of 10,000 waiters gets less than this at once. */
const enoughBuffer = 1_048_576

const buffers: Rule = ({ config }) => {
  const limit = /\bpubsub (\d+) (\d+) (\d+)/.exec(config("client-output-buffer-limit") ?? "")
  if (limit === null) return undefined
  const [hard, soft, seconds] = limit.slice(1).map(Number) as [number, number, number]
  const seen = `client-output-buffer-limit pubsub ${hard} ${soft} ${seconds}`
  const isSmall = [hard, soft].some((bytes) => bytes > 0 && bytes < enoughBuffer)
  return isSmall
    ? {
      severity: "warning",
      seen,
      why: "the server cuts off a process that reads its hand-overs slowly, and its waiters then wait up to 2 s longer",
      fix:
        "CONFIG SET client-output-buffer-limit \"pubsub 33554432 8388608 60\" (the default), and the same in redis.conf"
    }
    : ok(seen)
}

const connections: Rule = ({ config, count }) => {
  const [clients, most] = [count("connected_clients"), count("maxclients") ?? Number(config("maxclients") ?? NaN)]
  if (clients === undefined || Number.isNaN(most)) return undefined
  const seen = `${clients} of ${most} connections`
  return clients / most < nearlyFull ? ok(seen) : {
    severity: "warning",
    seen,
    why: "a process that loses its connection may not get another one, and loses its locks at their deadlines",
    fix: "CONFIG SET maxclients to more, and see who has so many connections (CLIENT LIST)"
  }
}

/** From how many milliseconds on a command of somebody else is told. */
const slow = 100

/** A slow command stops the whole server. */
export const slowCommands = (limit: number): Rule => ({ slowest }) => {
  if (slowest === undefined || slowest.millis < slow) {
    return slowest === undefined ? undefined : ok(`the slowest command took ${Math.round(slowest.millis)} ms`)
  }
  return {
    severity: slowest.millis >= limit / 2 ? "warning" : "note",
    seen: `a ${slowest.command.toUpperCase()} took ${Math.round(slowest.millis)} ms (SLOWLOG)`,
    why: `no renewal is answered while it runs, and a renewal has ${Math.round(limit)} ms`,
    fix: "find it by SLOWLOG GET, and make it smaller or move it to another server; SLOWLOG RESET forgets it"
  }
}

/** Whether something between us and the server hands our commands to others. */
export const proxy = (ourPort: number | undefined): Rule => ({ clientIds, portSeen, runIds }) => {
  if (runIds.size > 1 || clientIds.size > 1) {
    return {
      severity: "error",
      seen: runIds.size > 1
        ? "two questions on one connection were answered by two servers"
        : "two questions on one connection came to the server by two connections",
      why: "a proxy spreads the commands: a release can overtake its acquire, and messages to waiters get lost",
      fix: "name the servers themselves, or let the proxy pass each connection on as a whole (mode tcp)"
    }
  }
  if (portSeen === undefined || ourPort === undefined) return undefined
  return portSeen === ourPort ? ok("our connection ends at the server itself") : {
    severity: "note",
    seen:
      `the server sees our connection come from port ${portSeen}, not from ${ourPort}: a proxy or NAT is in between`,
    why: "what is in between may drop idle connections without a word, and then waiters hear late",
    fix: "let it keep idle connections for 60 s or longer, or set DLOCK_OPERATION_TIMEOUT=500 to notice sooner"
  }
}

/** The checks that need nothing but what the server tells of itself. */
export const rules: Readonly<Record<string, Rule>> = {
  version,
  eviction: memory,
  persistence,
  loading,
  timeouts,
  "output-buffer": buffers,
  connections
}
