import type { ICompare, IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"

/** A key as etcd keeps it. Revisions are numbers here and texts on the wire. */
export interface KeyValue {
  readonly key: string
  readonly value: Buffer
  readonly created: number
  /** How often it was put since it was created. */
  readonly version: number
  readonly lease: string
}

/** A deleted key, for the watches, or one that was put, with its value. */
export interface Deletion {
  readonly key: string
  readonly revision: number
  readonly value?: Buffer
}

export interface Changes {
  readonly response: ITxnResponse
  readonly put: ReadonlyArray<KeyValue>
  readonly deleted: ReadonlyArray<KeyValue>
}

/**
 * The keys of an etcd, as far as our store needs them: ranges by create revision, comparisons of create revisions and
 * values, puts and deletions, each transaction at one revision.
 */
export class Keys {
  revision = 1
  /** Up to this revision the history is compacted. */
  compacted = 0
  readonly deletions: Array<Deletion> = []
  /** Keys that were put, in the same form. */
  readonly puts: Array<Deletion> = []
  private readonly keys = new Map<string, KeyValue>()

  all(): ReadonlyArray<KeyValue> {
    return Array.from(this.keys.values())
  }

  get(key: string): KeyValue | undefined {
    return this.keys.get(key)
  }

  /** In the order of the keys, byte by byte. */
  range(key: string, end: string | undefined): ReadonlyArray<KeyValue> {
    if (end === undefined) return this.keys.has(key) ? [this.keys.get(key)!] : []
    return this.all().filter((one) => one.key >= key && one.key < end).sort((a, b) => a.key < b.key ? -1 : 1)
  }

  /** Fails if a put names a lease that does not exist. */
  txn(request: ITxnRequest, isLease: (id: string) => boolean): Changes | { readonly leaseGone: true } {
    const way = this.wayOf(request)
    for (const { request_put } of flat(way.steps)) {
      if (request_put?.lease !== undefined && !isLease(String(request_put.lease))) return { leaseGone: true }
    }
    const next = this.revision + 1
    const put: Array<KeyValue> = []
    const deleted: Array<KeyValue> = []
    const answer = this.follow(way, next, put, deleted)
    if (put.length + deleted.length > 0) this.revision = next
    for (const { key } of deleted) this.deletions.push({ key, revision: next })
    for (const { key, value } of put) this.puts.push({ key, revision: next, value })
    return { put, deleted, response: { header: this.header(), ...answer } as unknown as ITxnResponse }
  }

  /** All comparisons come before any change, also those of nested transactions. */
  private wayOf(request: ITxnRequest): Way {
    const succeeded = (request.compare ?? []).every((compare) => this.holds(compare))
    const operations: ReadonlyArray<Operation> = (succeeded ? request.success : request.failure) ?? []
    return { succeeded, steps: operations.map((one) => one.request_txn ? this.wayOf(one.request_txn) : one) }
  }

  private follow({ steps, succeeded }: Way, revision: number, put: Array<KeyValue>, deleted: Array<KeyValue>): object {
    return {
      succeeded,
      responses: steps.map((step) =>
        "steps" in step
          ? { response: "response_txn", response_txn: this.follow(step, revision, put, deleted) }
          : this.perform(step, revision, put, deleted)
      )
    }
  }

  header(): { readonly revision: string } {
    return { revision: String(this.revision) }
  }

  private holds({ create_revision, key, range_end, result, target, value }: ICompare): boolean {
    const found = this.range(text(key)!, text(range_end))
    if (target === "Value" && result === "Equal") {
      // A missing key has no value to compare.
      return found.length > 0 && found.every((one) => one.value.equals(value!))
    }
    if (target !== "Create") throw new Error("the model compares create revisions and values only")
    const other = Number(create_revision)
    const holds = (created: number) =>
      result === "Less" ? created < other : result === "Greater" ? created > other : created === other
    // A missing key counts as created at revision 0.
    return found.length === 0 ? holds(0) : found.every(({ created }) => holds(created))
  }

  private perform(
    { request_delete_range, request_put, request_range }: IRequestOp,
    revision: number,
    put: Array<KeyValue>,
    deleted: Array<KeyValue>
  ): unknown {
    if (request_put !== undefined) {
      const key = text(request_put.key)!
      const { created = revision, version = 0 } = this.keys.get(key) ?? {}
      const one = {
        key,
        value: request_put.value as Buffer,
        created,
        version: version + 1,
        lease: String(request_put.lease ?? "")
      }
      this.keys.set(key, one)
      put.push(one)
      return { response: "response_put", response_put: {} }
    }
    if (request_delete_range !== undefined) {
      const gone = this.range(text(request_delete_range.key)!, text(request_delete_range.range_end))
      for (const one of gone) this.keys.delete(one.key)
      deleted.push(...gone)
      return { response: "response_delete_range", response_delete_range: { deleted: String(gone.length) } }
    }
    const { count_only, key, keys_only, limit, max_create_revision, min_create_revision, range_end, sort_order } =
      request_range!
    // The model keeps no past: where that was asked for, it answers with the present, as if nothing had happened meanwhile.
    const all = this.range(text(key)!, text(range_end))
    const most = Number(max_create_revision ?? 0)
    const least = Number(min_create_revision ?? 0)
    const sorted = all.filter(({ created }) => (most === 0 || created <= most) && created >= least)
    if (sort_order !== undefined) {
      sorted.sort((a, b) => sort_order === "Descend" ? b.created - a.created : a.created - b.created)
    }
    const listed = count_only === true ? [] : sorted.slice(0, Number(limit ?? 0) || undefined)
    const kvs = listed.map(({ created, key, lease, value, version }) => ({
      key: Buffer.from(key),
      value: keys_only === true ? Buffer.alloc(0) : value,
      create_revision: String(created),
      version: String(version),
      lease: lease === "" ? "0" : lease
    }))
    return { response: "response_range", response_range: { kvs, count: String(all.length) } }
  }

  /** Deletes at one revision, as the end of a lease does. */
  remove(keys: ReadonlyArray<string>): ReadonlyArray<KeyValue> {
    const gone = keys.flatMap((key) => this.range(key, undefined))
    if (gone.length === 0) return gone
    this.revision++
    for (const { key } of gone) {
      this.keys.delete(key)
      this.deletions.push({ key, revision: this.revision })
    }
    return gone
  }

  /** Restores a key as it was, which no etcd does. */
  restore(one: KeyValue): void {
    this.keys.set(one.key, one)
  }

  clear(): void {
    this.keys.clear()
    this.deletions.length = 0
    this.puts.length = 0
    this.revision = 1
    this.compacted = 0
  }
}

/** What a request for places would put: it is in the first branch. All other puts are to keys with a NUL. */
export const placingsIn = ({ success = [] }: ITxnRequest): ReadonlyArray<NonNullable<IRequestOp["request_put"]>> =>
  (success as ReadonlyArray<Operation>).flatMap(({ request_put, request_txn }) =>
    request_txn !== undefined
      ? placingsIn(request_txn)
      : request_put === undefined || String(request_put.key).includes("\0")
      ? []
      : request_put
  )

/** The client's types have no nested transactions. */
export type Operation = IRequestOp & { readonly request_txn?: ITxnRequest }

/**
 * The requests of a batch are nested in one transaction without a condition; a single request is a transaction itself.
 */
export const membersOf = (request: ITxnRequest): ReadonlyArray<ITxnRequest> => {
  const operations = (request.success ?? []) as ReadonlyArray<Operation>
  const within = operations.flatMap(({ request_txn }) => request_txn ?? [])
  const isBatch = within.length > 0 && within.length === operations.length && (request.compare ?? []).length === 0
  return isBatch ? within : [request]
}

/** The operations of a transaction, by the results of its comparisons. */
interface Way {
  readonly succeeded: boolean
  readonly steps: ReadonlyArray<IRequestOp | Way>
}

const flat = (steps: Way["steps"]): ReadonlyArray<IRequestOp> =>
  steps.flatMap((step) => "steps" in step ? flat(step.steps) : [step])

/** The store hands over buffers; the client's types allow more. */
const text = (key: string | number | Buffer | undefined): string | undefined => key?.toString()
