import { readWriteCapacity } from "effect-dlock/LockStore"
import {
  baseKeyCount,
  kindOf,
  letterOf,
  sharedAt,
  sharedKeyCount
} from "../../../packages/dlock-redis/src/internal/protocol/format.ts"
import * as Scripts from "../../../packages/dlock-redis/src/internal/protocol/index.ts"
import type * as Model from "../../../packages/dlock-redis/test/model/server.ts"
import type { RunArgs } from "./runs.ts"

/** What a server says, as a client's parser hands it on. */
export type Raw = string | number | Error | ReadonlyArray<Raw>

export const error = (message: string): Error => {
  const reply = new Error(message)
  reply.name = "ReplyError"
  return reply
}

type Name =
  | "acquire"
  | "acquireAll"
  | "refresh"
  | "peek"
  | "renew"
  | "shrink"
  | "release"
  | "releaseAll"
  | "confirm"
  | "run"
  | "waiting"
  | AdminRequest["name"]

/** Scripts by their digest and by their text. */
export const scripts: ReadonlyMap<string, { readonly name: Name; readonly sha: string }> = new Map(
  [
    Scripts.acquire,
    Scripts.acquireAll,
    Scripts.refresh,
    Scripts.peek,
    Scripts.renew,
    Scripts.shrink,
    Scripts.release,
    Scripts.releaseAll,
    Scripts.confirm,
    Scripts.run,
    Scripts.waiting,
    Scripts.findHold,
    Scripts.revoke,
    Scripts.breakHold,
    Scripts.inspect,
    Scripts.observe
  ]
    .flatMap((script) => {
      const known = { name: script.name as Name, sha: script.sha }
      return [[script.sha, known], [script.lua, known]] as const
    })
)

/** The requests of those who look at locks from outside. */
export type AdminRequest =
  | { readonly name: "findHold"; readonly lock: string; readonly token: string }
  | {
    readonly name: "revoke"
    readonly lock: string
    readonly id: string
    readonly token: number
    readonly grace: number
    readonly text: string
  }
  | {
    readonly name: "breakHold"
    readonly lock: string
    readonly id: string
    readonly token: number
    readonly interop: boolean
  }
  | { readonly name: "inspect"; readonly lock: string }
  | { readonly name: "observe"; readonly lock: string; readonly inbox: string; readonly time: number }

/** A script's keys and arguments, read back as the model takes them. */
export type Request =
  | AdminRequest
  | { readonly name: "acquire"; readonly lock: string; readonly args: Model.AcquireArgs; readonly label: string }
  | {
    readonly name: "acquireAll"
    /** By claim. */
    readonly locks: ReadonlyArray<string>
    readonly args: Model.AcquireAllArgs
    readonly labels: ReadonlyArray<string>
  }
  | {
    readonly name: "refresh"
    readonly locks: ReadonlyArray<{ readonly lock: string; readonly args: Model.RefreshArgs }>
  }
  | { readonly name: "peek"; readonly locks: ReadonlyArray<{ readonly lock: string; readonly token: number }> }
  | {
    readonly name: "renew"
    readonly claims: ReadonlyArray<{ readonly lock: string; readonly args: Model.RenewArgs }>
  }
  | { readonly name: "shrink"; readonly lock: string; readonly args: Model.RenewArgs; readonly kept: number }
  | { readonly name: "release"; readonly lock: string; readonly args: Model.ReleaseArgs }
  | {
    readonly name: "releaseAll"
    readonly claims: ReadonlyArray<{ readonly lock: string; readonly args: Model.ReleaseArgs }>
  }
  | { readonly name: "confirm"; readonly lock: string; readonly id: string; readonly token: number }
  | { readonly name: "run"; readonly lock: string; readonly args: RunArgs }
  | { readonly name: "waiting"; readonly lock: string; readonly most: number }

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
          kind: kindOf(text(5)),
          permits: number(6),
          capacity: number(7),
          ...modeOf(text(8)),
          isStrict: text(9) === "1"
        },
        label: text(1)
      }
    case "acquireAll": {
      const locks: Array<string> = []
      const labels: Array<string> = []
      const claims: Array<Model.AcquireAllArgs["claims"][number]> = []
      for (let nth = 0, key = 0; nth < number(2); nth++) {
        const at = 3 + 8 * nth
        const kind = kindOf(text(at + 4))
        locks.push(keys[key]!)
        labels.push(text(at + 1))
        claims.push({
          id: text(at),
          ttl: number(at + 2),
          guard: number(at + 3),
          kind,
          permits: number(at + 5),
          capacity: number(at + 6),
          isStrict: text(at + 7) === "1"
        })
        key += kind === "mutex" ? sharedAt + 1 : sharedAt - 1 + sharedKeyCount
      }
      return { name, locks, labels, args: { ...modeOf(text(0)), inbox: text(1), claims } }
    }
    case "refresh": {
      const locks: Array<{ lock: string; args: Model.RefreshArgs }> = []
      for (let key = 0, at = 1; key < keys.length;) {
        const claims: Array<Model.RefreshArgs["claims"][number]> = []
        const end = at + 2 + 3 * number(at + 1)
        const stride = text(at) === letterOf.mutex ? baseKeyCount : baseKeyCount + sharedKeyCount
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
        const shape = shapeOf(text(at + 4)[0]!)
        const isWatched = text(at + 4).length > 1
        const args = { id: text(at), token: number(at + 1), ttl: number(at + 2), guard: number(at + 3), ...shape }
        claims.push({ lock: lockOf(keys[key]!), args: { ...args, isWatched } })
        key += (shape.kind === "mutex" ? 1 : sharedKeyCount) + (isWatched ? 1 : 0)
      }
      return { name, claims }
    }
    case "shrink": {
      const shape = shapeOf(text(5) === "1" ? "x" : "s")
      const args = { id: text(0), token: number(1), ttl: number(2), guard: number(3), ...shape }
      return { name, lock, args, kept: number(4) }
    }
    case "confirm":
      return { name, lock: lockOf(lock), id: text(0), token: number(1) }
    case "run": {
      const args = {
        step: text(0),
        kind: text(1),
        amount: BigInt(text(2)),
        id: text(3),
        isCounted: text(4) === "1",
        outcome: text(5),
        elapsed: number(6),
        label: text(7)
      }
      return { name, lock, args }
    }
    case "waiting":
      return { name, lock: lockOf(lock), most: number(0) }
    case "findHold":
      return { name, lock, token: text(0) }
    case "revoke":
      return { name, lock, id: text(0), token: number(1), grace: number(2), text: text(3) }
    case "breakHold":
      return { name, lock, id: text(0), token: number(1), interop: text(3) === "1" }
    case "inspect":
      return { name, lock }
    case "observe":
      return { name, lock: lockOf(lock), inbox: text(0), time: number(1) }
    case "release":
      return { name, lock, args: { id: text(0), tombstone: text(1) !== "0", interop: text(2) === "1" } }
    case "releaseAll": {
      const claims: Array<{ lock: string; args: Model.ReleaseArgs }> = []
      for (let at = 0, key = 0; at < args.length; at += 2) {
        claims.push({ lock: keys[key]!, args: { id: text(at), tombstone: false, interop: false } })
        key += text(at + 1) === "1" ? baseKeyCount + sharedKeyCount : baseKeyCount
      }
      return { name, claims }
    }
  }
}

/** A number is how many claims may wait before one that waits. */
const modeOf = (text: string): { readonly mode: "queue" | "try"; readonly maxQueue?: number } =>
  text === "try" || text === "queue" ? { mode: text } : { mode: "queue", maxQueue: Number(text) }

/** What a renewal tells of its claim: whether it has a mutex, shares its key, or is exclusive in another way. */
const shapeOf = (letter: string): Pick<Model.RenewArgs, "kind" | "permits" | "capacity"> =>
  letter === "m"
    ? { kind: "mutex", permits: 1, capacity: 1 }
    : letter === "x"
    ? { kind: "readWrite", permits: readWriteCapacity, capacity: readWriteCapacity }
    : { kind: "semaphore", permits: 1, capacity: readWriteCapacity }

type Labels = ReadonlyMap<string, string>

const situation = ({ holder, remaining }: Model.Situation, labels: Labels): ReadonlyArray<Raw> =>
  holder === undefined
    ? ["free", "", 0]
    : holder === "foreign"
    ? ["foreign", "", remaining === Infinity ? -1 : remaining]
    : ["held", labels.get(holder) ?? "", remaining]

/** The model stops nowhere before it is done. */
export const done = (reply: ReadonlyArray<Raw>): ReadonlyArray<Raw> => [...reply, 0]

/** A token as the scripts write it: with a zero in front if others wait behind the claim. */
export const tokenText = (token: number, isContended: boolean): string => (isContended ? "0" : "") + token

export const claimReply = (reply: Model.AcquireReply, labels: Labels, isContended: boolean): ReadonlyArray<Raw> => {
  switch (reply._tag) {
    case "Granted":
      return ["granted", tokenText(reply.token, isContended)]
    case "Queued":
      return ["queued", String(reply.floor), reply.place, reply.length, ...situation(reply, labels)]
    case "Busy":
      return ["busy", reply.length, ...situation(reply, labels)]
    case "Mismatch":
      return ["mismatch", letterOf[reply.kind], reply.capacity]
    case "Cancelled":
      return ["cancelled"]
    case "Gone":
      return ["gone"]
    case "Revoked":
      return ["revoked"]
  }
}

export const acquireReply = (reply: Model.AcquireReply, labels: Labels, isContended: boolean): Raw => {
  const raw = claimReply(reply, labels, isContended)
  if (reply._tag === "Mismatch" || reply._tag === "Cancelled" || reply._tag === "Revoked") return raw
  // The model does not tell which capacities the others have.
  return done(reply._tag === "Busy" ? raw : [...raw, 0])
}

export const acquireAllReply = (
  reply: Model.AcquireAllReply,
  labels: Labels,
  areContended: ReadonlyArray<boolean>
): Raw => {
  switch (reply._tag) {
    case "Placed":
      return [
        "placed",
        ...reply.claims.map((one, nth) => done([...claimReply(one, labels, areContended[nth]!), 0]))
      ]
    case "Refused":
      return [
        "refused",
        0,
        ...reply.claims.map((one) =>
          one === undefined
            ? ["none"]
            : one._tag === "Mismatch"
            ? claimReply(one, labels, false)
            : ["busy", one._tag === "Busy" ? one.length : 0]
        )
      ]
    case "Cancelled":
      return ["cancelled"]
    case "Broken":
      return ["broken"]
  }
}

export const waitingReply = ({ now, queue }: Model.Server, most: number, labels: Labels): Raw =>
  queue.filter(({ parked }) => !parked).slice(0, most).flatMap(({ deadline, id, kind }) =>
    deadline > now ? [[letterOf[kind], labels.get(id) ?? ""]] : []
  )

export const releaseReply = (reply: Model.ReleaseReply, labels: Labels): Raw =>
  reply._tag === "Released"
    ? done(["released"])
    : done([reply._tag === "Cancelled" ? "cancelled" : "notHeld", reply.length, ...situation(reply, labels)])

/** The claims of which a request may make, keep or end something, with their times to live where it says them. */
export const claimsIn = (request: Request): ReadonlyArray<{ readonly id: string; readonly ttl?: number }> => {
  switch (request.name) {
    case "acquire":
      return [request.args]
    case "acquireAll":
      return request.args.claims
    case "refresh":
      return request.locks.flatMap(({ args }) => args.claims)
    case "release":
      return [{ id: request.args.id }]
    case "releaseAll":
      return request.claims.map(({ args: { id } }) => ({ id }))
    case "peek":
    case "renew":
    case "shrink":
    case "confirm":
    case "run":
    case "waiting":
    case "findHold":
    case "revoke":
    case "breakHold":
    case "inspect":
    case "observe":
      return []
  }
}

/** A holder that was asked to leave, and has not had to, is confirmed too. */
const isConfirmed = (reply: Raw): boolean =>
  reply === "ok" || reply === "contended" || (Array.isArray(reply) && reply[0] === "asked")

/** Until when, after it was sent, a request's reply lets each of its claims be believed in: milliseconds by claim. */
export const confirmations = (request: Request, reply: Raw): ReadonlyArray<readonly [id: string, ms: number]> => {
  if (!Array.isArray(reply)) return []
  const stands = (one: Raw): boolean => Array.isArray(one) && (one[0] === "granted" || one[0] === "queued")
  switch (request.name) {
    case "acquire":
      return stands(reply) ? [[request.args.id, request.args.ttl]] : []
    case "acquireAll":
      return reply[0] === "placed" ? request.args.claims.map(({ id, ttl }) => [id, ttl] as const) : []
    case "refresh":
      return request.locks.flatMap(({ args }, nth) =>
        args.claims.flatMap(({ id, ttl }, index) =>
          stands((reply[nth] as ReadonlyArray<Raw>)[index]!) ? [[id, ttl] as const] : []
        )
      )
    case "renew":
      return request.claims.flatMap(({ args }, index) =>
        isConfirmed(reply[index]!) ? [[args.id, args.ttl] as const] : []
      )
    case "shrink":
      return isConfirmed(reply[0]!) ? [[request.args.id, request.args.ttl]] : []
    case "release":
    case "releaseAll":
    case "peek":
    case "confirm":
    case "run":
    case "waiting":
    case "findHold":
    case "revoke":
    case "breakHold":
    case "inspect":
    case "observe":
      return []
  }
}
