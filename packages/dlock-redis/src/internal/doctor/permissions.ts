/** What the user lacks, by name. */

import type { Finding } from "effect-dlock/Diagnosis"
import * as Effect from "effect/Effect"
import { sanitized } from "../client/failure.ts"
import * as Permissions from "../client/permissions.ts"
import type { Ask } from "../client/port.ts"
import { baseKeys } from "../protocol/format.ts"
import { keysOf } from "../protocol/keys.ts"

/** What a message to ourselves told. */
export interface Heard {
  /** Why the server refused to let us listen. */
  readonly refusal: Error | undefined
  /** Whether the server refused to let us publish. The permissions tell of it. */
  readonly isMute: boolean
  /** After how many milliseconds our message came. `undefined` if it did not come. */
  readonly after: number | undefined
}

/** The key patterns of a prefix that the user may not use. The server looks at the keys before a script starts. */
const lackingKeys = (ask: Ask, prefix: string): Effect.Effect<ReadonlyArray<string>> => {
  const keys = keysOf(`${prefix}dlock-doctor`)
  if (keys === undefined) return Effect.succeed([])
  return Effect.map(
    Effect.forEach(baseKeys(keys), (key) =>
      Effect.match(ask("EVAL", "return 1", "1", key), {
        onSuccess: () => [],
        onFailure: ({ cause }) =>
          /\bNOPERM\b.*\bkeys?\b/i.test(cause.message) ? [key === keys.lock ? `~${prefix}*` : `~{${prefix}*`] : []
      }), { concurrency: "unbounded" }),
    (lacking) => Array.from(new Set(lacking.flat()))
  )
}

export const permissionFinding = (
  { ask, heard, inbox, prefix, subject, waitReplicas }: {
    readonly ask: Ask
    readonly heard: Heard
    readonly inbox: string
    readonly prefix: string
    readonly subject: string
    readonly waitReplicas: number
  }
): Effect.Effect<Finding> =>
  Effect.gen(function*() {
    const user = yield* Effect.match(ask("ACL", "WHOAMI"), {
      onSuccess: (name) => ` ${String(name)}`,
      onFailure: () => ""
    })
    const lacking = [
      ...(yield* Permissions.missing(ask, inbox, { waitReplicas })),
      ...(heard.refusal !== undefined && Permissions.isRefused(heard.refusal) ? Permissions.toListen : []),
      ...(yield* lackingKeys(ask, prefix))
    ]
    const rules = Array.from(new Set(lacking)).join(" ")
    return rules === ""
      ? { check: "permissions", severity: "ok", subject, seen: `the user${user} has every permission that locks need` }
      : {
        check: "permissions",
        severity: "error",
        subject,
        seen: `the user${user} lacks ${rules}`,
        why: "the layer does not open, or locks fail at the step that needs it",
        fix: `ACL SETUSER${user || " USER"} ${rules}, and the same in the ACL file`
      }
  })

export const messageFinding = (subject: string, { after, isMute, refusal }: Heard): Finding | undefined => {
  if (isMute) return undefined
  if (refusal !== undefined) {
    return Permissions.isRefused(refusal)
      // The permissions tell of it.
      ? undefined
      : {
        check: "messages",
        severity: "warning",
        subject,
        seen: `the subscription failed: ${sanitized(refusal).message}`,
        why: "waiters are not told of a hand-over, and poll",
        fix: "see whether a proxy in between refuses SUBSCRIBE"
      }
  }
  return after === undefined
    ? {
      check: "messages",
      severity: "warning",
      subject,
      seen: "a message that we published did not come back",
      why: "waiters are not told of a hand-over: each waits up to 2 s longer",
      fix: "see whether the user lacks +publish, and whether a proxy in between passes SUBSCRIBE on"
    }
    : { check: "messages", severity: "ok", subject, seen: `a message came after ${after.toPrecision(2)} ms` }
}
