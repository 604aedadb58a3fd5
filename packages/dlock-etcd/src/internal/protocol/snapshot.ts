/** How a claim stands in its queue: read from the answers of the server. */

import type { Ahead, Claim } from "effect-dlock/LockStore"
import type { IKeyValue, IResponseOp, ITxnResponse } from "etcd3"
import { type ClaimValue, decode, mutex } from "./format.ts"

/** How a claim stands in its queue, at one revision of the server. */
export interface QueueSnapshot {
  readonly revision: bigint
  /** The claim's own create revision; absent where it does not stand there. */
  readonly own: bigint | undefined
  /** The base of its fencing token. */
  readonly base: bigint
  /** The claims before it, in the order of the queue; of a mutex at most the `nearest` ones. */
  readonly before: ReadonlyArray<OtherClaim>
  /** `before` has all claims that stand before it. */
  readonly isWhole: boolean
  /** It stands behind another claim of this process, and the other claims were not read. */
  readonly isBlind: boolean
  /** How many claims stand in the queue. */
  readonly length: number
  /** It was given no place, because its process has no sign of life at the server. */
  readonly isUnsigned: boolean
  /** The other claims were not read, since the request was only for an empty queue. */
  readonly isUnread: boolean
}

/** A claim in a queue, as others see it. Its value is decoded when it is needed: most of what a look finds is known. */
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

/** With at most as many claims before its own, a process hears of each deletion. */
const window = 16

/** How many claims a look at a mutex shows at most: the last one tells that there are too many. */
export const nearest = window + 1

export const otherOf = ({ create_revision, key, value }: IKeyValue): OtherClaim =>
  new OtherClaim(key, BigInt(create_revision), value)

/**
 * Reads how a claim stands out of the answer to an entry or a `look`. `base` is that of the epoch of this request, and counts
 * where the request has put the claim. Where the claim stood there before, its value has the base.
 */
export const readSnapshot = (response: ITxnResponse, claim: Claim, base = 0n, most = nearest): QueueSnapshot => {
  if (response.succeeded) return seen(response, claim, base, most)
  // It was given no place.
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

const ownIn = ({ response_range }: IResponseOp, { id }: Claim): Pick<QueueSnapshot, "own" | "base"> => {
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
  // It was put in an empty queue, or behind another of ours: this revision created it.
  if (only?.response_put && response.responses.length === 1) return placed
  if (only?.response_put && another?.response_range && response.responses.length === 2) {
    return { ...placed, isWhole: false, isBlind: true }
  }
  // The queue was not empty, and nothing else was asked.
  if (only?.response_range && response.responses.length === 1) {
    const stands = ownIn(only, claim)
    return { ...placed, ...stands, isWhole: false, isUnsigned: stands.own === undefined, isUnread: true }
  }
  const [mine, around, sign] = response.responses.filter((one) => one.response_range)
  const stands = ownIn(mine!, claim)
  const created = stands.own
  const all = around!.response_range.kvs.map(otherOf)
  if (claim.capacity === 1) all.reverse()
  const before = all.filter((one) => created === undefined || one.created < created)
  const isBefore = created !== undefined && all.every((one) => one.created < created)
  return {
    revision,
    ...stands,
    before,
    isWhole: claim.capacity > 1 || all.length < (isBefore ? most : most + 1),
    isBlind: false,
    length: Number(around!.response_range.count),
    isUnsigned: created === undefined && sign !== undefined && Number(sign.response_range.count) === 0,
    isUnread: false
  }
}

/** What the caller is told of the claims before its own. */
export const ahead = ({ before, isWhole, length }: QueueSnapshot, claim: Claim): Ahead => ({
  holder: isWhole ? before[0]?.value.holder : undefined,
  place: claim.capacity > 1 ? before.length : Math.max(0, isWhole ? before.length - 1 : length - 2),
  waiting: Math.max(1, length - 1)
})

/** A claim is granted when all claims before it, held or waiting, leave room for it: so a small one never passes a large one. */
export const isGranted = (claim: Claim, snapshot: QueueSnapshot): boolean =>
  snapshot.own !== undefined && snapshot.isWhole && fits(claim, snapshot)

/** Do the claims before it leave room for it? */
export const fits = (claim: Claim, { before }: QueueSnapshot): boolean =>
  claim.capacity === 1
    ? before.length === 0
    : before.reduce((permits, { value }) => permits + value.permits, claim.permits) <= claim.capacity

/** Is the key in use with another capacity? The head of the queue tells: claims behind it may be on their way out for that. */
export const isMismatched = (claim: Claim, snapshot: QueueSnapshot): boolean =>
  snapshot.before.length > 0 && snapshot.before[0]!.value.capacity !== claim.capacity
