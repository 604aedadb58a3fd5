/** Reads from the server's answers where a claim on a mutex is in its queue. */

import type { Ahead, Claim, Mismatched } from "effect-dlock/LockStore"
import type { IKeyValue, IResponseOp, ITxnResponse } from "etcd3"
import { type ClaimValue, decode, isNewer, mutex } from "./format.ts"

/** A claim's place in its queue, at one revision of the server. */
export interface QueueSnapshot {
  readonly revision: bigint
  /** The create revision of the claim. `undefined` if the claim is not in the queue. */
  readonly own: bigint | undefined
  /** The base of the claim's fencing token. */
  readonly base: bigint
  /** The nearest claims before this claim (at most `nearest`), in queue order. */
  readonly before: ReadonlyArray<OtherClaim>
  /** `before` contains all claims before this claim. */
  readonly isWhole: boolean
  /** The claim entered behind another claim of this process, and the claims before it were not read. */
  readonly isBlind: boolean
  /** How many claims are in the queue. */
  readonly length: number
  /** The claim got no place, because its process has no sign of life at the server. */
  readonly isUnsigned: boolean
  /** The claims before this claim were not read, because the request expected an empty queue. */
  readonly isUnread: boolean
}

/** A claim in a queue, as a look finds it. The value is decoded only when needed: most claims that a look finds are known. */
export class OtherClaim {
  readonly keyBytes: Buffer
  readonly created: bigint
  private readonly bytes: Buffer | undefined
  private decoded: ClaimValue | undefined

  constructor(key: Buffer, created: bigint, value: Buffer | undefined) {
    this.keyBytes = key
    this.created = created
    this.bytes = value
  }

  get key(): string {
    return this.keyBytes.toString()
  }

  get value(): ClaimValue {
    this.decoded ??= this.bytes === undefined ? mutex : decode(this.bytes)
    return this.decoded
  }
}

/** With at most this many claims before its own, a process watches every deletion in the queue. */
const window = 16

/** How many claims a look at a mutex reads at most. If it finds all of them, more than `window` claims are ahead. */
export const nearest = window + 1

export const otherOf = ({ create_revision, key, value }: IKeyValue): OtherClaim =>
  new OtherClaim(key, BigInt(create_revision), value)

/**
 * Reads a snapshot from the answer to an entry or a `look`. `base` is the base of the request's epoch. It is used if this
 * request put the claim. If the claim was in the queue before, the base is read from the claim's value.
 */
export const readSnapshot = (response: ITxnResponse, claim: Claim, base = 0n, most = nearest): QueueSnapshot => {
  if (response.succeeded) return seen(response, claim, base, most)
  // The claim got no place.
  const mine = ownIn(response.responses[1]!, claim)
  const revision = BigInt(response.header.revision)
  return {
    revision,
    ...mine,
    before: [],
    isWhole: false,
    isBlind: false,
    length: 1,
    isUnsigned: false,
    isUnread: false
  }
}

/** Reads a claim that was read alone. */
export const ownIn = ({ response_range }: IResponseOp, { id }: Claim): Pick<QueueSnapshot, "own" | "base"> => {
  const kv = response_range.kvs[0]
  const stored = kv && decode(kv.value)
  return stored?.id === id ? { own: BigInt(kv!.create_revision), base: stored.base } : { own: undefined, base: 0n }
}

const seen = (response: ITxnResponse, claim: Claim, base: bigint, most: number): QueueSnapshot => {
  const revision = BigInt(response.header.revision)
  const [only, another] = response.responses as ReadonlyArray<IResponseOp & { readonly response_txn?: ITxnResponse }>
  if (only?.response_txn !== undefined) {
    return seen({ ...only.response_txn, header: response.header }, claim, base, most)
  }
  const placed = {
    revision,
    own: revision,
    base,
    before: [],
    isWhole: true,
    isBlind: false,
    length: 1,
    isUnsigned: false,
    isUnread: false
  }
  // The claim was put in an empty queue or behind another claim of this process, so this revision created it.
  if (only?.response_put && response.responses.length === 1) return placed
  if (only?.response_put && another?.response_range && response.responses.length === 2) {
    return { ...placed, isWhole: false, isBlind: true }
  }
  // The queue was not empty, and the request read nothing else.
  if (only?.response_range && response.responses.length === 1) {
    const ownPlace = ownIn(only, claim)
    return { ...placed, ...ownPlace, isWhole: false, isUnsigned: ownPlace.own === undefined, isUnread: true }
  }
  const [mine, around, sign] = response.responses.filter((one) => one.response_range)
  const ownPlace = ownIn(mine!, claim)
  const created = ownPlace.own
  const all = around!.response_range.kvs.map(otherOf)
  all.reverse()
  const before = all.filter((one) => created === undefined || one.created < created)
  const isBefore = created !== undefined && all.every((one) => one.created < created)
  return {
    revision,
    ...ownPlace,
    before,
    isWhole: all.length < (isBefore ? most : most + 1),
    isBlind: false,
    length: Number(around!.response_range.count),
    isUnsigned: created === undefined && sign !== undefined && Number(sign.response_range.count) === 0,
    isUnread: false
  }
}

/** What the caller learns about the claims before its own. */
export const ahead = ({ before, isWhole, length }: QueueSnapshot): Ahead => ({
  holder: isWhole ? before[0]?.value.holder : undefined,
  place: Math.max(0, isWhole ? before.length - 1 : length - 2),
  waiting: Math.max(1, length - 1)
})

/** Whether a claim has the mutex: no claim is before it. */
export const isGranted = ({ before, isWhole, own }: QueueSnapshot): boolean =>
  own !== undefined && isWhole && before.length === 0

/**
 * What keeps a claim off the key: another kind of lock, or a newer version of this library. Only the head of the queue counts:
 * claims behind it may be about to be withdrawn because of their kind.
 */
export const foreignIn = ({ before: [head] }: QueueSnapshot): Foreign | undefined => {
  if (head === undefined) return undefined
  const { value } = head
  if (isNewer(value)) return "newer"
  return value.kind === "mutex" ? undefined : { _tag: "CapacityMismatch", kind: value.kind, inUse: value.capacity }
}

/** Claims beside which a claim can have no place. */
export type Foreign = "newer" | Mismatched
