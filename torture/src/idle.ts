import { type FaultWindows, isOneOf } from "./faultWindows.ts"
import type { Lags } from "./lags.ts"

interface Waiter {
  readonly who: string
  readonly ttl: number
  readonly since: number
}

interface Key {
  /** Whether several may hold it at a time. */
  isShared: boolean
  readonly waiting: Map<string, Waiter>
  readonly inside: Set<string>
  /** Everybody who ever asked for it: a fault of one of them may cost the others time. */
  readonly known: Set<string>
  /** From when the server has nobody on it, at the latest. */
  freeFrom: number
  /** Those who waited and are gone, while one of them may yet come to stand first: since when, until when, and for how long. */
  dead: Array<{ readonly from: number; readonly until: number; readonly ttl: number }>
}

export interface IdleLimits {
  /** By how much a backend keeps a lock longer than its holder considers it held. */
  readonly guard: number
  /** How late a release or the end of a holder's time may be noticed. */
  readonly notice: number
  /** The milliseconds in which the backend counts times to live, which it rounds up, and sees to those that are over. */
  readonly grain: number
  /** Of whom it takes longer, and how long, if it does. */
  readonly remote: { readonly places: ReadonlyArray<string>; readonly notice: number }
  /**
   * Milliseconds after which one who waited and died is passed over, unless it stands first by then: it stays there until the
   * time to live of its claim is over, which nobody has kept alive since its death. Zero where that time begins with the grant,
   * and it is given nothing any more once the server has noticed that its connections are gone.
   */
  readonly deadAfter: number
}

/** Milliseconds until a server has noticed that the connections of a process are gone. */
const noticed = 1_000

/** How many dead claims one request on etcd deletes, and the milliseconds that it and the look before it take on a busy machine. */
const passedOverAtOnce = 60
const passingOver = 100

/** Milliseconds of standing still on the way from one holder to the next of which nobody tells: a few times the least. */
const untold = 100

/**
 * Keys that stand idle although somebody waits. Whose holder gave it back is free at once, whose holder died or lost it
 * at the end of what it may have had left. From there on, and from the last fault of any who ever asked for it, the
 * next is let in within `notice`.
 */
export class Idle {
  private readonly keys = new Map<string, Key>()
  private readonly limits: IdleLimits

  constructor(limits: IdleLimits) {
    this.limits = limits
  }

  asks(ask: string, key: string, who: string, since: number, ttl: number, isShared = false): void {
    const one = this.of(key)
    one.isShared ||= isShared
    one.known.add(who)
    one.waiting.set(ask, { who, since, ttl })
  }

  /** No longer waits, served or not. */
  asksNoMore(ask: string, key: string): void {
    this.of(key).waiting.delete(ask)
  }

  /** Somebody is let in. Where nobody was inside, returns what says, when all is known, who had waited for too long. */
  enters(id: string, key: string, at: number, isAlone = true) {
    const one = this.of(key)
    const { freeFrom } = one
    const nobody = one.inside.size === 0
    one.inside.add(id)
    // Nothing stands before it any more, whatever might have. Beside one who shares it, a dead holder may yet stand.
    if (isAlone) one.freeFrom = Math.min(freeFrom, at)
    const notice = this.noticeOf(one.known)
    if (!nobody || at - freeFrom <= notice) return undefined
    // Claims are kept in the order in which they began to wait, about.
    const longest = one.waiting.values().next().value
    if (longest === undefined) return undefined
    const [{ since, who }, known] = [longest, new Set(one.known)]
    return (faultWindows: FaultWindows, lags: Lags): { readonly who: string; readonly ms: number } | undefined => {
      const from = Math.max(freeFrom, faultWindows.endOfLast(known, key, at), since)
      if (at - from <= notice) return undefined
      // Each of those who wait may be the next, and a machine that stands still is nobody's fault.
      const lag = untold + lags.onTheWay(from, at) +
        Math.max(...Array.from(known, (of) => lags.within(of, from, at)), 0)
      return at - from > notice + lag ? { who, ms: at - from } : undefined
    }
  }

  /** `left` is what the lock may have had left at the server when its holder went; 0 where it was given back. */
  leaves(id: string, key: string, at: number, left: number): void {
    const one = this.of(key)
    if (!one.inside.delete(id)) return
    one.freeFrom = Math.max(one.freeFrom, left === 0 ? at : at + this.standing(left))
    for (const { from, ttl, until } of one.dead) {
      if (at >= until) continue
      one.freeFrom = Math.max(one.freeFrom, (this.limits.deadAfter === 0 ? at : from) + this.standing(ttl))
    }
  }

  /** A process is gone, and asks no more. What was given to it a moment before, where nobody was inside, nobody knows. */
  gone(who: string, at: number): void {
    for (const one of this.keys.values()) {
      if (!one.known.delete(who)) continue
      // Any of them may be the first of them.
      let [ttl, asks] = [0, 0]
      for (const [ask, waiter] of one.waiting) {
        if (waiter.who !== who) continue
        one.waiting.delete(ask)
        ttl = Math.max(ttl, waiter.ttl)
        asks++
      }
      if (ttl === 0) continue
      const { deadAfter, grain } = this.limits
      const passed = Math.ceil(asks / passedOverAtOnce) * passingOver
      const until = at + (deadAfter === 0 ? noticed : deadAfter + grain + passed)
      one.dead = [...one.dead.filter((another) => another.until > at), { from: at, until, ttl }]
      // It may have been let in beside others until then.
      if (one.isShared) one.freeFrom = Math.max(one.freeFrom, until + this.standing(ttl))
      if (one.inside.size === 0) one.freeFrom = Math.max(one.freeFrom, at + this.standing(ttl))
    }
  }

  private noticeOf(known: ReadonlySet<string>): number {
    const { notice, remote: { notice: itsNotice, places } } = this.limits
    const isRemote = Array.from(known).some((who) => places.some((place) => isOneOf(place, who)))
    return isRemote ? itsNotice : notice
  }

  /** Milliseconds for which the server keeps what it gave for so long, at the most. */
  private standing(ttl: number): number {
    const { grain, guard } = this.limits
    return grain === 0 ? ttl + guard : (Math.ceil((ttl + guard) / grain) + 1) * grain
  }

  private of(key: string): Key {
    let one = this.keys.get(key)
    if (one === undefined) {
      one = { isShared: false, waiting: new Map(), inside: new Set(), known: new Set(), freeFrom: 0, dead: [] }
      this.keys.set(key, one)
    }
    return one
  }
}
