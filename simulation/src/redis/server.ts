import * as Scripts from "../../../packages/dlock-redis/src/internal/protocol/index.ts"
import * as Model from "../../../packages/dlock-redis/test/model/server.ts"
import type { IdleWaiter, LockState } from "../observer.ts"
import type { ServerLog } from "../serverLog.ts"
import type { Timeline } from "../timeline.ts"
import { Admin, foreignToken } from "./admin.ts"
import { Runs } from "./runs.ts"
import { decode, type Request } from "./wire.ts"
import * as Wire from "./wire.ts"

/** Rules that a variant takes out, to see whether the checks find what they prevent. */
export interface RedisFlaws {
  /** A release deletes the lock, no matter who holds it. */
  readonly deletesBlindly?: boolean
  /** A renewal creates a lock that is gone. */
  readonly renewalCreates?: boolean
  /** The request of a withdrawn claim is granted or queued all the same. */
  readonly ignoresTombstones?: boolean
  /** A check always reports the holder that the client knows, even if there is another by now. */
  readonly findsAlways?: boolean
  /** No notification ever reaches an inbox. */
  readonly neverNotifies?: boolean
  /**
   * In the client: a request counts from the callback of the socket that its bytes are written, not from before that.
   */
  readonly countsFromWritten?: boolean
  /** A grant counts its permits twice. */
  readonly countsTwice?: boolean
  /** A holder that expires does not give its permits back to the sum. */
  readonly keepsUsedOfExpired?: boolean
  /** Flaws of the scripts. */
  readonly scripts?: Model.Flaws
}

/** A subscribed connection. */
export interface Listener {
  readonly hear: (message: string) => void
}

/**
 * The server: the model of the scripts, which tests compare with the real ones, with the commands of the wire, a clock
 * that can be set, data that can be lost, and subscriptions.
 */
export class RedisServer {
  private readonly timeline: Timeline
  private readonly serverLog: ServerLog
  private readonly flaws: RedisFlaws
  private readonly rings: boolean
  private readonly locks = new Map<string, Model.Server>()
  private readonly labels = new Map<string, string>()
  /** The process of each claim, by its index. */
  private readonly owners = new Map<string, number>()
  /** When each claim was granted, and since when each lock is free. */
  private readonly grantedAt = new Map<string, number>()
  private readonly freeSince = new Map<string, number>()
  private readonly runs = new Runs()
  private readonly admin: Admin
  private readonly known = new Set<string>()
  private readonly listeners = new Map<string, Set<Listener>>()
  private clockOffset = 0
  /** By how much the clock was set back: keys may expire so much later. */
  setBack = 0
  private dataWasLost = false

  /** `rings`: whether messages to holders are delivered that others wait. */
  constructor(timeline: Timeline, serverLog: ServerLog, flaws: RedisFlaws, rings = false) {
    this.rings = rings
    this.timeline = timeline
    this.serverLog = serverLog
    this.flaws = flaws
    this.admin = new Admin({
      serverLog,
      labels: this.labels,
      subscribers: this.subscribers,
      lock: (key) => this.lock(key),
      change: (key, run, broken) => this.change(key, run, broken),
      publish: (inbox, message) => this.publish(inbox, message),
      momentOf: (time) => this.momentOf(time)
    }, flaws.scripts)
  }

  /** Runs a command and returns its raw reply or the server's error. */
  execute(
    command: "eval" | "evalsha",
    program: string,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>
  ): Wire.Raw {
    const script = Wire.scripts.get(program)
    if (script === undefined) return Wire.error("ERR unknown program")
    if (command === "eval") this.known.add(script.sha)
    else if (!this.known.has(program)) return Wire.error("NOSCRIPT No matching script. Please use EVAL.")
    return this.perform(decode(script.name, keys, args))
  }

  private perform(request: Request): Wire.Raw {
    switch (request.name) {
      case "acquire": {
        this.labels.set(request.args.id, request.label)
        this.owners.set(request.args.id, numberOf(request.args.inbox))
        const { ignoresTombstones } = this.flaws
        const reply = this.change(
          request.lock,
          (server) =>
            Model.acquire(
              ignoresTombstones === true ? { ...server, tombstones: [] } : server,
              request.args,
              this.subscribers,
              this.flaws.scripts
            )
        )
        return Wire.acquireReply(reply, this.labels, this.isContended(request.lock))
      }
      case "acquireAll": {
        const { args, labels, locks } = request
        args.claims.forEach(({ id }, index) => {
          this.labels.set(id, labels[index]!)
          this.owners.set(id, numberOf(args.inbox))
        })
        const { ignoresTombstones } = this.flaws
        const servers = locks.map((lock) => {
          const server = this.lock(lock)
          return ignoresTombstones === true ? { ...server, tombstones: [] } : server
        })
        const { reply, steps } = Model.acquireAll(servers, args, this.subscribers, this.flaws.scripts)
        steps.forEach((step, index) => this.change(locks[index]!, () => step))
        return Wire.acquireAllReply(reply, this.labels, locks.map((lock) => this.isContended(lock)))
      }
      case "refresh":
        return request.locks.map(({ args, lock }) => {
          const replies = this.change(
            lock,
            (server) => Model.refresh(server, args, this.subscribers, this.flaws.scripts)
          )
          return Wire.done(replies.map((reply) => Wire.claimReply(reply, this.labels, this.isContended(lock))))
        })
      case "peek":
        return request.locks.flatMap(({ lock, token }, index) =>
          this.flaws.findsAlways === true || Model.hasHolder(this.lock(lock), token) ? [] : [index + 1]
        )
      case "release":
        return this.release(request.lock, request.args)
      case "releaseAll":
        return request.claims.map(({ args, lock }) => this.release(lock, args))
      case "shrink": {
        const { args, kept, lock } = request
        const reply = this.change(
          lock,
          (server) => Model.shrink(server, args, kept, this.subscribers, this.flaws.scripts)
        )
        return Wire.done([this.withMark(lock, args.id, reply)])
      }
      case "waiting":
        return Wire.waitingReply(this.lock(request.lock), request.most, this.labels)
      case "confirm": {
        const { holders } = this.lock(request.lock)
        const isHeld = holders.some(({ id, isLost, token }) =>
          id === request.id && token === request.token && isLost !== true
        )
        return isHeld ? 1 : 0
      }
      case "run": {
        const { args, lock } = request
        const { foreign, holders, now } = this.lock(lock)
        return this.runs.run(lock, args, foreign === undefined && holders.some(({ id }) => id === args.id), now)
      }
      case "renew":
        return request.claims.map(({ args, lock }) => {
          const reply = this.change(lock, (server) => {
            const step = Model.renew(server, args, this.flaws.scripts)
            if (step.reply !== "expired" || this.flaws.renewalCreates !== true) return step
            const { capacity, guard, id, kind, permits, token, ttl } = args
            const expiry = server.now + ttl + guard
            const holders = [...step.server.holders, { id, inbox: "", token, kind, permits, capacity, expiry }]
            return { ...step, reply: "ok" as const, server: { ...step.server, holders } }
          })
          return this.withMark(lock, args.id, reply, args.isWatched)
        })
      case "findHold":
      case "revoke":
      case "breakHold":
      case "inspect":
      case "observe":
        return this.admin.perform(request)
    }
  }

  /** What a renewal answers: more of a claim whose holder was asked to leave. */
  private withMark(lock: string, id: string, reply: Model.RenewReply, isWatched = false): Wire.Raw {
    if (reply !== "asked" && reply !== "revoked") return reply
    const asked = this.admin.askedReply(lock, id) as ReadonlyArray<Wire.Raw>
    return isWatched && this.isContended(lock) ? [...asked, 1] : asked
  }

  /** Whether others wait behind what a step has granted. */
  private isContended(lock: string): boolean {
    return this.flaws.scripts?.neverRings !== true && Model.isContended(this.locks.get(lock) ?? Model.empty)
  }

  private release(lock: string, args: Model.ReleaseArgs): Wire.Raw {
    const reply = this.change(lock, (server) => {
      if (this.flaws.deletesBlindly === true) server = Model.withoutFirst(server)
      const before = server.queue.length
      const step = Model.release(server, args, Scripts.tombstoneTtl, this.subscribers, this.flaws.scripts)
      if (step.reply._tag === "Released" && before > 0) this.serverLog.recordRelease(lock)
      return step
    }, args.id)
    return Wire.releaseReply(reply, this.labels)
  }

  private readonly subscribers: Model.Subscribers = (inbox) => this.listeners.get(inbox)?.size ?? 0

  /** The lock as it is now. */
  private lock(key: string): Model.Server {
    const micros = this.timeline.now + this.clockOffset + epoch
    const before = this.locks.get(key) ?? Model.empty
    const now = Math.floor(micros / 1_000)
    const after = { ...(now === before.now ? before : Model.advance(before, now - before.now)), micros }
    const keepsUsed = this.flaws.keepsUsedOfExpired === true && after.holders.length > 0
    const server = keepsUsed ? { ...after, used: before.used } : after
    this.compare(key, before, server, undefined)
    this.locks.set(key, server)
    return server
  }

  private change<Reply>(key: string, run: (server: Model.Server) => Model.Step<Reply>, withdrawn?: string): Reply {
    const before = this.lock(key)
    const { notifications, reply, rings, server: after } = run(before)
    const server = this.flaws.countsTwice === true ? { ...after, used: this.usedTwice(before, after) } : after
    this.locks.set(key, server)
    this.compare(key, before, server, withdrawn)
    if (this.admin.isObserved(key) && isOther(before, server)) this.admin.tellObservers(key)
    for (const { id, inbox, isContended, token } of notifications) {
      this.publish(inbox, token === undefined ? `w:${key}` : `g:${id}:${Wire.tokenText(token, isContended)}:${key}`)
    }
    // They change nothing where no holder asks.
    if (this.rings) { for (const { ids, inbox } of rings) this.publish(inbox, `c:${ids.join()}`) }
    return reply
  }

  private usedTwice(before: Model.Server, { holders, used }: Model.Server): number | undefined {
    const granted = holders.filter((one) => before.holders.every(({ id }) => id !== one.id))
    return used === undefined ? undefined : used + Model.usedBy(granted)
  }

  private publish(inbox: string, message: string): void {
    if (this.flaws.neverNotifies === true) return
    for (const listener of this.listeners.get(inbox) ?? []) listener.hear(message)
  }

  /** Tells the server log what has changed about the claims of a lock. */
  private compare(key: string, before: Model.Server, after: Model.Server, withdrawn: string | undefined): void {
    if (before.holders === after.holders && before.queue === after.queue) return
    const has = (server: Model.Server, id: string) =>
      server.holders.some((one) => one.id === id) || server.queue.some((one) => one.id === id)
    for (const { id } of [...before.holders, ...before.queue]) {
      if (!has(after, id)) this.serverLog.recordEnd(key, id, id !== withdrawn)
    }
    // A claim that is granted at once has been in the queue for that moment.
    const granted = after.holders.filter((one) => before.holders.every((other) => other.id !== one.id))
    for (const { id } of [...granted, ...after.queue]) {
      if (has(before, id)) continue
      this.admin.forget(id)
      this.serverLog.recordArrival(key, id, !granted.some((one) => one.id === id))
    }
    for (const { expiry, id } of after.holders) {
      const known = before.holders.find((one) => one.id === id)
      if (known !== undefined && expiry > known.expiry) this.admin.recordExtension(id, after.now)
    }
    for (const { id, token } of granted) {
      this.grantedAt.set(id, this.timeline.now)
      this.serverLog.recordGrant(
        key,
        id,
        BigInt(token),
        (other) => after.queue.some((one) => one.id === other && !one.parked && one.id !== id)
      )
    }
    this.serverLog.checkSum(key, after.used, Model.usedBy(after.holders))
    if (after.holders.length === 0) {
      for (const { expiry } of before.holders) {
        this.freeSince.set(key, Math.min(this.timeline.now, this.momentOf(expiry)))
      }
    }
  }

  /** The time of the world at which the server's clock shows a given time. */
  private momentOf(expiry: number): number {
    return expiry * 1_000 - epoch - this.clockOffset
  }

  /** The state of a lock now, also if no request has touched it since its expiry. */
  stateOf(key: string): LockState {
    const { now } = this.timeline
    const { foreign, holders } = this.locks.get(key) ?? Model.empty
    if (foreign !== undefined && this.momentOf(foreign) > now) return { holder: "", process: undefined, since: 0 }
    const holder = holders.find(({ expiry }) => this.momentOf(expiry) > now)
    if (holder !== undefined) {
      const { id } = holder
      return { holder: id, process: this.owners.get(id), since: this.grantedAt.get(id)! }
    }
    const over = Math.max(...holders.map(({ expiry }) => this.momentOf(expiry)))
    return { holder: undefined, process: undefined, since: Math.max(over, this.freeSince.get(key) ?? 0) }
  }

  processOf(id: string): number | undefined {
    return this.owners.get(id)
  }

  /** The token of the claim that holds a mutex. */
  holderOf(key: string): bigint | undefined {
    const { foreign, holders } = this.lock(key)
    return foreign !== undefined ? foreignToken : holders[0] && BigInt(holders[0].token)
  }

  /** The first waiter now, if it is connected and its permits are free. */
  idleWaiterOf(key: string): IdleWaiter | undefined {
    const { now } = this.timeline
    const { foreign, holders, queue } = this.locks.get(key) ?? Model.empty
    if (foreign !== undefined) return undefined
    const first = queue.find(({ deadline, parked }) => !parked && this.momentOf(deadline) > now)
    if (first === undefined) return undefined
    const held = holders.filter(({ expiry }) => this.momentOf(expiry) > now)
    const least = Math.min(first.capacity, ...held.map(({ capacity }) => capacity))
    if (Model.usedBy(held) + first.permits > least) return undefined
    return { id: first.id, process: this.owners.get(first.id) }
  }

  hasClaim(key: string, id: string): boolean {
    const { holders, queue } = this.lock(key)
    return holders.some((one) => one.id === id) || queue.some((one) => one.id === id)
  }

  /** What the server keeps of locks, or of those of one process. Tombstones of withdrawn claims are meant to stay for a while. */
  leftovers(process?: number): ReadonlyArray<string> {
    const isMeant = ({ id }: { readonly id: string }): boolean =>
      process === undefined || this.owners.get(id) === process
    return Array.from(this.locks.keys()).flatMap((key) => {
      const { holders, queue } = this.lock(key)
      return [
        ...holders.filter(isMeant).map(({ id }) => `${id} holds ${key}`),
        ...queue.filter(isMeant).map(({ id }) => `${id} waits for ${key}`)
      ]
    })
  }

  /** Tombstones of claims that are not in doubt. */
  needlessTombstones(): ReadonlyArray<string> {
    return Array.from(this.locks.keys()).flatMap((key) =>
      this.lock(key).tombstones.filter(({ id }) => !this.serverLog.isInDoubt(id) && !this.admin.broken.has(id)).map((
        { id }
      ) => `a tombstone of ${id} on ${key}`)
    )
  }

  subscribe(inbox: string, listener: Listener): void {
    const listeners = this.listeners.get(inbox)
    if (listeners === undefined) this.listeners.set(inbox, new Set([listener]))
    else listeners.add(listener)
  }

  unsubscribe(inbox: string, listener: Listener): void {
    this.listeners.get(inbox)?.delete(listener)
  }

  // What happens to it.

  forgetScripts(): void {
    this.known.clear()
  }

  private forget(key: string, claims: ReadonlyArray<{ readonly id: string }>): void {
    for (const { id } of claims) {
      this.serverLog.recordForgotten(id)
      this.serverLog.recordEnd(key, id, true)
    }
  }

  deleteLock(key: string): void {
    const server = this.lock(key)
    this.forget(key, server.holders)
    this.locks.set(key, { ...server, holders: [], used: 0, foreign: undefined })
  }

  deleteQueue(key: string): void {
    const server = this.lock(key)
    this.forget(key, server.queue)
    this.locks.set(key, { ...server, queue: [] })
  }

  /** The sum over the holders of a lock is evicted. */
  loseSum(key: string): void {
    this.locks.set(key, Model.loseUsed(this.lock(key)))
  }

  /** What the holders of a lock have is evicted, but not when they expire. Until then nobody else is let in. */
  losePermits(key: string): void {
    const server = this.lock(key)
    for (const { id, kind } of server.holders) if (kind !== "mutex") this.serverLog.recordForgotten(id)
    this.locks.set(key, Model.loseValues(server))
  }

  loseData(): void {
    for (const key of this.locks.keys()) {
      const server = this.lock(key)
      this.forget(key, [...server.holders, ...server.queue])
      this.locks.set(key, Model.flush(server))
      if (this.setBack > 0) this.serverLog.recordTokensForgotten(key)
    }
    this.dataWasLost = true
    this.admin.forgetObservers()
    this.runs.clear()
    this.serverLog.jobs.forget()
    this.serverLog.recordTombstonesLost()
  }

  /**
   * Moves its clock, in microseconds. Forward, all keys expire early. Backward, tokens may repeat after data was lost.
   */
  setClock(by: number): void {
    for (const key of this.locks.keys()) {
      const { holders, queue } = this.lock(key)
      if (by > 0) { for (const { id } of [...holders, ...queue]) this.serverLog.recordForgotten(id) }
      if (by < 0 && this.dataWasLost) this.serverLog.recordTokensForgotten(key)
    }
    this.clockOffset += by
    if (by < 0) this.setBack -= by
  }

  /** `SET NX PX` of another library's client. */
  takeForeign(key: string, ms: number): void {
    const before = this.lock(key)
    const server = Model.foreignSet(before, before.now + ms)
    this.locks.set(key, server)
    if (server.foreign !== before.foreign) this.serverLog.recordForeignGrant(key)
  }
}

/** Whether a hold began or ended, or the queue changed. */
const isOther = (before: Model.Server, after: Model.Server): boolean => {
  const textOf = ({ foreign, holders, queue }: Model.Server) =>
    JSON.stringify([
      foreign ?? null,
      holders.map(({ id, permits }) => [id, permits]),
      queue.map(({ id, parked }) => parked ? "" : id)
    ])
  return textOf(before) !== textOf(after)
}

/** The process that is subscribed to an inbox. */
const numberOf = (inbox: string): number => Number(/\d+$/.exec(inbox)?.[0])

/** The server's clock at the beginning, in microseconds. */
const epoch = 1_800_000_000_000_000
