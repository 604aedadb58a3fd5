import { Redis } from "ioredis"
import { names } from "../src/internal/names.ts"
import * as S from "../src/internal/scripts.ts"
const r = new Redis(17391)
const variants: any = {
  now: S.acquire.lua,
  mget: `
if ARGV[6] == "1" then
 local found = redis.call("MGET", KEYS[1], KEYS[2])
 if not found[1] and redis.call("EXISTS", KEYS[3], KEYS[6], KEYS[8]) == 0 then
  local time = redis.call("TIME")
  local token = string.format("%.0f", math.max((tonumber(found[2] or "") or 0) + 1, time[1] * 1000000 + time[2]))
  if redis.call("SET", KEYS[1], ARGV[1] .. ":" .. token .. ":" .. ARGV[8], "NX", "PX", ARGV[3] + ARGV[4]) then
  redis.call("SET", KEYS[2], token, "PX", 86400000 + ARGV[3])
  return { "granted", token } end
 end
end
` + S.acquire.lua
}
for (let round = 0; round < 3; round++) for (const v of Object.keys(variants)) {
  await r.flushall()
  const sha = await r.script("LOAD", variants[v]) as string
  await r.script("LOAD", S.leave.lua)
  await r.config("RESETSTAT")
  const t = performance.now()
  for (let i = 0; i < 30000; i += 100) await Promise.all(Array.from({ length: 100 }, (_, j) => { const m = names("b" + j)!; const x = ("i" + (i + j)).padEnd(22, "_")
    const c = S.acquire.encode({ names: m, id: x, inbox: "in", ttl: 1000, guard: 100, permits: 1, capacity: 1, mode: "queue", label: "" })
    return r.evalsha(sha, 8, ...c.keys, ...c.args).then(() => r.call("DEL", m.lock)) }))
  console.log(v, ((performance.now() - t) / 30000 * 1000).toFixed(1), (await r.info("commandstats")).split("\n").filter((l) => /evalsha/.test(l)).join("\n").slice(0, 70))
}
r.disconnect()
