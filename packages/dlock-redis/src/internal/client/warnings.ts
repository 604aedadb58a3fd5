/** Warns about server settings that can end a lock. */

import * as Effect from "effect/Effect"
import type { Ask, Port } from "./port.ts"

/** What a server reports about itself, as far as it permits our questions. */
interface Facts {
  readonly policy: string | undefined
  readonly isReplica: boolean
  readonly persists: boolean
}

const facts = (ask: Ask): Effect.Effect<Facts> =>
  Effect.gen(function*() {
    const info = String(yield* Effect.orElseSucceed(ask("INFO"), () => ""))
    const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]
    // If the server does not answer this, assume that it takes snapshots: a false warning would be worse than none.
    const save = yield* Effect.orElseSucceed(ask("CONFIG", "GET", "save"), () => undefined)
    return {
      policy: field("maxmemory_policy"),
      isReplica: field("role") === "slave",
      persists: field("aof_enabled") !== "0" || setting(save) !== ""
    }
  })

/** The value in a reply to `CONFIG GET`, which is a list, a map or an object, depending on the client. */
const setting = (reply: unknown): unknown =>
  Array.isArray(reply)
    ? reply[1]
    : reply instanceof Map
    ? reply.get("save")
    : (reply as { readonly save?: unknown } | undefined)?.save

const kinds: ReadonlyArray<{
  readonly warning: string
  readonly applies: (facts: Facts) => boolean
  readonly text: string
}> = [
  {
    warning: "eviction",
    applies: ({ policy }) => policy !== undefined && policy !== "noeviction",
    text: "Redis may evict locks that are held: set maxmemory-policy to noeviction"
  },
  {
    warning: "replica",
    applies: ({ isReplica }) => isReplica,
    text: "This Redis is a replica, which cannot grant locks: use the address of its primary, or sentinels and master"
  },
  {
    warning: "persistence",
    applies: ({ persists }) => !persists,
    text: "Redis has no persistence, so a restart frees every lock that is held: set appendonly to yes"
  }
]

/** Logs one warning for each kind of server setting that can end an acknowledged lock. */
export const warn = (port: Port): Effect.Effect<void> =>
  Effect.gen(function*() {
    const servers = yield* Effect.forEach(
      port.servers(),
      ({ ask, name }) => Effect.map(facts(ask), (facts) => ({ name, facts })),
      { concurrency: "unbounded" }
    )
    for (const { applies, text, warning } of kinds) {
      const concerned = servers.filter(({ facts }) => applies(facts))
      if (concerned.length === 0) continue
      port.telemetry.warn(text, {
        warning,
        servers: concerned.map(({ name }) => name),
        ...(warning === "eviction" && { policies: concerned.map(({ facts }) => facts.policy) })
      })
    }
  })
