/** Closes a connection on which the server refused AUTH or SELECT. */

import type { Redis } from "ioredis"

/**
 * Closes a connection if the server refused AUTH or SELECT on it, or did not answer in time.
 *
 * By itself, the client only prints or reports such an error, and goes on as another user or in another database. None
 * of our requests was sent by then, because they wait for the ready check, and none is sent afterwards. The client
 * itself closes a connection after a refused HELLO. A refused CLIENT does not matter.
 */
export const strictGreeting = <Client extends Redis>(client: Client, refused: (error: unknown) => void): Client => {
  const watched = (step: "auth" | "select") => {
    const send = client[step].bind(client) as (...args: ReadonlyArray<unknown>) => Promise<unknown>
    return (...args: ReadonlyArray<unknown>) => {
      const { stream } = client
      const answered = send(...args)
      answered.catch((error: unknown) => {
        // If the server does not know HELLO, the client repeats the login with AUTH. If the login is missing, the ready
        // check fails.
        if (stream.destroyed || /^NOAUTH\b/.test(String((error as Error).message))) return
        refused(error)
        stream.destroy()
      })
      return answered
    }
  }
  return Object.assign(client, { auth: watched("auth"), select: watched("select") })
}
