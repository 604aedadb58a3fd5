import { baseKeyCount, sharedKeyCount } from "../../../packages/dlock-redis/src/internal/protocol/format.ts"
import * as Scripts from "../../../packages/dlock-redis/src/internal/protocol/index.ts"
import type * as Model from "../../../packages/dlock-redis/test/model/server.ts"

/** What a server says, as a client's parser hands it on. */
export type Raw = string | number | Error | ReadonlyArray<Raw>

export const error = (message: string): Error => {
  const reply = new Error(message)
  reply.name = "ReplyError"
  return reply
}

type Name = "acquire" | "refresh" | "peek" | "renew" | "release" | "confirm"

/** Scripts by their digest and by their text. */
export const scripts: ReadonlyMap<string, { readonly name: Name; readonly sha: string }> = new Map(
  [Scripts.acquire, Scripts.refresh, Scripts.peek, Scripts.renew, Scripts.release, Scripts.confirm].flatMap(
    (script) => {
      const known = { name: script.name as Name, sha: script.sha }
      return [[script.sha, known], [script.lua, known]] as const
    }
  )
)

/** A script's keys and arguments, read back as the model takes them. */
export type Request =
  | { readonly name: "acquire"; readonly lock: string; readonly args: Model.AcquireArgs; readonly label: string }
  | {
    readonly name: "refresh"
    readonly locks: ReadonlyArray<{ readonly lock: string; readonly args: Model.RefreshArgs }>
  }
  | { readonly name: "peek"; readonly locks: ReadonlyArray<{ readonly lock: string; readonly token: number }> }
  | {
    readonly name: "renew"
    readonly claims: ReadonlyArray<{ readonly lock: string; readonly args: Model.RenewArgs }>
  }
  | { readonly name: "release"; readonly lock: string; readonly args: Model.ReleaseArgs }
  | { readonly name: "confirm"; readonly lock: string; readonly id: string; readonly token: number }

/** The lock that a key is of: itself, or one of its companions. */
const lockOf = (key: string): string => {
  const end = key.indexOf("\0")
  if (end < 0) return key
  const before = key.slice(0, end)
  return before.endsWith("}:") ? before.slice(1, -2) : before.slice(0, -2)
}

export const decode = (name: Name, keys: ReadonlyArray<string>, args: ReadonlyArray<string>): Request => {
  const lock = keys[0]!
  const text = (index: number): string => args[index]!
  const number = (index: number): number => Number(args[index])
  switch (name) {
    case "acquire":
      return {
        name,
        lock,
        args: {
          id: text(0),
          inbox: text(2),
          ttl: number(3),
          guard: number(4),
          permits: number(5),
          capacity: number(6),
          mode: text(7) as "queue" | "try"
        },
        label: text(1)
      }
    case "refresh": {
      const locks: Array<{ lock: string; args: Model.RefreshArgs }> = []
      for (let key = 0, at = 1; key < keys.length;) {
        const claims: Array<Model.RefreshArgs["claims"][number]> = []
        const end = at + 2 + 3 * number(at + 1)
        const stride = text(at) === "1" ? baseKeyCount : baseKeyCount + sharedKeyCount
        for (at += 2; at < end; at += 3) claims.push({ id: text(at), ttl: number(at + 1), guard: number(at + 2) })
        locks.push({ lock: keys[key]!, args: { inbox: text(0), claims } })
        key += stride
      }
      return { name, locks }
    }
    case "peek":
      return { name, locks: keys.map((lock, index) => ({ lock, token: number(index) })) }
    case "renew": {
      const claims: Array<{ lock: string; args: Model.RenewArgs }> = []
      let key = 0
      for (let at = 0; at < args.length; at += 5) {
        const capacity = number(at + 4)
        const args = { id: text(at), token: number(at + 1), ttl: number(at + 2), guard: number(at + 3), capacity }
        claims.push({ lock: lockOf(keys[key]!), args })
        key += capacity === 1 ? 1 : 2
      }
      return { name, claims }
    }
    case "confirm":
      return { name, lock: lockOf(lock), id: text(0), token: number(1) }
    case "release":
      return { name, lock, args: { id: text(0), tombstone: text(1) !== "0", interop: text(2) === "1" } }
  }
}

type Labels = ReadonlyMap<string, string>

const situation = ({ holder, remaining }: Model.Situation, labels: Labels): ReadonlyArray<Raw> =>
  holder === undefined
    ? ["free", "", 0]
    : holder === "foreign"
    ? ["foreign", "", remaining === Infinity ? -1 : remaining]
    : ["held", labels.get(holder) ?? "", remaining]

/** The model stops nowhere before it is done. */
export const done = (reply: ReadonlyArray<Raw>): ReadonlyArray<Raw> => [...reply, 0]

export const claimReply = (reply: Model.AcquireReply, labels: Labels): ReadonlyArray<Raw> => {
  switch (reply._tag) {
    case "Granted":
      return ["granted", String(reply.token)]
    case "Queued":
      return ["queued", String(reply.floor), reply.place, reply.length, ...situation(reply, labels)]
    case "Busy":
      return ["busy", reply.length, ...situation(reply, labels)]
    case "Mismatch":
      return ["mismatch"]
    case "Cancelled":
      return ["cancelled"]
    case "Gone":
      return ["gone"]
  }
}

export const acquireReply = (reply: Model.AcquireReply, labels: Labels): Raw => {
  const raw = claimReply(reply, labels)
  return reply._tag === "Mismatch" || reply._tag === "Cancelled" ? raw : done(raw)
}

export const releaseReply = (reply: Model.ReleaseReply, labels: Labels): Raw =>
  reply._tag === "Released"
    ? done(["released"])
    : done([reply._tag === "Cancelled" ? "cancelled" : "notHeld", reply.length, ...situation(reply, labels)])

/** The claims of which a request may make, keep or end something, with their times to live where it says them. */
export const claimsIn = (request: Request): ReadonlyArray<{ readonly id: string; readonly ttl?: number }> => {
  switch (request.name) {
    case "acquire":
      return [request.args]
    case "refresh":
      return request.locks.flatMap(({ args }) => args.claims)
    case "release":
      return [{ id: request.args.id }]
    case "peek":
    case "renew":
    case "confirm":
      return []
  }
}

/** Until when, after it was sent, a request's reply lets each of its claims be believed in: milliseconds by claim. */
export const confirmations = (request: Request, reply: Raw): ReadonlyArray<readonly [id: string, ms: number]> => {
  if (!Array.isArray(reply)) return []
  const stands = (one: Raw): boolean => Array.isArray(one) && (one[0] === "granted" || one[0] === "queued")
  switch (request.name) {
    case "acquire":
      return stands(reply) ? [[request.args.id, request.args.ttl]] : []
    case "refresh":
      return request.locks.flatMap(({ args }, nth) =>
        args.claims.flatMap(({ id, ttl }, index) =>
          stands((reply[nth] as ReadonlyArray<Raw>)[index]!) ? [[id, ttl] as const] : []
        )
      )
    case "renew":
      return request.claims.flatMap(({ args }, index) => reply[index] === "ok" ? [[args.id, args.ttl] as const] : [])
    case "release":
    case "peek":
    case "confirm":
      return []
  }
}
