/** The messages that scripts publish to the inbox of a process. */

/**
 * A message on the inbox of a process. `Granted`: one of its claims was granted. `Wake`: the lock is free, so its
 * claims should ask for it.
 */
export type Notification =
  | { readonly _tag: "Granted"; readonly id: string; readonly token: bigint; readonly lock: string }
  | { readonly _tag: "Wake"; readonly lock: string }

/** Lua expressions that build the two messages. */
export const grantMessage = (id: string, token: string, lock: string): string =>
  `"g:" .. ${id} .. ":" .. ${token} .. ":" .. ${lock}`
export const wakeMessage = (lock: string): string => `"w:" .. ${lock}`

/**
 * Parses `g:id:token:lock` and `w:lock`. Returns `undefined` for any other text, because any client can publish on the
 * channel.
 */
export const decodeNotification = (message: string): Notification | undefined => {
  const grant = /^g:([\w-]{22}):(\d+):(.*)$/s.exec(message)
  if (grant !== null) {
    const [, id, token, lock] = grant as unknown as [string, string, string, string]
    return { _tag: "Granted", id, token: BigInt(token), lock }
  }
  return message.startsWith("w:") ? { _tag: "Wake", lock: message.slice(2) } : undefined
}
