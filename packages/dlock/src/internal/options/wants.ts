import * as Inspectable from "effect/Inspectable"
import * as Predicate from "effect/Predicate"
import { InvalidLockRequest, type LockKind } from "../../LockError.ts"
import { invalidRequest } from "./invalidRequest.ts"
import { mutex, type Shape } from "./request.ts"

/** A lock of which a want can be made: what a semaphore or a read-write lock was made with. */
export interface Origin {
  /** The engine of its locker. */
  readonly engine: object
  readonly key: string
  /** The shape of a claim with these permits. For a read-write lock, the permits are 1 or all. */
  readonly shapeOf: (permits: number) => Shape | InvalidLockRequest
  /** The ttl of a call that gives none, in milliseconds. */
  readonly ttlOf: (shape: Shape) => number | undefined
}

const origins = new WeakMap<object, Origin>()

/** Remembers with what a lock was made. */
export const register = <A extends object>(lock: A, origin: Origin): A => {
  origins.set(lock, origin)
  return lock
}

const TypeId = "~effect-dlock/Want"

/** A want as a caller sees it. */
export interface Want {
  readonly [TypeId]: typeof TypeId
}

/** What a caller wants of one lock. */
export class Wanting implements Want {
  readonly [TypeId] = TypeId
  /** The lock, or the key of a mutex. */
  readonly lock: unknown
  readonly permits: number
  /** The kind of lock that it must be. */
  readonly kind: LockKind | undefined
  constructor(lock: unknown, permits: number, kind?: LockKind) {
    this.lock = lock
    this.permits = permits
    this.kind = kind
  }

  toJSON(): unknown {
    const { lock, permits } = this
    const key = Predicate.hasProperty(lock, "key") ? lock.key : lock
    return { _id: "effect-dlock/Want", key, permits }
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

/** One of several locks, after parsing. */
export interface Parsed {
  readonly key: string
  readonly shape: Shape
  /** In milliseconds. */
  readonly ttl: number | undefined
}

const nameOf: { readonly [kind in LockKind]: string } = {
  mutex: "mutex",
  semaphore: "semaphore",
  readWrite: "read-write lock"
}

/** How many locks one call may acquire together. */
const most = 64

/**
 * Reads what a caller wants: each lock once. The same mutex twice is one, permits of a semaphore add up, and who writes a
 * lock also reads it.
 */
export const parse = (engine: object, wants: unknown): ReadonlyArray<Parsed> | InvalidLockRequest => {
  const invalid = (key: unknown, problem: string, parameter = "wants") => invalidRequest(key, parameter, problem)
  if (!Array.isArray(wants)) return invalid("", "must be an array of keys and wants")
  if (wants.length === 0) return invalid("", "must not be empty")
  if (wants.length > most) return invalid("", `must be at most ${most} keys and wants`)
  const byKey = new Map<string, Parsed & { readonly origin: Origin | undefined }>()
  for (const want of wants) {
    const { kind, lock, permits } = want instanceof Wanting ? want : new Wanting(want, 1)
    const origin = typeof lock === "object" && lock !== null ? origins.get(lock) : undefined
    if (origin === undefined && typeof lock !== "string") {
      const key = Predicate.hasProperty(lock, "key") ? lock.key : lock
      return invalid(key, "must be keys and wants, such as Want.permits(semaphore, 2)")
    }
    if (origin !== undefined && origin.engine !== engine) {
      return invalid(origin.key, "must be of one locker: this lock was made with another")
    }
    const key = origin?.key ?? lock as string
    const before = byKey.get(key)
    const shape = origin?.shapeOf(permits) ?? mutex
    if (shape instanceof InvalidLockRequest) return shape
    if (kind !== undefined && shape.kind !== kind) {
      return invalid(key, `must be a ${nameOf[kind]}, and is a ${nameOf[shape.kind]}`)
    }
    const together = before === undefined ? shape : join(before.shape, shape)
    if (together === undefined) {
      return invalid(
        key,
        `name a ${before!.shape.kind} and a ${shape.kind} by one key: use one kind of lock for each key`
      )
    }
    // What was added up must still be what one caller may have.
    for (const lock of before === undefined ? [] : [before.origin, origin]) {
      const checked = lock?.shapeOf(together.permits)
      if (checked instanceof InvalidLockRequest) return checked
    }
    const ttls = [before?.ttl, origin?.ttlOf(together)].filter((ttl) => ttl !== undefined)
    byKey.set(key, {
      key,
      shape: together,
      ttl: ttls.length === 0 ? undefined : Math.min(...ttls),
      origin: origin ?? before?.origin
    })
  }
  return Array.from(byKey.values(), ({ key, shape, ttl }) => ({ key, shape, ttl }))
}

/** What both wants of one lock need together. `undefined` if they are of different kinds. */
const join = (one: Shape, other: Shape): Shape | undefined => {
  if (one.kind !== other.kind) return undefined
  const permits = one.kind === "semaphore" ? one.permits + other.permits : Math.max(one.permits, other.permits)
  const capacity = Math.min(one.capacity, other.capacity)
  const isStrict = one.onCapacityChange ?? other.onCapacityChange
  return { kind: one.kind, permits, capacity, ...(isStrict !== undefined && { onCapacityChange: isStrict }) }
}
