/** The Lua code that tells holders that others wait behind them. */

import { sharedValue } from "./format.ts"
import { contendedMessage } from "./notification.ts"

/** How many holders one script tells. The others hear of it with the answer to their next renewal. */
const mostTold = 64

/**
 * A holder is told once, with its grant if others wait then, and otherwise when the queue forms behind it. So a hand-over
 * sends no more messages than before, and a claim that joins a queue sends none.
 *
 * - `isContended`: whether a live claim waits in the queue. Waiters that were passed over do not count.
 * - `contendedToken`: a token as `grantOf` reads it.
 * - `tellHolders`: what a script does after the last change to the queue of a lock.
 */
export const contention = `
local function isContended()
  local head = redis.call("ZRANGE", queue, 0, 0)[1]
  return head and tonumber(redis.call("ZSCORE", deadlines, head) or 0) > now
end

local function contendedToken(token) return isContended() and "0" .. token or token end

local function tellHolders()
  if (not isForming and #granted == 0) or not isContended() then return end
  for _, one in ipairs(granted) do one.token = "0" .. one.token end
  if not isForming then return end
  local told = {}
  local function tell(id, inbox)
    if not told[inbox] then
      told[inbox] = {}
      told[#told + 1] = inbox
    end
    table.insert(told[inbox], id)
  end
  if holder and not holder.foreign then tell(holder.id, holder.inbox) end
  local ids = values and redis.call(
    "ZRANGEBYSCORE", holders, "(" .. string.format("%.0f", now), "+inf", "LIMIT", 0, ${mostTold}
  ) or {}
  for i, value in ipairs(#ids > 0 and redis.call("HMGET", values, unpack(ids)) or {}) do
    local inbox = value and select(6, string.match(value, ${sharedValue.pattern}))
    if inbox then tell(ids[i], (splitInbox(inbox))) end
  end
  for _, inbox in ipairs(told) do
    notifications[#notifications + 1] = { inbox = inbox, text = ${contendedMessage("told[inbox]")} }
  end
end
`
