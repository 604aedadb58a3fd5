import type { Claim } from "effect-dlock/LockStore"
import type { ICompare, IKeyValue, IRequestOp, IResponseOp, ITxnRequest, ITxnResponse } from "etcd3"
import type { Names } from "./names.ts"

/** What stands in the value of a claim. Another library's claim, such as that of `etcdctl lock`, is a mutex's. */
export interface Standing {
  readonly permits: number
  readonly capacity: number
  readonly holder: string | undefined
}

/** How a claim stands in its queue, at one revision of the store. */
export interface View {
  readonly revision: bigint
  /** The claim's own create revision; absent where it does not stand there. */
  readonly own: bigint | undefined
  /** The claims before it, first come first; of a mutex only the first of all and the last before it. */
  readonly before: ReadonlyArray<{ readonly key: Buffer; readonly created: bigint; readonly standing: Standing }>
  /** How many claims stand in the queue. */
  readonly length: number
}

const encode = (claim: Claim): Buffer =>
  Buffer.from(JSON.stringify({ permits: claim.permits, capacity: claim.capacity, holder: claim.holder }))

const decode = (value: Buffer): Standing => {
  try {
    const { capacity, holder, permits } = JSON.parse(value.toString()) as Partial<Standing>
    if (typeof permits === "number" && typeof capacity === "number") {
      return { permits, capacity, holder: typeof holder === "string" ? holder : undefined }
    }
  } catch {
    // Not one of ours.
  }
  return { permits: 1, capacity: 1, holder: undefined }
}

const absent = (key: Buffer): ICompare => ({ key, target: "Create", result: "Equal", create_revision: 0 })

/** True where nothing stands in the whole folder. */
const empty = ({ folder, folderEnd }: Names): ICompare => ({ ...absent(folder), range_end: folderEnd }) as ICompare

const first = ({ folder, folderEnd }: Names): IRequestOp => ({
  request_range: { key: folder, range_end: folderEnd, sort_target: "Create", sort_order: "Ascend", limit: 1 }
})

const last = ({ folder, folderEnd }: Names, limit: number, before?: bigint): IRequestOp => ({
  request_range: {
    key: folder,
    range_end: folderEnd,
    sort_target: "Create",
    sort_order: "Descend",
    limit,
    ...(before !== undefined && { max_create_revision: String(before - 1n) })
  }
})

const everything = ({ folder, folderEnd }: Names): IRequestOp => ({
  request_range: { key: folder, range_end: folderEnd, sort_target: "Create", sort_order: "Ascend" }
})

const own = (names: Names, id: string): IRequestOp => ({ request_range: { key: names.entry(id) } })

/** A mutex needs its neighbours only; permits are counted over all that came before. */
const neighbours = (names: Names, claim: Claim): ReadonlyArray<IRequestOp> =>
  claim.capacity === 1 ? [first(names), last(names, 2)] : [everything(names)]

/**
 * Takes a place, unless the claim was cancelled before, and looks who else is there: one trip where the lock is free. A
 * repeat changes nothing and finds the place that is there.
 */
export const enter = (names: Names, claim: Claim, lease: string): ITxnRequest => ({
  compare: [absent(names.mark(claim.id)), absent(names.entry(claim.id))],
  success: [
    { request_put: { key: names.entry(claim.id), value: encode(claim), lease } },
    own(names, claim.id),
    ...neighbours(names, claim)
  ],
  failure: [own(names, claim.id), ...neighbours(names, claim)]
})

/** Takes the lock only if nobody is there. */
export const enterIfEmpty = (names: Names, claim: Claim, lease: string): ITxnRequest => {
  const { compare = [], failure = [], success = [] } = enter(names, claim, lease)
  return { compare: [...compare, empty(names)], success, failure }
}

/** How does a claim stand that has a place? */
export const look = (names: Names, claim: Claim, created: bigint): ITxnRequest => ({
  compare: [],
  success: [
    own(names, claim.id),
    ...(claim.capacity === 1 ? [first(names), last(names, 1, created)] : [everything(names)])
  ]
})

/**
 * Ends a claim: deletes what is its own, guarded by the create revision where it is known, and leaves a mark where a
 * request may yet arrive. It also looks who holds the lock, for an error that names them.
 */
export const leave = (
  names: Names,
  claim: Claim,
  created: bigint | undefined,
  markLease: string | undefined
): ITxnRequest => {
  const key = names.entry(claim.id)
  return {
    compare: created === undefined
      ? []
      : [{ key, target: "Create", result: "Equal", create_revision: String(created) }],
    success: [
      { request_delete_range: { key } },
      first(names),
      ...(markLease === undefined
        ? []
        : [{ request_put: { key: names.mark(claim.id), value: Buffer.alloc(0), lease: markLease } }])
    ],
    failure: [first(names)]
  }
}

/** Removes whatever stands at some keys. */
export const remove = (keys: ReadonlyArray<string>): ITxnRequest => ({
  success: keys.map((key) => ({ request_delete_range: { key: Buffer.from(key) } }))
})

/** What a `leave` found: whether anything was there, and who stands first now. */
export const left = (response: ITxnResponse) => {
  const ranges = response.responses.filter((one) => one.response_range)
  const { count, kvs } = ranges[0]!.response_range
  const deleted = response.responses.find((one) => one.response_delete_range)
  return {
    deleted: deleted !== undefined && Number(deleted.response_delete_range.deleted) > 0,
    holder: kvs[0] && decode(kvs[0].value).holder,
    length: Number(count)
  }
}

/** Reads the answer of `enter`, `enterIfEmpty` and `look`. */
export const view = (response: ITxnResponse): View => {
  const [mine, ...others] = response.responses.filter((one: IResponseOp) => one.response_range)
  const own = mine!.response_range.kvs[0]
  const created = own && BigInt(own.create_revision)
  const seen = new Map<string, IKeyValue>()
  for (const { response_range } of others) {
    for (const kv of response_range.kvs) seen.set(kv.create_revision, kv)
  }
  const before = Array.from(seen.values(), (kv) => ({
    key: kv.key,
    created: BigInt(kv.create_revision),
    standing: decode(kv.value)
  })).filter((one) => created === undefined || one.created < created)
    .toSorted((a, b) => a.created < b.created ? -1 : 1)
  return {
    revision: BigInt(response.header.revision),
    own: created,
    before,
    length: Number(others[0]!.response_range.count)
  }
}

/** Granted when all that came before, held or waiting, leave room: so a small claim never passes a large one. */
export const isGranted = (claim: Claim, view: View): boolean =>
  view.own !== undefined
  && view.before.reduce((permits, { standing }) => permits + standing.permits, claim.permits) <= claim.capacity

/** Is the key in use with another capacity? The first of the queue says so: others may be about to be told that, and go. */
export const isMismatched = (claim: Claim, view: View): boolean =>
  view.before.length > 0 && view.before[0]!.standing.capacity !== claim.capacity
