/** Closes a connection on which AUTH or SELECT was refused. */

import type { Redis } from "ioredis"

/**
 * Closes a connection whose greeting did not say where and as whom we speak: AUTH or SELECT was refused on it, or had
 * no answer in time. The client itself prints the one or tells the other, and goes on as another user or in another
 * database. Nothing of ours has been sent by then, since that waits for the ready check, and nothing is after. A
 * refusal of HELLO ends a connection in the client; one of CLIENT does not matter.
 */
export const strictGreeting = <Client extends Redis>(client: Client, refused: (error: unknown) => void): Client => {
  const watched = (step: "auth" | "select") => {
    const send = client[step].bind(client) as (...args: ReadonlyArray<unknown>) => Promise<unknown>
    return (...args: ReadonlyArray<unknown>) => {
      const { stream } = client
      const answered = send(...args)
      answered.catch((error: unknown) => {
        // Where HELLO is not known, the client says all of it again with AUTH. Without that the ready check fails.
        if (stream.destroyed || /^NOAUTH\b/.test(String((error as Error).message))) return
        refused(error)
        stream.destroy()
      })
      return answered
    }
  }
  return Object.assign(client, { auth: watched("auth"), select: watched("select") })
}
