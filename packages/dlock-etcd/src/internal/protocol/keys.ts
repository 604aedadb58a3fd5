/** The etcd keys of this library. */

import type { LockKind } from "effect-dlock/LockError"
import { type Claim, readWriteCapacity } from "effect-dlock/LockStore"

/** The etcd keys of one lock. */
export interface LockKeys {
  /** The prefix of all claims of the lock. Ordered by create revision, they are the queue, as for etcd's own mutex. */
  readonly folder: Buffer
  /** The end of the range of keys with that prefix. */
  readonly folderEnd: Buffer
  /**
   * The prefix of the keys of readers, in the folder and behind all other keys of it. The range from `folder` to here contains
   * whoever does not share the lock with readers: writers, and the clients of other libraries.
   */
  readonly readers: Buffer
  /** The key of a claim on a mutex. */
  readonly claim: (name: string) => Buffer
  /**
   * The key of the tombstone that stops a late request of a withdrawn claim. It contains NUL, which no caller's key contains,
   * so it is in no queue.
   */
  readonly tombstone: (id: string) => Buffer
  /** This key is put when a claim gives back some of its permits. Like a tombstone's key, it is in no queue. */
  readonly bell: Buffer
  /**
   * The key of the record of a job's last run, by slots or within an interval. Like a tombstone's key, it is in no queue.
   */
  readonly record: (period: "Slot" | "Interval") => Buffer
  /** The prefix of the keys of all marks (see `Mark`) on claims of the lock. Like tombstones, they are in no queue. */
  readonly marks: Buffer
  /** The end of the range of keys with that prefix. */
  readonly marksEnd: Buffer
}

/**
 * The etcd keys of a lock. `%` and `/` in the caller's key are encoded, so that no queue contains the claims of another lock:
 * otherwise `etcdctl lock a` would wait for the claims of `a/b`. The prefix is not encoded.
 */
export const lockKeys = (key: string, prefix: string): LockKeys => {
  const path = pathOf(key, prefix)
  return {
    folder: Buffer.from(`${path}/`),
    folderEnd: Buffer.from(`${path}0`),
    readers: Buffer.from(`${path}/~`),
    claim: (name) => Buffer.from(`${path}/${name}`),
    tombstone: (id) => Buffer.from(`${path}\0${id}`),
    bell: Buffer.from(`${path}\0bell`),
    record: (period) => Buffer.from(period === "Slot" ? `${path}\0ran` : `${path}\0ran within`),
    marks: Buffer.from(`${path}\0revoked\0`),
    marksEnd: Buffer.from(`${path}\0revoked\x01`)
  }
}

/** How all etcd keys of a lock begin. */
export const pathOf = (key: string, prefix: string): string =>
  prefix + key.slice(prefix.length).replaceAll("%", "%25").replaceAll("/", "%2F")

/** The key of the lock of a path. `undefined` if another client made the name: no caller can give such a key. */
export const keyAt = (path: string, prefix: string): string | undefined => {
  const key = prefix + path.slice(prefix.length).replaceAll(/%2F|%25/g, (code) => code === "%25" ? "%" : "/")
  return key !== prefix && pathOf(key, prefix) === path ? key : undefined
}

/** The keys of one claim. */
export interface ClaimKeys {
  readonly keyBytes: Buffer
  /**
   * A writer has two keys, put together and therefore with one create revision: one among the readers, and this one among those
   * that exclude readers. A writer that becomes a reader deletes this one.
   */
  readonly exclusiveKey?: Buffer
}

/**
 * The keys of a claim. The name of a shared claim tells what it takes, so that a process can read a queue without the values:
 * they carry the labels of the holders.
 */
export const claimKeys = (
  { claim, readers }: LockKeys,
  { capacity, kind, permits }: Claim,
  name: string
): ClaimKeys => {
  if (kind === "mutex") return { keyBytes: claim(name) }
  if (kind === "semaphore") return { keyBytes: claim(`${name}.${permits}of${capacity}`) }
  const keyBytes = Buffer.from(readers.toString() + name)
  return permits === 1 ? { keyBytes } : { keyBytes, exclusiveKey: claim(`${name}${writer}`) }
}

/** What a claim takes, as its name tells it. */
export interface Demand {
  readonly kind: LockKind
  readonly permits: number
  readonly capacity: number
}

/** Reads the name of a claim. Every name that this library does not give is that of a mutex. */
export const demandOf = (key: string): Demand => {
  const name = key.slice(key.lastIndexOf("/") + 1)
  if (name.startsWith("~")) return { kind: "readWrite", permits: 1, capacity: readWriteCapacity }
  if (name.endsWith(writer)) return { kind: "readWrite", permits: readWriteCapacity, capacity: readWriteCapacity }
  const [, permits, capacity] = /\.(\d{1,10})of(\d{1,10})$/.exec(name) ?? []
  if (permits === undefined) return { kind: "mutex", permits: 1, capacity: 1 }
  return { kind: "semaphore", permits: Number(permits), capacity: Number(capacity) }
}

const writer = ".writer"

export const isReader = ({ kind, permits }: Pick<Claim, "kind" | "permits">): boolean =>
  kind === "readWrite" && permits === 1

export const isWriter = ({ kind, permits }: Pick<Claim, "kind" | "permits">): boolean =>
  kind === "readWrite" && permits > 1

/**
 * The mark on a claim whose holder was asked to leave. Its key says all that binds the holder's process, and its value, who
 * asked and why.
 */
export interface Mark {
  /** The etcd key of the claim: for a writer the one among the readers. */
  readonly claimKey: string
  readonly created: bigint
  /** How many milliseconds the holder may stay, counted from when its process learns of the mark. */
  readonly grace: number
}

/** How the keys of all marks on a claim begin. */
export const marksOn = ({ folder, marks }: LockKeys, { claimKey, created }: Omit<Mark, "grace">): string =>
  `${marks.toString()}${claimKey.slice(folder.toString().length)}\0${created}\0`

export const markOf = (key: string): Mark | undefined => {
  const [, path, name, created, grace] = /^(.*)\0revoked\0([^\0]+)\0(\d+)\0(\d+)$/s.exec(key) ?? []
  return path === undefined
    ? undefined
    : { claimKey: `${path}/${name}`, created: BigInt(created!), grace: Number(grace) }
}

/** This key is put with each mark under a prefix, so that one watch hears of all. */
export const revocationBell = (prefix: string): Buffer => Buffer.from(`${prefix}\0revoked`)

/** The key of the token epoch of all locks under a prefix. Like a tombstone's key, it contains NUL and is in no queue. */
export const epochKey = (prefix: string): Buffer => Buffer.from(`${prefix}\0epoch`)

/**
 * The keys by which waiting processes show that they are alive. Like a tombstone's key, they contain NUL and are in no queue.
 */
export const lifeKeysIn = (prefix: string) => (process: string): Buffer => Buffer.from(`${prefix}\0alive\0${process}`)
