/** The messages that scripts publish to the inbox of a process. */

/** What a process receives on its inbox: a grant, or that the lock is free and its claims should ask. */
export type Notification =
  | { readonly _tag: "Granted"; readonly id: string; readonly token: bigint; readonly lock: string }
  | { readonly _tag: "Wake"; readonly lock: string }

/** Lua expressions that make these messages of other expressions. */
export const grantMessage = (id: string, token: string, lock: string): string =>
  `"g:" .. ${id} .. ":" .. ${token} .. ":" .. ${lock}`
export const wakeMessage = (lock: string): string => `"w:" .. ${lock}`

/** Reads `g:id:token:lock` and `w:lock`; `undefined` for anything else, since anyone may publish. */
export const decodeNotification = (message: string): Notification | undefined => {
  const grant = /^g:([\w-]{22}):(\d+):(.*)$/s.exec(message)
  if (grant !== null) {
    const [, id, token, lock] = grant as unknown as [string, string, string, string]
    return { _tag: "Granted", id, token: BigInt(token), lock }
  }
  return message.startsWith("w:") ? { _tag: "Wake", lock: message.slice(2) } : undefined
}
