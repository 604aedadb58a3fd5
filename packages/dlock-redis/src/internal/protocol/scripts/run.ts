/** The script that reads and writes the record of a job's last run. */

import type { RunOutcome } from "effect-dlock/LockStore"
import { lockValue, runValue } from "../format.ts"
import type { LockKeys } from "../keys.ts"
import { clock, newerVersion } from "../prelude.ts"
import { Call, list, make, type Script, unexpected, whole } from "../script.ts"

/** When a run is due: an interval in milliseconds, or a slot. */
export type RunPeriod = { readonly interval: number } | { readonly slot: bigint }

export interface RunArgs {
  readonly keys: LockKeys
  /** `find` only reads. The others are for the claim that holds the lock. */
  readonly step: "find" | "begin" | "end"
  /** Absent to find the record alone. */
  readonly period?: RunPeriod | undefined
  /** The claim of the run. */
  readonly id?: string | undefined
  /** Whether the run counts by this step. */
  readonly isCounted?: boolean | undefined
  /** How the run ended. */
  readonly outcome?: RunOutcome | undefined
  /** How many milliseconds the run took. */
  readonly elapsed?: number | undefined
  readonly label?: string | undefined
}

export interface RunFound {
  readonly slot: bigint | undefined
  readonly startedAt: number
  readonly endedAt: number | undefined
  readonly outcome: RunOutcome | undefined
  readonly label: string
}

export type RunReply =
  | { readonly _tag: "Due" | "Done"; readonly now: number; readonly last: RunFound | undefined }
  | { readonly _tag: "Recorded" | "NotHeld" }

/** Milliseconds for which the record of a slot is kept: 90 days. */
export const slotKeptFor = 90 * 24 * 60 * 60 * 1_000

const letterOf: { readonly [outcome in RunOutcome]: string } = { succeeded: "s", failed: "f", interrupted: "i" }

/**
 * Keys: the lock and the record. Arguments: step, kind of period (i, s or -), interval or slot, id, whether the run
 * counts (1 or 0), outcome, elapsed, label, and the milliseconds to keep the record for.
 *
 * Returns { "due" or "done", now, record }, "recorded" or "notHeld".
 *
 * Slots have up to 19 digits, more than a number can hold exactly, so they are compared as text.
 */
export const run: Script<RunArgs, RunReply> = make({
  name: "run",
  lua: `
${clock}
local lock, record = KEYS[1], KEYS[2]
local step, kind, amount, id, isCounted, outcome, elapsed, label, kept = unpack(ARGV)
local text = redis.call("GET", record)
local slot, countedAt, by, startedAt, endedAt, ended = string.match(text or "", ${runValue.pattern})
if text and not slot then return redis.error_reply("${newerVersion}") end
local function at(time) return string.format("%.0f", time) end
local function isDone()
  if not slot or kind == "-" then return false end
  if kind == "i" then return countedAt ~= "-" and countedAt + amount > now end
  if slot == "-" then return false end
  if #slot ~= #amount then return #slot > #amount end
  return slot >= amount
end
local isMine = by == id and id ~= ""
local done = isDone() and not (isMine and step == "begin")
local answer = { done and "done" or "due", at(now), text }
if step == "find" then return answer end

local own = ${lockValue.startOfClaim("id")}
if string.sub(redis.call("GET", lock) or "", 1, #own) ~= own then return "notHeld" end
if step == "begin" and (done or isMine or isCounted == "0") then return answer end
if step == "end" and isMine and ended ~= "-" then return "recorded" end
if isCounted == "1" then
  if kind == "s" then slot = amount else countedAt = at(now) end
end
if not isMine then startedAt = at(now - elapsed) end
local isEnd = step == "end"
local value = ${
    runValue.write(
      "(slot or \"-\")",
      "(countedAt or \"-\")",
      "id",
      "startedAt",
      "(isEnd and at(now) or \"-\")",
      "(isEnd and outcome or \"-\")",
      "label"
    )
  }
redis.call("SET", record, value, "PX", at(math.max(tonumber(kept), redis.call("PTTL", record))))
return isEnd and "recorded" or answer
`,
  lockOf: ({ keys }) => keys,
  encode: ({ elapsed, id, isCounted, keys, label, outcome, period, step }) => {
    const [kind, amount, kept] = period === undefined
      ? ["-", "0", "0"]
      : "slot" in period
      ? ["s", String(period.slot), String(slotKeptFor)]
      : ["i", whole(period.interval), whole(period.interval)]
    return new Call(undefined, [keys.lock, keys.record], [
      step,
      kind,
      amount,
      id ?? "",
      isCounted === true ? "1" : "0",
      outcome === undefined ? "-" : letterOf[outcome],
      whole(elapsed ?? 0),
      label ?? "",
      kept
    ])
  },
  decode: (raw) => {
    if (raw === "recorded") return { _tag: "Recorded" }
    if (raw === "notHeld") return { _tag: "NotHeld" }
    const [tag, now, text] = list(raw)
    if (tag !== "due" && tag !== "done") throw unexpected(raw)
    return {
      _tag: tag === "due" ? "Due" : "Done",
      now: Number(now),
      last: typeof text === "string" ? found(text) : undefined
    }
  }
})

const found = (text: string): RunFound => {
  const [, slot, , , startedAt, endedAt, outcome, ...label] = text.split("|")
  return {
    slot: slot === "-" ? undefined : BigInt(slot!),
    startedAt: Number(startedAt),
    endedAt: endedAt === "-" ? undefined : Number(endedAt),
    outcome: (Object.keys(letterOf) as Array<RunOutcome>).find((one) => letterOf[one] === outcome),
    label: label.join("|")
  }
}
