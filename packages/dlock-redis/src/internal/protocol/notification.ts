/** The messages that scripts publish to the inbox of a process. */

import { type Mark, markOf } from "./revocation.ts"
import { grantOf, type Token } from "./script.ts"

/**
 * A message on the inbox of a process. `Granted`: one of its claims was granted. `Wake`: the lock is free, so its
 * claims should ask for it. `Contended`: others wait behind these claims, which are held. `Asked`: the holder of this
 * claim was asked to leave. `Broken`: this claim was taken from its holder. `Changed`: an observed lock has changed.
 *
 * A version that does not know a message ignores it.
 */
export type Notification =
  | Token & { readonly _tag: "Granted"; readonly id: string; readonly lock: string }
  | { readonly _tag: "Wake"; readonly lock: string }
  | { readonly _tag: "Contended"; readonly ids: ReadonlyArray<string> }
  | { readonly _tag: "Asked"; readonly id: string; readonly grace: number; readonly mark: Mark }
  | { readonly _tag: "Broken"; readonly id: string }
  | { readonly _tag: "Changed"; readonly lock: string }

/** Lua expressions that build the messages. `ids` is a list. */
export const grantMessage = (id: string, token: string, lock: string): string =>
  `"g:" .. ${id} .. ":" .. ${token} .. ":" .. ${lock}`
export const wakeMessage = (lock: string): string => `"w:" .. ${lock}`
export const contendedMessage = (ids: string): string => `"c:" .. table.concat(${ids}, ",")`
export const askedMessage = (id: string, grace: string, text: string): string =>
  `"r:" .. ${id} .. ":" .. ${grace} .. ":" .. ${text}`
export const brokenMessage = (id: string): string => `"b:" .. ${id}`
export const changedMessage = (lock: string): string => `"o:" .. ${lock}`

/**
 * Parses `g:id:token:lock`, `w:lock`, `c:id,id`, `r:id:grace:text`, `b:id` and `o:lock`. Returns `undefined` for any other text, because any client can publish on the
 * channel.
 */
export const decodeNotification = (message: string): Notification | undefined => {
  const grant = /^g:([\w-]{22}):(\d+):(.*)$/s.exec(message)
  if (grant !== null) {
    const [, id, token, lock] = grant as unknown as [string, string, string, string]
    return { _tag: "Granted", id, ...grantOf(token), lock }
  }
  const ids = /^c:([\w-]{22}(?:,[\w-]{22})*)$/.exec(message)?.[1]
  if (ids !== undefined) return { _tag: "Contended", ids: ids.split(",") }
  const asked = /^r:([\w-]{22}):(\d+):(.*)$/s.exec(message)
  if (asked !== null) {
    const [, id, grace, text] = asked as unknown as [string, string, string, string]
    return { _tag: "Asked", id, grace: Number(grace), mark: markOf(text) }
  }
  const broken = /^b:([\w-]{22})$/.exec(message)?.[1]
  if (broken !== undefined) return { _tag: "Broken", id: broken }
  if (message.startsWith("o:")) return { _tag: "Changed", lock: message.slice(2) }
  return message.startsWith("w:") ? { _tag: "Wake", lock: message.slice(2) } : undefined
}
