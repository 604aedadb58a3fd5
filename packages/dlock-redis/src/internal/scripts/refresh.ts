import type { Names } from "../names.ts"
import { changes, clock, state } from "./prelude.ts"
import {
  Call,
  claimReply,
  type Gone,
  type Granted,
  list,
  make,
  type Progress,
  type Queued,
  type Script,
  whole
} from "./script.ts"

export interface RefreshArgs {
  readonly names: Names
  readonly inbox: string
  /** Claims of one process on one lock. With none the call only moves the queue on. */
  readonly claims: ReadonlyArray<{ readonly id: string; readonly ttl: number; readonly guard: number }>
}

export type RefreshReply = Progress & { readonly claims: ReadonlyArray<Granted | Queued | Gone> }

/**
 * Says that these claims still wait, and asks how they stand. Never creates an entry.
 *
 * Keys: the lock's eight. Arguments: inbox, then id, ttl, guard of each claim.
 *
 * Returns for each claim { "granted", token }, { "queued", floor, place, length, kind, label, remaining } or { "gone" },
 * and then more.
 */
export const refresh: Script<RefreshArgs, RefreshReply> = make({
  name: "refresh",
  lua: `
${clock}${state}${changes}
look(1)
local inbox = ARGV[1]
local listening = (#ARGV > 1 and subscribers(inbox) or 0) > 0 and 1 or 0
sweep()

local replies, asking = {}, {}
for i = 2, #ARGV, 3 do
  local id, ttl, guard = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local token = extend(id, ttl, guard)
  if token then
    replies[id] = { "granted", token }
  else
    local mine = read(id)
    if mine then
      if mine.parkedAt then unpark(mine) end
      enter(id, now + ttl, inbox, ttl, guard, mine.want.permits, mine.want.capacity, listening, mine.want.label)
      asking[id] = true
    else
      drop({ id })
      replies[id] = { "gone" }
    end
  end
end
promote(asking)

local list = {}
for i = 2, #ARGV, 3 do list[#list + 1] = replies[ARGV[i]] or answer(ARGV[i]) end
publish(asking)
return withMore(list)
`,
  encode: ({ claims, inbox, names }) =>
    new Call(names, [], [inbox, ...claims.flatMap(({ guard, id, ttl }) => [id, whole(ttl), whole(guard)])]),
  decode: (raw) => {
    const replies = list(raw)
    return { claims: replies.slice(0, -1).map(claimReply), more: replies.at(-1) === 1 }
  }
})
