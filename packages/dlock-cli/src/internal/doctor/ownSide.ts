import type { Finding } from "effect-dlock/Diagnosis"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { monitorEventLoopDelay } from "node:perf_hooks"
import type { Driver } from "../backend.ts"

/** The oldest Node.js that this package runs on, as its manifest says. */
const oldest = [22, 19] as const

export const nodeFinding: Finding = (() => {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
  const seen = `Node.js ${process.versions.node}`
  return major > oldest[0] || (major === oldest[0] && minor >= oldest[1])
    ? { check: "node", severity: "ok", seen }
    : {
      check: "node",
      severity: "error",
      seen,
      why: "the library needs functions that this version does not have",
      fix: `update to Node.js ${oldest.join(".")} or newer`
    }
})()

/** What the ttl itself means, whatever the server. All times are in milliseconds. */
export const ttlFindings = (ttl: number, driver: Driver): ReadonlyArray<Finding> => {
  const seen = `the ttl is ${ttl / 1_000} s`
  if (ttl < 1_000) {
    return [{
      check: "ttl",
      severity: "warning",
      seen,
      why: "one pause of the process (garbage collection, a busy machine) or one lost packet loses the lock",
      fix: "use a ttl of 1 s or more (DLOCK_DEFAULT_TTL)"
    }]
  }
  if (driver === "etcd" && ttl % 1_000 !== 0) {
    return [{
      check: "ttl",
      severity: "note",
      seen,
      why: "etcd counts in whole seconds, so that the lease is longer",
      fix: `use ${Math.ceil(ttl / 1_000)} s`
    }]
  }
  return [{ check: "ttl", severity: "ok", seen }]
}

/** Milliseconds by which timers of an idle process are late now and then. */
const usual = 100

/** Watches by how much this process itself is late, until it is asked. */
export const eventLoop: Effect.Effect<(ttl: number) => Finding, never, Scope.Scope> = Effect.gen(function*() {
  const delay = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const delay = monitorEventLoopDelay({ resolution: 10 })
      delay.enable()
      return delay
    }),
    (delay) => Effect.sync(() => delay.disable())
  )
  return (ttl) => {
    const late = Math.max(0, delay.max / 1_000_000 - 10)
    const guardGap = Math.max(100, ttl / 10)
    const seen = `the timers of this process were late by at most ${Math.round(late)} ms`
    if (late < usual) return { check: "event-loop", severity: "ok", seen }
    return {
      check: "event-loop",
      severity: late >= guardGap ? "warning" : "note",
      seen,
      why: `a holder notices a loss late by as much, and has a guard gap of ${Math.round(guardGap)} ms`,
      fix: "see what else runs on this machine, and whether the container's CPU is throttled"
    }
  }
})
