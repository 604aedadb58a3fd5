import type { IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import type { LeaseState } from "../../../packages/dlock-etcd/src/internal/client/port.ts"
import { epochKey, markOf } from "../../../packages/dlock-etcd/src/internal/protocol/keys.ts"
import type { LockState } from "../observer.ts"
import type { ServerLog } from "../serverLog.ts"
import type { Event, Timeline } from "../timeline.ts"
import { millis } from "../timeline.ts"
import { Keys, type KeyValue, membersOf } from "./store.ts"
import { type Between, Watching } from "./watching.ts"

/** Rules that a variant takes out. */
export interface EtcdFlaws {
  /** A withdrawal deletes the first claim of the queue, no matter which it is. */
  readonly deletesBlindly?: boolean
  /** A keep-alive creates its lease again, with its keys, if they are gone. */
  readonly renewalCreates?: boolean
  /** The request of a withdrawn claim is executed all the same. */
  readonly ignoresTombstones?: boolean
  /** The removal of a dead claim does not check whether another is before it. */
  readonly passesOverTheFirst?: boolean
  /** A release that hands over does not check whether the successor still exists. */
  readonly deletesWithoutSuccessor?: boolean
  /** No watch ever gets an event. */
  readonly neverNotifies?: boolean
  /** A process keeps its first auth token for ever. */
  readonly keepsToken?: boolean
  /** Its calls have new auth tokens, its streams are opened with the first. */
  readonly streamsKeepToken?: boolean
  /** A claim is put into its queue without comparing the token epoch. */
  readonly ignoresEpoch?: boolean
  /** The answer of the first host is final. */
  readonly asksFirstOnly?: boolean
}

interface Lease {
  readonly ttl: number
  readonly keys: Set<string>
  expiresAt: number
  timer: Event
}

/** An error of the server. */
const refusal = (words: string): Error => new Error(`etcdserver: ${words}`)

/** One etcd: keys, leases that expire a little late, and watches. */
export class EtcdServer {
  readonly keys = new Keys()
  readonly watching: Watching
  /**
   * By how many milliseconds a lease may outlive its ttl: etcd looks for ended leases twice a second, and must agree on
   * each.
   */
  lateness = 1_000
  /** The process of a claim; undefined for one of another library. */
  processOf: (id: string | undefined) => number | undefined = () => undefined
  private readonly leases = new Map<string, Lease>()
  private readonly dead = new Map<string, ReadonlyArray<KeyValue>>()
  private readonly timeline: Timeline
  private readonly serverLog: ServerLog
  private readonly flaws: EtcdFlaws
  private readonly late: () => number
  /** Seconds: one and a half election timeouts. */
  private readonly leastTtl: number

  constructor(
    timeline: Timeline,
    serverLog: ServerLog,
    flaws: EtcdFlaws,
    late: () => number,
    leastTtl: number,
    between?: Between
  ) {
    this.leastTtl = leastTtl
    this.timeline = timeline
    this.serverLog = serverLog
    this.flaws = flaws
    this.watching = new Watching(timeline, this.keys, flaws.neverNotifies !== true, between)
    this.late = late
  }

  txn(request: ITxnRequest): ITxnResponse | Error {
    const broken = brokenBy(request).flatMap((key) => this.keys.get(key) ?? [])
    const members = membersOf(request).map((one) => this.flawed(one))
    const flawed = members.length === 1 ? members[0]! : together(members)
    const changes = this.keys.txn(flawed, (id) => this.leases.has(id))
    if ("leaseGone" in changes) return refusal("requested lease not found")
    for (const one of changes.put) {
      // A key is on the lease of its latest put only.
      for (const { keys } of this.leases.values()) keys.delete(one.key)
      this.leases.get(one.lease)?.keys.add(one.key)
      this.tellArrival(one)
      this.tellMark(one)
    }
    // An operator has let others in beside them.
    for (const one of broken) if (changes.deleted.includes(one)) this.serverLog.recordForgotten(claimOf(one)![1])
    this.removed(changes.deleted, false)
    if (changes.put.length > 0) this.watching.tellPuts()
    return changes.response
  }

  private flawed(request: ITxnRequest): ITxnRequest {
    if (this.flaws.ignoresTombstones === true) return without("tombstone", request)
    if (this.flaws.ignoresEpoch === true) return without("epoch", request)
    const compare = request.compare ?? []
    const [dead] = compare
    const sign = compare[compare.length - 1]
    const isHandOver = compare.length === 2 && request.success?.[0]?.request_delete_range !== undefined
    if (this.flaws.deletesWithoutSuccessor === true && isHandOver) return { ...request, compare: [dead!] }
    if (this.flaws.passesOverTheFirst === true && compare.length > 2 && sign?.key?.toString().includes("alive")) {
      const deletes = request.success?.every((one) => one.request_delete_range !== undefined) === true
      if (deletes) return { ...request, compare: [...compare.slice(0, -2), sign] }
    }
    const key = request.success?.[0]?.request_delete_range?.key?.toString()
    if (this.flaws.deletesBlindly !== true || key === undefined) return request
    const folder = key.slice(0, key.lastIndexOf("/") + 1)
    const [first] = this.keys.range(folder, `${folder.slice(0, -1)}0`).toSorted((a, b) => a.created - b.created)
    const success = request.success!.map((operation, index) =>
      index === 0 && first !== undefined ? { request_delete_range: { key: Buffer.from(first.key) } } : operation
    )
    return { ...request, compare: [], success }
  }

  /** Returns the seconds that it granted. */
  grant(id: string, seconds: number): number | Error {
    if (this.leases.has(id)) return refusal("lease already exists")
    const ttl = Math.max(this.leastTtl, seconds)
    this.keep(id, { ttl, keys: new Set() })
    return ttl
  }

  private keep(id: string, { keys, ttl }: { readonly ttl: number; readonly keys: Set<string> }): void {
    const expiresAt = this.timeline.now + millis(ttl * 1_000)
    const timer = this.timeline.at(expiresAt + this.late(), () => this.end(id, true))
    this.leases.set(id, { ttl, keys, expiresAt, timer })
  }

  /** Zero if there is no such lease. If its time is over, the answer comes after its end. */
  keepAlive(id: string): number {
    const lease = this.leases.get(id)
    if (lease === undefined) return this.flaws.renewalCreates === true ? this.revive(id) : 0
    if (this.timeline.now >= lease.expiresAt) {
      this.end(id, true)
      return 0
    }
    this.timeline.cancel(lease.timer)
    this.keep(id, lease)
    return lease.ttl
  }

  private revive(id: string): number {
    const keys = this.dead.get(id)
    if (keys === undefined) return 0
    this.keep(id, { ttl: this.leastTtl, keys: new Set(keys.map(({ key }) => key)) })
    for (const one of keys) this.keys.restore(one)
    return this.leastTtl
  }

  inspect(id: string): LeaseState {
    const lease = this.leases.get(id)
    if (lease === undefined) return { ttl: -1, keys: [] }
    const left = Math.floor((lease.expiresAt - this.timeline.now) / 1_000_000)
    return { ttl: Math.max(0, left), keys: Array.from(lease.keys) }
  }

  revoke(id: string): undefined | Error {
    return this.end(id, false) ? undefined : refusal("requested lease not found")
  }

  private end(id: string, byItself: boolean): boolean {
    const lease = this.leases.get(id)
    if (lease === undefined) return false
    this.timeline.cancel(lease.timer)
    this.leases.delete(id)
    if (byItself && this.flaws.renewalCreates === true) {
      this.dead.set(id, Array.from(lease.keys).flatMap((key) => this.keys.range(key, undefined)))
    }
    this.removed(this.keys.remove(Array.from(lease.keys)), byItself)
    return true
  }

  private removed(gone: ReadonlyArray<KeyValue>, byItself: boolean): void {
    for (const one of gone) {
      this.leases.get(one.lease)?.keys.delete(one.key)
      const claim = claimOf(one)
      if (claim === undefined) continue
      const [lock, id] = claim
      const first = this.first(lock)
      const heads = this.heads.get(lock)
      this.serverLog.recordEnd(lock, id, byItself)
      if (heads === id && first !== undefined) this.serverLog.recordRelease(lock, first)
      this.noteFirst(lock, first)
    }
    if (gone.length > 0) this.watching.tellDeletions()
  }

  /** The first claim of each lock. */
  private readonly heads = new Map<string, string | undefined>()
  private readonly firstSince = new Map<string, number>()

  private noteFirst(lock: string, id: string | undefined): void {
    if (this.heads.get(lock) !== id) this.firstSince.set(lock, this.timeline.now)
    this.heads.set(lock, id)
  }

  /** The state of a lock now: the first claim has it. */
  stateOf(lock: string): LockState {
    const holder = this.heads.get(lock)
    return { holder, process: this.processOf(holder), since: this.firstSince.get(lock) ?? 0 }
  }

  private first(lock: string): string | undefined {
    const [first] = this.keys.range(`${lock}/`, `${lock}0`).toSorted((a, b) => a.created - b.created)
    return first && claimOf(first)?.[1]
  }

  private tellArrival(one: KeyValue): void {
    const claim = claimOf(one)
    if (claim === undefined || one.created !== this.keys.revision) return
    const [lock, id] = claim
    this.ids.set(`${lock} ${baseIn(one.value) + BigInt(one.created)}`, id)
    const free = this.heads.get(lock) === undefined
    this.serverLog.recordArrival(...claim, !free, this.base)
    if (free) this.noteFirst(...claim)
  }

  /** Somebody has asked the holder of a claim to leave. Its process counts the grace from when it hears of that. */
  private tellMark({ key }: KeyValue): void {
    const mark = markOf(key)
    const claim = mark && this.keys.get(mark.claimKey)
    if (claim === undefined) return
    const [lock, id] = claimOf(claim)!
    const token = baseIn(claim.value) + BigInt(claim.created)
    this.serverLog.revoked.recordMark(lock, id, token, this.timeline.now + millis(mark!.grace))
  }

  /** The ids of all claims that have arrived, by their locks and tokens. */
  private readonly ids = new Map<string, string>()

  idOf(lock: string, token: bigint): string | undefined {
    return this.ids.get(`${lock} ${token}`)
  }

  hasClaim(lock: string, id: string): boolean {
    return this.keys.range(`${lock}/`, `${lock}0`).some((one) => claimOf(one)?.[1] === id)
  }

  /** The token of the claim that holds a mutex. */
  holderOf(lock: string): bigint | undefined {
    const [first] = this.keys.range(`${lock}/`, `${lock}0`).toSorted((a, b) => a.created - b.created)
    return first && baseIn(first.value) + BigInt(first.created)
  }

  /** The ids of the claims in a queue. */
  queueOf(lock: string): ReadonlyArray<string | undefined> {
    const queue = this.keys.range(`${lock}/`, `${lock}0`).toSorted((a, b) => a.created - b.created)
    return queue.map((one) => claimOf(one)?.[1])
  }

  /** The claims on a lease. */
  claimsOn(id: string): ReadonlyArray<string> {
    return Array.from(this.leases.get(id)?.keys ?? []).flatMap((key) => {
      const one = this.keys.get(key)
      return one === undefined ? [] : claimOf(one)?.[1] ?? []
    })
  }

  /** Tombstones and their leases stay for a while by design. */
  leftovers(): ReadonlyArray<string> {
    return [
      ...this.keys.all().filter((one) => claimOf(one) !== undefined).map(({ key }) => `the claim ${key}`),
      ...this.keys.all().filter(({ key }) => markOf(key) !== undefined).map(({ key }) => `the mark ${key}`),
      ...Array.from(this.leases).filter(([, { ttl }]) => ttl < tombstonesAtLeast).map(([id]) => `the lease ${id}`)
    ]
  }

  // What happens to it.

  /**
   * A claim that waits behind claims of other processes when it is deleted has not been granted, and must not be from
   * then on.
   */
  private forget(keys: ReadonlyArray<KeyValue>, isAll = false): void {
    for (const one of keys) {
      const claim = claimOf(one)
      if (claim === undefined) continue
      const [lock, id] = claim
      this.serverLog.recordDeletion(id)
      if (this.serverLog.hearsOfDeletions) continue
      const queue = this.queueOf(lock)
      const before = queue.slice(0, queue.indexOf(id))
      const isOwnNext = before.every((other) => this.processOf(other) === this.processOf(id))
      if (isAll || before.length === 0 || !this.serverLog.mustWait(id)) this.serverLog.recordForgotten(id)
      else if (isOwnNext) this.serverLog.recordDeletionBehindOwn(id)
    }
  }

  /** Restarts: its streams end, and its leases start again with their whole ttl. */
  restart(): void {
    this.watching.endAll()
    for (const [id, lease] of Array.from(this.leases)) {
      this.timeline.cancel(lease.timer)
      this.keep(id, lease)
    }
  }

  loseData(): void {
    this.serverLog.jobs.forget()
    this.serverLog.recordTombstonesLost()
    const all = this.keys.all()
    this.forget(all, true)
    this.serverLog.recordHeldForgotten()
    for (const { timer } of this.leases.values()) this.timeline.cancel(timer)
    this.leases.clear()
    this.keys.clear()
    this.base = 0n
    this.removed(all, true)
    this.keys.deletions.length = 0
    this.keys.puts.length = 0
  }

  /** Raises the token epoch, which is added to the revisions of new claims, as an operator does. */
  private base = 0n

  raiseEpoch(prefix: string, by: bigint): void {
    this.base += by
    this.txn({
      success: [{ request_put: { key: epochKey(prefix), value: Buffer.from(String(this.base)) } }]
    })
  }

  /** An operator deletes all claims of a lock. */
  deleteLock(lock: string): void {
    const keys = this.keys.range(`${lock}/`, `${lock}0`)
    this.forget(keys)
    this.removed(this.keys.remove(keys.map(({ key }) => key)), true)
  }

  /** An operator deletes one claim of a queue, but not the first, since that may stay in place of a successor. */
  deleteClaim(lock: string, place: number): void {
    const queue = this.keys.range(`${lock}/`, `${lock}0`).toSorted((a, b) => a.created - b.created)
    const keys = queue.slice(place, place + 1)
    this.forget(keys)
    this.removed(this.keys.remove(keys.map(({ key }) => key)), true)
  }

  /**
   * An operator deletes one claim of a semaphore or a read-write lock, or one key of a writer's two. A place below 0 counts from
   * the end of the queue.
   */
  deleteSharedClaim(lock: string, place: number, isWhole: boolean): void {
    const queue = this.keys.range(`${lock}/`, `${lock}0`).toSorted((a, b) => a.created - b.created)
    const doomed = queue.at(place)
    const keys = queue.filter((one) => isWhole ? one.created === doomed?.created : one === doomed)
    this.forget(keys)
    this.removed(this.keys.remove(keys.map(({ key }) => key)), true)
  }

  /** Leases end early, as by an operator or a clock that jumps. */
  endLeases(which: (index: number) => boolean): void {
    this.serverLog.jobs.forget()
    this.serverLog.recordTombstonesLost()
    Array.from(this.leases.entries()).forEach(([id, { keys }], index) => {
      if (!which(index)) return
      this.forget(Array.from(keys).flatMap((key) => this.keys.range(key, undefined)))
      this.end(id, true)
    })
  }

  compact(): void {
    this.keys.compacted = this.keys.revision
  }
}

const together = (members: ReadonlyArray<ITxnRequest>): ITxnRequest => ({
  success: members.map((one) => ({ request_txn: one }) as IRequestOp)
})

/** The keys of claims that a transaction deletes together with all marks on them: nobody else than an operator does that. */
const brokenBy = ({ success = [] }: ITxnRequest): ReadonlyArray<string> =>
  success.some(({ request_delete_range }) => request_delete_range?.range_end !== undefined)
    ? success.flatMap(({ request_delete_range }) =>
      request_delete_range === undefined || request_delete_range.range_end !== undefined
        ? []
        : String(request_delete_range.key)
    )
    : []

/** The same transaction without its comparisons of one kind. */
const without = (kind: "tombstone" | "epoch", request: ITxnRequest): ITxnRequest => ({
  ...request,
  compare: (request.compare ?? []).filter(({ key }) => kindOf(String(key)) !== kind)
})

/** The description of a key that is no claim. */
const kindOf = (key: string): "tombstone" | "epoch" | "life" | undefined => {
  const [, what] = key.split("\0")
  return what === undefined ? undefined : what === "epoch" ? "epoch" : what === "alive" ? "life" : "tombstone"
}

/** The tombstones' lease is granted for a quarter of an hour. */
const tombstonesAtLeast = 600

/** The lock and the claim of a key; none for a tombstone. A claim of another library is known by the end of its key. */
const claimOf = ({ key, value }: KeyValue): readonly [lock: string, id: string] | undefined => {
  const slash = key.lastIndexOf("/")
  return slash < 0 || key.includes("\0") ? undefined : [key.slice(0, slash), idIn(value) ?? key.slice(slash + 1)]
}

/** The id of the claim in a value. */
export const idIn = (value: unknown): string | undefined => read(value).id

/** What is added to a create revision to make a token. */
const baseIn = (value: unknown): bigint => BigInt(read(value).base ?? 0)

const read = (value: unknown): { readonly id?: string; readonly base?: string } => {
  try {
    return JSON.parse(String(value)) as { readonly id?: string }
  } catch {
    return {}
  }
}
