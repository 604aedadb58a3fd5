import type { Recorded } from "./events.ts"
import type { FaultWindows } from "./faultWindows.ts"
import { isOneOf } from "./faultWindows.ts"
import type { IdleLimits } from "./idle.ts"
import type { Lags } from "./lags.ts"
import type { Lease } from "./lease.ts"

type Revoked = Recorded & { readonly t: "revoked" }
type Freed = Recorded & { readonly t: "freed" }
type Listed = Recorded & { readonly t: "listed" }

/** Milliseconds within which a holder that is connected is told. */
const promised = 100

/** Milliseconds from which on a store listens to what concerns a lock that it has just got, on etcd. */
const listens = 300

/** Milliseconds after the end of a fault in which a store on Redis is connected again, and listens. */
const listensAgain = 1_500

/** Milliseconds between two looks of the operator, and what each takes at the most while the servers are well. */
const looks = 300

/** How many of several locks one call has, and one more. */
const mostSeveral = 4

/** What an operator asked for, what holders were told, and what came of it. */
export class RevocationHistories {
  /** How many holders were asked, and of how many of those it could be checked. */
  readonly counts = { revocations: 0, "wrong tokens": 0, "told in time": 0, "freed in time": 0, lists: 0 }
  private readonly asked = new Map<string, Array<Revoked>>()
  private readonly toldAt = new Map<string, number>()
  private readonly faultWindows: FaultWindows
  private readonly lags: Lags
  private readonly limits: IdleLimits

  constructor(faultWindows: FaultWindows, lags: Lags, limits: IdleLimits) {
    this.faultWindows = faultWindows
    this.lags = lags
    this.limits = limits
  }

  add(event: Revoked): void {
    if (event.answer === "notHeld") {
      this.counts["wrong tokens"]++
      return
    }
    if (event.answer === "asked") this.counts.revocations++
    const name = nameOf(event.key, event.token)
    const all = this.asked.get(name) ?? []
    this.asked.set(name, all)
    all.push(event)
  }

  tell(id: string, at: number): void {
    if (!this.toldAt.has(id)) this.toldAt.set(id, at)
  }

  /** Nothing more is told of this lease. */
  forget({ id, key, token }: Lease): void {
    this.toldAt.delete(id)
    this.asked.delete(nameOf(key, `${token}`))
  }

  /** A holder was told at this moment that it is to leave. What is wrong if nobody has asked it, nor for what it has with this lock. */
  unasked(lease: Lease, at: number, find: (id: string) => Lease | undefined): string | undefined {
    const [first] = lease.id.split("+")
    for (let index = 0; index < mostSeveral; index++) {
      const one = find(index === 0 ? first! : `${first}+${index}`)
      if (one?.token === undefined) continue
      // Its lock may have been broken.
      if (this.faultWindows.findDataLoss(one.key, one.since, at) !== undefined) return undefined
      if (this.asked.get(nameOf(one.key, `${one.token}`))?.some(({ from }) => from <= at) === true) return undefined
    }
    return `${lease.who} was told to leave ${lease.key}, under ${lease.token}`
  }

  /** What is wrong if the holder that was asked was not told in time. `undefined` where that is as it should be. */
  unheard({ at, from, key }: Revoked, lease: Lease): string | undefined {
    const { who } = lease
    const since = this.limits.grain === 0 ? Math.max(at, lease.acquiredAt) : Math.max(at, lease.acquiredAt + listens)
    const due = since + promised + this.noticeOf(who)
    const told = Math.min(this.toldAt.get(lease.id) ?? Infinity, lease.lostAt ?? Infinity)
    const until = Math.min(told, lease.over ?? Infinity, due + 2_000)
    if (this.faultWindows.mayHaveHit(who, key, from, until, this.limits.grain === 0 ? listensAgain : undefined)) {
      return undefined
    }
    if (until - due > this.lags.within(who, from, until) + this.lags.onTheWay(from, until)) {
      return `${who} was told ${(told - at).toFixed(0)} ms later that it is to leave ${key}`
    }
    if (told < Infinity) this.counts["told in time"]++
    return undefined
  }

  /** What is wrong if a hold was seen for longer than it may stand after it was asked to end. */
  kept({ at, from, grace, key, seenUntil }: Freed, { ttl, who }: Lease): string | undefined {
    // Servers that come back count from the beginning what their clients may have had left.
    const endsAt = Math.max(from + grace, this.faultWindows.endOfAbsence(from, at))
    const { grain, guard } = this.limits
    // On etcd its process learns of it with its next renewal at the latest, and forbids further ones from then on.
    const stands = grain === 0 ? ttl + guard : (Math.ceil((ttl + guard) / grain) + 1) * grain + ttl / 3
    const late = seenUntil - endsAt - stands - looks - this.noticeOf(who)
    if (late > this.lags.ofAnybody(from, at)) {
      return `${who} had ${key} for ${(seenUntil - from).toFixed(0)} ms after it was asked to leave within ${
        grace.toFixed(0)
      } ms`
    }
    this.counts["freed in time"]++
    return undefined
  }

  /** A lock that was held throughout and is not in a list. */
  unlisted({ at, from, keys }: Listed, leases: Iterable<Lease>): string | undefined {
    this.counts.lists++
    for (const { acquiredAt, key, lostAt = Infinity, over = Infinity, since, ttl, who } of leases) {
      if (acquiredAt > from || over < at || lostAt < at || keys.includes(key)) continue
      if (this.faultWindows.findDataLoss(key, since, at) !== undefined) continue
      if (this.faultWindows.mayHaveLostAnswer(who, from - ttl, at) || this.faultWindows.wereServersAway(from, at)) {
        continue
      }
      if (this.lags.within(who, from - ttl, at) + this.lags.onTheWay(from - ttl, at) > ttl / 3) continue
      return `${key}, which ${who} held throughout, is not in the list`
    }
    return undefined
  }

  private noticeOf(who: string): number {
    const { notice, places } = this.limits.remote
    return places.some((place) => isOneOf(place, who)) ? notice : 0
  }
}

const nameOf = (key: string, token: string): string => `${key}|${token}`
