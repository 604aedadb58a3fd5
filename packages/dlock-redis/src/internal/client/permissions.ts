/** Checks that the user may call the commands of the scripts. */

import type { LockBackendError } from "effect-dlock/LockError"
import * as Effect from "effect/Effect"
import { notConnected } from "./failure.ts"
import type { Ask, Port } from "./port.ts"

/**
 * Calls every command of the scripts without writing anything: the key does not exist, and the conditions do not hold.
 * The probe cannot check the permission for keys, because no lock's name is known yet. The server refuses a forbidden
 * key before a script starts, so nothing is written then either.
 *
 * Arguments: inbox, key. Returns the commands that the server refuses.
 */
export const probe = `
local inbox, key = ARGV[1], ARGV[2]
local refused = {}
local function try(name, ...)
  local reply = redis.pcall(name, ...)
  local text = type(reply) == "table" and reply.err or ""
  for _, words in ipairs({ "permissions to run", "t run this command", "nknown Redis command", "a channel", "the channel" }) do
    if string.find(text, words, 1, true) then
      refused[#refused + 1] = "+" .. string.lower(name)
      if name == "PUBLISH" then refused[#refused + 1] = "&dlock:inbox:*" end
      return
    end
  end
end
try("GET", key)
try("SET", key, "", "XX", "PX", 1)
try("DEL", key)
try("EXISTS", key)
try("PTTL", key)
try("PEXPIRE", key, 1)
try("TIME")
try("ZADD", key, "XX", 0, "member")
try("ZCARD", key)
try("ZCOUNT", key, 0, 0)
try("ZRANGE", key, 0, 0)
try("ZRANGEBYSCORE", key, 0, 0)
try("ZRANK", key, "member")
try("ZREM", key, "member")
try("ZREMRANGEBYRANK", key, 0, 0)
try("ZMSCORE", key, "member")
try("ZSCORE", key, "member")
try("HDEL", key, "field")
try("HGET", key, "field")
try("HLEN", key)
try("HMGET", key, "field")
try("HSCAN", key, 0)
try("HSET", key, "field", "value", "a field without a value")
try("PUBSUB", "NUMSUB", inbox)
try("PUBLISH", inbox, "")
return refused
`

/** The error for missing permissions, in the syntax of an access control list. */
export const lacking = (permissions: ReadonlyArray<string>, cause?: Error): Error =>
  new Error(`NOPERM the user lacks ${permissions.join(" ")}`, cause && { cause })

export const isRefused = (error: Error): boolean => /\bNOPERM\b|unknown command/i.test(error.message)

/** What the subscription to the inbox needs. */
export const toListen: ReadonlyArray<string> = ["+subscribe", "&dlock:inbox:*"]

/** The permissions that the user lacks at one server, of those that the scripts and the layer need. */
export const missing = (
  ask: Ask,
  inbox: string,
  { waitReplicas = 0 }: { readonly waitReplicas?: number } = {}
): Effect.Effect<ReadonlyArray<string>> => {
  const may = (permission: string, ...command: [string, ...Array<string>]) =>
    Effect.match(ask(...command), {
      onSuccess: (reply) => Array.isArray(reply) ? reply.map(String) : [],
      onFailure: ({ cause }) => isRefused(cause) ? [permission] : []
    })
  return Effect.map(
    Effect.all([
      may("+eval", "EVAL", probe, "0", inbox, "dlock:\0p"),
      may("+evalsha", "EVALSHA", "0".repeat(40), "0"),
      may("+ping", "PING"),
      may("+info", "INFO", "server"),
      ...(waitReplicas > 0 ? [may("+wait", "WAIT", "0", "1")] : [])
    ], { concurrency: "unbounded" }),
    (lists) => lists.flat()
  )
}

/** Fails if the user of this connection lacks a permission that the scripts, the inbox or the layer need. */
export const check = (port: Port): Effect.Effect<void, LockBackendError> =>
  Effect.forEach(
    port.servers(),
    ({ ask }) =>
      Effect.flatMap(missing(ask, port.inbox), (lists) =>
        lists.length > 0 ? Effect.fail(notConnected(lacking(lists), false)) : Effect.void),
    {
      discard: true,
      concurrency: "unbounded"
    }
  )
