import type { Names } from "../names.ts"
import { state } from "./prelude.ts"
import { Call, type Holder, list, make, type Script } from "./script.ts"

export interface Inspection {
  readonly holders: ReadonlyArray<
    Holder & {
      /** Undefined for a foreign holder. */
      readonly id: string | undefined
      readonly token: bigint | undefined
      readonly permits: number
    }
  >
  /** Live claims in the order of the queue, the first hundred. */
  readonly waiting: ReadonlyArray<{ readonly id: string; readonly permits: number; readonly label: string }>
  /** All entries of the queue. */
  readonly length: number
  /** Undefined where nobody holds or waits. */
  readonly capacity: number | undefined
  /** Every token so far is at most this, every later one greater. */
  readonly lastToken: bigint
}

/**
 * Reads a lock and changes nothing.
 *
 * Keys: the lock's seven. Returns { lastToken, capacity, length, { id, token, permits, kind, label, remaining, … },
 * { id, permits, label, … } }; a capacity of "0" where nobody holds or waits.
 */
export const inspect: Script<{ readonly names: Names }, Inspection> = make({
  name: "inspect",
  lua: `
${state}
local holding, waiting, capacity = {}, {}, "0"
local function add(list, ...)
  for _, field in ipairs({ ... }) do list[#list + 1] = field end
end
if holder then
  capacity = "1"
  add(holding, holder.id or "", holder.token or "", 1, situation())
end
for i = 1, #expiries, 2 do
  local one = shared[expiries[i]]
  if one then
    capacity = one.capacity
    add(holding, one.id, one.token, one.permits, "held", one.label, one.expiry - now)
  end
end
for _, id in ipairs(redis.call("ZRANGE", queue, 0, 99)) do
  local entry = read(id)
  if entry then
    capacity = entry.capacity
    add(waiting, id, entry.permits, entry.label)
  end
end
return { string.format("%.0f", last), capacity, redis.call("ZCARD", queue), holding, waiting }
`,
  encode: ({ names }) => new Call(names, [], []),
  decode: (raw) => {
    const [lastToken, capacity, length, holding, waiting] = list(raw)
    const rows = (fields: unknown, width: number) => {
      const flat = list(fields)
      return Array.from({ length: flat.length / width }, (_, row) => flat.slice(row * width, (row + 1) * width))
    }
    return {
      holders: rows(holding, 6).map(([id, token, permits, kind, label, remaining]) => ({
        id: id === "" ? undefined : String(id),
        token: token === "" ? undefined : BigInt(String(token)),
        permits: Number(permits),
        label: String(label),
        remaining: Number(remaining),
        foreign: kind === "foreign"
      })),
      waiting: rows(waiting, 3).map(([id, permits, label]) => ({
        id: String(id),
        permits: Number(permits),
        label: String(label)
      })),
      length: Number(length),
      capacity: capacity === "0" ? undefined : Number(capacity),
      lastToken: BigInt(String(lastToken))
    }
  }
})
