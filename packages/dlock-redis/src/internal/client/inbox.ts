/** The channel on which a process receives its notifications, and the subscription to it. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Base64Url from "effect/encoding/Base64Url"
import type { Redis } from "ioredis"
import { isReply, sanitized } from "./failure.ts"

/** The name of a new channel, which only this process uses. */
export const newInbox = (): string => `dlock:inbox:${Base64Url.encode(SecureRandom.randomBytesUnsafe(16))}`

/** Logs that the server refuses the subscription. The caller logs this once until the server accepts. */
export const warnOfRefusal = (telemetry: StoreTelemetry, error: unknown): void =>
  telemetry.warn(
    `Redis refuses the subscription to dlock:inbox:*, so waiters poll: does the user lack +subscribe or the channel? (${
      sanitized(error).message
    })`
  )

/**
 * How many milliseconds to wait before the next attempt to subscribe. No event tells a connection that the permission
 * was granted.
 */
export const listenAgainAfter = 1_000

/** Subscribes on each new connection. After a refusal it keeps trying, and the waiters poll meanwhile. */
export const listenOnEach = (
  subscriber: Redis,
  inbox: string,
  onListening: () => void,
  telemetry: StoreTelemetry
): void => {
  let isRefused = false
  let again: NodeJS.Timeout | undefined
  const listen = (): void => {
    clearTimeout(again)
    if (subscriber.status !== "ready") return
    subscriber.subscribe(inbox).then(() => {
      isRefused = false
      onListening()
    }, (error: unknown) => {
      const cause = sanitized(error)
      if (!isReply(cause)) return subscriber.disconnect(true)
      if (!isRefused) warnOfRefusal(telemetry, cause)
      isRefused = true
      clearTimeout(again)
      again = setTimeout(listen, listenAgainAfter).unref()
    })
  }
  subscriber.on("ready", listen)
}
