/** What the user may do, and how long it is believed. */

import type { Finding } from "effect-dlock/Diagnosis"
import * as Effect from "effect/Effect"
import type { IAuthenticateResponse, IAuthUserGetResponse, IOptions } from "etcd3"
import { type Addressed, ask } from "./members.ts"

const isDenied = ({ message }: Error): boolean => /permission denied/.test(message)

/** The server's words for a request that it may do, and does not do. */
const isAnswer = ({ message }: Error): boolean => /lease not found|space exceeded/.test(message)

/** The key behind all keys with a prefix. */
const endOf = (prefix: string): Buffer => {
  const bytes = Buffer.from(prefix)
  bytes[bytes.length - 1]!++
  return bytes
}

/** A lease that nobody has, so that a put on it is refused after the permission was checked, and before it is done. */
const noLease = "1"

export const permissionFinding = (
  member: Addressed,
  prefix: string,
  user: string | undefined
): Effect.Effect<Finding | undefined> =>
  Effect.gen(function*() {
    const key = Buffer.from(`${prefix}dlock-doctor/none`)
    const may = (permission: string, method: string, request: object) =>
      Effect.match(ask(member, "KV", method, request), {
        onSuccess: () => [],
        // Without any other answer nothing is known.
        onFailure: (error) => isDenied(error) ? [permission] : isAnswer(error) ? [] : undefined
      })
    const answers = yield* Effect.all([
      may("read", "range", {
        key: Buffer.from(prefix === "" ? "\0" : prefix),
        range_end: prefix === "" ? Buffer.from("\0") : endOf(prefix),
        limit: 1,
        keys_only: true
      }),
      may("write", "put", { key, value: Buffer.from(""), lease: noLease })
    ])
    const lacking = answers.flatMap((permissions) => permissions ?? [])
    if (lacking.length === 0 && answers.includes(undefined)) return undefined
    const name = user === undefined ? "everybody" : `the user ${user}`
    if (lacking.length === 0) {
      return { check: "permissions", severity: "ok", seen: `${name} may read and write keys that begin with ${prefix}` }
    }
    const roles = user === undefined
      ? []
      : yield* Effect.match(ask<IAuthUserGetResponse>(member, "Auth", "userGet", { name: user }), {
        onSuccess: ({ roles }) => roles,
        onFailure: () => []
      })
    return {
      check: "permissions",
      severity: "error",
      seen: `${name} may not ${lacking.join(" and ")} keys that begin with ${prefix}`,
      why: "every lock is refused",
      fix: `etcdctl role grant-permission ${roles[0] ?? "ROLE"} readwrite --prefix=true ${prefix}`
    }
  })

/** Seconds. With less, each lock may first have to log in again. */
const shortLived = 60

/** How long a token of authentication is valid. Only a signed one tells that. */
export const tokenFinding = (
  member: Addressed,
  auth: NonNullable<IOptions["auth"]>
): Effect.Effect<Finding | undefined> =>
  Effect.match(
    ask<IAuthenticateResponse>(member, "Auth", "authenticate", { name: auth.username, password: auth.password }),
    {
      onFailure: () => undefined,
      onSuccess: ({ token }): Finding | undefined => {
        const seconds = secondsOf(token)
        if (seconds === undefined) {
          return {
            check: "token",
            severity: "ok",
            seen: "simple tokens: each member keeps its own (--auth-token-ttl), and use prolongs them"
          }
        }
        return seconds >= shortLived
          ? { check: "token", severity: "ok", seen: `signed tokens, valid for ${seconds} s` }
          : {
            check: "token",
            severity: "note",
            seen: `signed tokens, valid for ${seconds} s`,
            why: "a login takes a member about 0.1 s of a core, and watches end with their token",
            fix: "--auth-token=jwt,…,ttl=10m on every member"
          }
      }
    }
  )

const secondsOf = (token: string): number | undefined => {
  const [, claims] = token.split(".")
  if (claims === undefined || token.split(".").length !== 3) return undefined
  try {
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString()) as { readonly exp?: number }
    return exp === undefined ? undefined : Math.round(exp - Date.now() / 1_000)
  } catch {
    return undefined
  }
}
