/** The Lua code that tells observers of a lock that it has changed. */

import { changedMessage } from "./notification.ts"

/** How many processes observe a lock at most. Further ones ask twice a second. */
export const mostObservers = 64

/** A Lua expression for the inboxes of those who observe the lock now. */
export const inboxesOfObservers = `redis.call(
    "ZRANGEBYSCORE", observers, "(" .. string.format("%.0f", now), "+inf", "LIMIT", 0, ${mostObservers}
  )`

/**
 * `tellObservers` is what a script does after the last change to a lock. A claim that expires changes nothing before a
 * script sweeps it, so that nobody is told of an expiry.
 */
export const observing = `
local function tellObservers()
  if not isChanged or observed == 0 then return end
  isChanged = false
  for _, inbox in ipairs(${inboxesOfObservers}) do
    notifications[#notifications + 1] = { inbox = inbox, text = ${changedMessage("lock")} }
  end
end
`
