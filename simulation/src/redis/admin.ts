import { letterOf } from "../../../packages/dlock-redis/src/internal/protocol/format.ts"
import { tombstoneTtl } from "../../../packages/dlock-redis/src/internal/protocol/index.ts"
import * as Model from "../../../packages/dlock-redis/test/model/server.ts"
import type { ServerLog } from "../serverLog.ts"
import type * as Wire from "./wire.ts"

/** What the scripts for people need from the server. */
export interface Host {
  readonly serverLog: ServerLog
  readonly labels: ReadonlyMap<string, string>
  readonly subscribers: Model.Subscribers
  readonly lock: (key: string) => Model.Server
  readonly change: <Reply>(key: string, run: (server: Model.Server) => Model.Step<Reply>, broken?: string) => Reply
  readonly publish: (inbox: string, message: string) => void
  /** The time of the world at which the server's clock shows a given time. */
  readonly momentOf: (time: number) => number
}

/** The scripts with which people look at locks and take them away, and those who observe locks. */
export class Admin {
  private readonly host: Host
  private readonly flaws: Model.Flaws | undefined
  /** By claim, who asked its holder to leave. */
  private readonly texts = new Map<string, string>()
  /** Claims that an operator took. Late requests of them find tombstones. */
  readonly broken = new Set<string>()
  /** By claim, from when on by the server's clock it must not be extended. */
  private readonly moments = new Map<string, number>()
  /** By lock, the inboxes of observers, and until when. */
  private readonly observers = new Map<string, Map<string, number>>()

  constructor(host: Host, flaws: Model.Flaws | undefined) {
    this.host = host
    this.flaws = flaws
  }

  perform(request: Wire.AdminRequest): Wire.Raw {
    const { lock } = request
    switch (request.name) {
      case "findHold": {
        const { foreign, holders } = this.host.lock(lock)
        if (foreign !== undefined && request.token === String(foreignToken)) return ["foreign"]
        const found = holders.find(({ isLost, token }) => isLost !== true && String(token) === request.token)
        return found === undefined ? ["notHeld"] : ["held", found.id]
      }
      case "revoke":
        return this.revoke(request)
      case "breakHold": {
        const { id, interop, token } = request
        // A client of another library expires by itself here.
        if (id === "") return [0, 0]
        const inbox = this.host.lock(lock).holders.find((one) => one.id === id && one.token === token)?.inbox
        if (inbox !== undefined) {
          this.broken.add(id)
          this.host.serverLog.recordForgotten(id)
        }
        const isBroken = this.host.change(
          lock,
          (server) => Model.breakHold(server, { id, interop, token }, tombstoneTtl, this.host.subscribers),
          id
        )
        if (inbox !== undefined) this.host.publish(inbox, `b:${id}`)
        return [isBroken ? 1 : 0, 0]
      }
      case "inspect":
        return this.inspect(lock)
      case "observe": {
        const inboxes = this.observers.get(lock) ?? new Map<string, number>()
        this.observers.set(lock, inboxes)
        if (request.time === 0) inboxes.delete(request.inbox)
        else inboxes.set(request.inbox, this.host.lock(lock).now + request.time)
        return 1
      }
    }
  }

  private revoke({ grace, id, lock, text, token }: Extract<Wire.AdminRequest, { readonly name: "revoke" }>): Wire.Raw {
    const momentIn = (server: Model.Server) => server.holders.find((one) => one.id === id)?.moment
    const before = momentIn(this.host.lock(lock))
    const isAsked = this.host.change(
      lock,
      (server) => Model.revoke(server, { id, token, grace }, this.host.subscribers, this.flaws)
    )
    if (!isAsked) return 0
    const { holders, now } = this.host.lock(lock)
    const mine = holders.find((one) => one.id === id)
    const moment = mine?.moment ?? now + grace
    if (before === undefined || moment < before) this.texts.set(id, text)
    this.moments.set(id, Math.min(now + grace, this.moments.get(id) ?? Infinity))
    this.host.serverLog.revoked.recordMark(lock, id, BigInt(token), this.host.momentOf(moment))
    if (mine !== undefined) {
      this.host.publish(mine.inbox, `r:${id}:${Math.max(0, moment - now)}:${this.texts.get(id)}`)
    }
    this.tellObservers(lock)
    return 1
  }

  /** The claim has come again after it had ended. */
  forget(id: string): void {
    this.moments.delete(id)
    this.texts.delete(id)
  }

  /** A claim is extended now. */
  recordExtension(id: string, now: number): void {
    const over = now - (this.moments.get(id) ?? Infinity)
    if (over >= 0) this.host.serverLog.revoked.reportExtension(id, over)
  }

  /** What a renewal tells of a marked claim. */
  askedReply(lock: string, id: string): Wire.Raw {
    const { holders, now } = this.host.lock(lock)
    const { moment = 0 } = holders.find((one) => one.id === id) ?? {}
    const text = this.texts.get(id) ?? "[]"
    return now < moment ? ["asked", moment - now, text] : ["revoked", 0, text]
  }

  tellObservers(lock: string): void {
    const { now } = this.host.lock(lock)
    for (const [inbox, until] of this.observers.get(lock) ?? []) {
      if (until > now) this.host.publish(inbox, `o:${lock}`)
    }
  }

  isObserved(lock: string): boolean {
    return (this.observers.get(lock)?.size ?? 0) > 0
  }

  forgetObservers(): void {
    this.observers.clear()
  }

  private inspect(lock: string): Wire.Raw {
    const { foreign, holders, last, micros, now, queue } = this.host.lock(lock)
    const label = (id: string): string => this.host.labels.get(id) ?? ""
    const held: Array<Wire.Raw> = holders.filter(({ isLost }) => isLost !== true)
      .toSorted((a, b) => Number(b.kind === "mutex") - Number(a.kind === "mutex") || a.expiry - b.expiry)
      .map(({ expiry, id, moment, permits, token }) => [
        label(id),
        String(token),
        String(permits),
        expiry - now,
        0,
        moment === undefined ? 0 : 1
      ])
    if (foreign !== undefined) held.unshift(["", String(foreignToken), "1", foreign - now, 1, 0])
    const waiting = queue.filter(({ parked }) => !parked)
    const [first] = foreign !== undefined ? [mutex] : [...holders, ...waiting]
    const capacities = holders.map(({ capacity }) => capacity)
    return [
      String(micros),
      first === undefined ? "" : letterOf[first.kind],
      String(capacities.length > 0 ? Math.min(...capacities) : first?.capacity ?? 0),
      holders.length + (foreign === undefined ? 0 : 1),
      String(holders.reduce((sum, { permits }) => sum + permits, foreign === undefined ? 0 : 1)),
      waiting.length,
      last === 0 ? "" : String(last),
      held,
      waiting.slice(0, 100).map(({ id, permits }) => [label(id), String(permits)])
    ]
  }
}

const mutex = { kind: "mutex", capacity: 1 } as const

/** What stands for the token of a client of another library. */
export const foreignToken = 1n
