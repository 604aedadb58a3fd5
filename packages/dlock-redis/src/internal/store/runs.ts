/** Records of runs. */

import { LockBackendError } from "effect-dlock/LockError"
import { callLimit, type Claim, type Held, type Period, type RunRecord, type RunStore } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { backendError } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import type { LockKeys } from "../protocol/keys.ts"

/**
 * The store's `runs`. `confirm` makes sure that enough replicas have what was written under a claim, so that a run which
 * counts from its start counts after a failover too.
 */
export const make = (
  port: Port,
  keysOf: (claim: Claim) => LockKeys,
  confirm: (held: Held) => Effect.Effect<void, LockBackendError>
): RunStore => {
  const ask = (claim: Claim, args: Omit<Scripts.RunArgs, "keys">) =>
    Effect.mapBoth(port.run(Scripts.run, { keys: keysOf(claim), ...args }, undefined, callLimit(claim)), {
      onFailure: backendError("acquire"),
      onSuccess: ({ value }) => value
    })

  return {
    find: (claim, period) =>
      Effect.flatMap(ask(claim, { step: "find", period: period && periodOf(period) }), (reply) =>
        "now" in reply
          ? Effect.succeed({ isDue: reply._tag === "Due", now: reply.now, last: reply.last && recordOf(reply.last) })
          : Effect.fail(senseless)),
    begin: (held, period, counts) => {
      const { claim } = held
      const isCounted = counts === "start"
      const args = { step: "begin", period: periodOf(period), id: claim.id, isCounted, label: claim.holder } as const
      return Effect.flatMap(ask(claim, args), (reply) => {
        if (reply._tag === "NotHeld") return Effect.succeed("notHeld" as const)
        if (reply._tag === "Done") return Effect.succeed("done" as const)
        return isCounted ? Effect.as(confirm(held), "due" as const) : Effect.succeed("due" as const)
      })
    },
    end: ({ claim }, period, { counts, elapsed, outcome }) =>
      Effect.map(
        ask(claim, {
          step: "end",
          period: periodOf(period),
          id: claim.id,
          isCounted: counts === "success" && outcome === "succeeded",
          outcome,
          elapsed,
          label: claim.holder
        }),
        ({ _tag }) => _tag === "NotHeld" ? "notHeld" : "recorded"
      )
  }
}

const periodOf = (period: Period): Scripts.RunPeriod =>
  period._tag === "Slot" ? { slot: period.slot } : { interval: Duration.toMillis(period.interval) }

const recordOf = ({ label, ...found }: Scripts.RunFound): RunRecord => ({ ...found, holder: label })

const senseless = new LockBackendError({
  operation: "acquire",
  retryable: false,
  cause: new Error("an answer without a record")
})
