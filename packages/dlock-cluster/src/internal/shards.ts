/**
 * The shards of one runner. Sharding asks for them, refreshes them at its interval, and releases them once their entities
 * have ended.
 *
 * Nobody but Sharding has a shard renewed: a shard that it does not name any more runs out. So whatever stops Sharding, a
 * pause of the process included, stops the renewals, and the entities have until the deadline.
 */
import type { LockBackendError, OwnershipLost } from "effect-dlock/LockError"
import { LockNotHeld } from "effect-dlock/LockError"
import type { Renewal } from "effect-dlock/LockStore"
import { PersistenceError } from "effect/cluster/ClusterError"
import type { ShardId } from "effect/cluster/ShardId"
import * as Effect from "effect/Effect"
import { type Claims, unanswered } from "./claims.ts"
import type { HeldClaim, Moment } from "./heldClaim.ts"
import * as Keys from "./keys.ts"
import * as Timing from "./timing.ts"

/** A shard that this runner has, or has had without releasing it. */
interface OwnedShard {
  readonly id: ShardId
  readonly held: HeldClaim
  state: "held" | "lost" | "withdrawing"
  loss: OwnershipLost | undefined
  /** When Sharding was told that it has the shard. */
  reportedAt: number | undefined
  /** Whether Sharding has named it in a refresh. Until then Sharding runs nothing on it, or has just begun. */
  isNamed: boolean
  /** Whether the claim has expired and was withdrawn, though the shard was not released. */
  isExpired: boolean
  /** Whether somebody asked the runner to leave the shard. Sharding then ends its entities by and by. */
  isRevoked: boolean
  /** Whether it is never extended again, because the grace of its revocation is over. */
  isFinal: boolean
}

export class Shards {
  private readonly claims: Claims
  private readonly address: string
  private readonly owned = new Map<string, OwnedShard>()
  /** The keys that are being asked for. */
  private readonly asked = new Set<string>()

  constructor(claims: Claims, address: string) {
    this.claims = claims
    this.address = address
  }

  /** Everything that this runner holds. */
  held(): ReadonlyArray<HeldClaim> {
    return Array.from(this.owned.values(), ({ held }) => held)
  }

  /**
   * Returns which of these shards the runner has now. It steals nothing from an earlier process with the same address:
   * that one may be paused, and its entities with it. Its claims are others, and run out.
   *
   * Sharding asks again after a second for what it did not get.
   */
  acquire(ids: ReadonlyArray<ShardId>): Effect.Effect<Array<ShardId>, LockBackendError> {
    return Effect.suspend(() => {
      // Sharding asks for nothing that it runs. So a shard that cannot be used any more has been left already.
      const unusable = ids.flatMap((id) => this.find(id) ?? []).filter((shard) => this.isUnusable(shard))
      const known = ids.flatMap((id) => this.find(id) ?? []).filter((shard) => !this.isUnusable(shard))
      const isMissing = (id: ShardId): boolean => {
        const shard = this.find(id)
        return !this.asked.has(Keys.shard(id)) && (shard === undefined || unusable.includes(shard))
      }
      const missing = ids.filter(isMissing)
      const granted: Array<OwnedShard> = []
      let failure: LockBackendError | undefined
      // What was not answered by then is asked for again, and keeps nobody from what was.
      const limit = Timing.acquireLimit(this.claims.times.interval)
      const ask = (id: ShardId): Effect.Effect<void> =>
        this.claims.hold(Keys.shard(id), this.address, (held) => granted.push(this.track(id, held))).pipe(
          Effect.catch((error) => Effect.sync(() => void (failure ??= error))),
          Effect.asVoid
        )
      for (const id of missing) this.asked.add(Keys.shard(id))
      return Effect.all([
        this.giveBack(unusable),
        Effect.forEach(missing, ask, { concurrency: "unbounded", discard: true }),
        this.renew(known.filter(({ state }) => state === "held"))
      ], { concurrency: "unbounded", discard: true }).pipe(
        Effect.timeoutOrElse({
          duration: limit,
          orElse: () => Effect.sync(() => void (failure ??= unanswered(limit)))
        }),
        Effect.andThen(Effect.suspend(() => {
          const now = this.claims.now()
          const mine = [...known, ...granted].filter((shard) => this.isFresh(shard, now))
          if (mine.length === 0 && failure !== undefined) return Effect.fail(failure)
          for (const shard of mine) {
            shard.reportedAt = now.at
            shard.isNamed = false
          }
          return Effect.succeed(mine.map(({ id }) => id))
        })),
        // Sharding limits the call. What it was not told of, it does not know that it has.
        Effect.onExit(() => this.giveBack(granted.filter(({ reportedAt }) => reportedAt === undefined))),
        Effect.ensuring(Effect.sync(() => missing.forEach((id) => this.asked.delete(Keys.shard(id)))))
      )
    })
  }

  private isUnusable(shard: OwnedShard): boolean {
    if (shard.state === "held") this.lossAmong([shard])
    return shard.state === "lost" || (shard.state === "held" && shard.isRevoked)
  }

  private track(id: ShardId, held: HeldClaim): OwnedShard {
    const shard: OwnedShard = {
      id,
      held,
      state: "held",
      loss: undefined,
      reportedAt: undefined,
      isNamed: false,
      isExpired: false,
      isRevoked: false,
      isFinal: false
    }
    this.owned.set(held.key, shard)
    return shard
  }

  private find(id: ShardId): OwnedShard | undefined {
    return this.owned.get(Keys.shard(id))
  }

  /** Whether Sharding may be told that it has the shard: a refresh of its own then comes in time. */
  private isFresh(shard: OwnedShard, now: Moment): boolean {
    return shard.state === "held" && !shard.isRevoked &&
      shard.held.age(now) <= Timing.freshFor(this.claims.times.interval)
  }

  private giveBack(shards: ReadonlyArray<OwnedShard>): Effect.Effect<void> {
    if (shards.length === 0) return Effect.void
    for (const shard of shards) this.forget(shard)
    return this.claims.withdrawLater(shards.map(({ held }) => held.claim))
  }

  private forget(shard: OwnedShard): void {
    if (this.owned.get(shard.held.key) === shard) this.owned.delete(shard.held.key)
  }

  /**
   * Has the backend confirm the shards that Sharding names, and returns those that it confirmed.
   *
   * An answer that is not known yet is asked for again, until Sharding's own limit: it then stops all its entities. So a
   * short outage costs nothing.
   *
   * **A loss dies** instead of failing, and instead of being left out of the answer. Sharding would repeat a failure five
   * times, and would stop the entities of a shard that is left out by and by, within `entityTerminationTimeout`. A
   * defect is what makes it interrupt them at once.
   */
  refresh(ids: ReadonlyArray<ShardId>): Effect.Effect<Array<ShardId>, LockBackendError> {
    return Effect.suspend(() => {
      const named = ids.flatMap((id) => this.find(id) ?? []).filter(({ state }) => state !== "withdrawing")
      for (const shard of named) shard.isNamed = true
      return this.confirm(named, true)
    })
  }

  private confirm(
    named: ReadonlyArray<OwnedShard>,
    isFirst: boolean,
    pending: ReadonlyArray<OwnedShard> = named
  ): Effect.Effect<Array<ShardId>, LockBackendError> {
    return Effect.suspend(() => {
      const loss = this.lossAmong(named)
      if (loss !== undefined) return Effect.die(new PersistenceError({ cause: loss }))
      const all = isFirst ? [...pending, ...this.newlyAcquired()] : pending
      // No answer is awaited for longer than all these shards may be trusted.
      const now = this.claims.now()
      const remaining = named.reduce(
        (least, { held, state }) => state === "held" ? Math.min(least, held.remaining(now)) : least,
        Infinity
      )
      const renewed = remaining > this.claims.times.interval ? this.renew(all) : Effect.timeoutOrElse(this.renew(all), {
        duration: Math.ceil(remaining),
        orElse: () => Effect.succeed<ReadonlySet<OwnedShard>>(new Set(all))
      })
      return Effect.flatMap(renewed, (unconfirmed) => {
        const loss = this.lossAmong(named)
        if (loss !== undefined) return Effect.die(new PersistenceError({ cause: loss }))
        const now = this.claims.now()
        const isToRepeat = (shard: OwnedShard): boolean =>
          shard.state === "held" && !shard.isFinal &&
          (unconfirmed.has(shard) || shard.held.age(now) > Timing.freshFor(this.claims.times.interval))
        const again = pending.filter(isToRepeat)
        if (again.length > 0) {
          return Effect.delay(this.confirm(named, false, again), Timing.retryAfter(this.claims.times.ttl))
        }
        return Effect.succeed(
          named.filter(({ isRevoked, state }) => state === "held" && !isRevoked).map(({ id }) => id)
        )
      })
    })
  }

  /**
   * Shards of which Sharding has been told, or is being told now, and that it has not named yet. They are not among those
   * that it refreshes, and must not grow older than these.
   */
  private newlyAcquired(): ReadonlyArray<OwnedShard> {
    const { at } = this.claims.now()
    const limit = Timing.untilNamed(this.claims.times.interval)
    return Array.from(this.owned.values()).filter(({ isNamed, reportedAt, state }) =>
      state === "held" && !isNamed && (reportedAt === undefined || at - reportedAt <= limit)
    )
  }

  /** Renews shards, and returns those of which nothing is known now. */
  private renew(shards: ReadonlyArray<OwnedShard>): Effect.Effect<ReadonlySet<OwnedShard>> {
    const unconfirmed = new Set<OwnedShard>()
    if (shards.length === 0) return Effect.succeed(unconfirmed)
    return Effect.map(this.claims.renew(shards.map(({ held }) => held)), (answers) => {
      shards.forEach((shard, index) => {
        if (this.apply(shard, answers[index]!) === "unknown") unconfirmed.add(shard)
      })
      return unconfirmed
    })
  }

  private apply(shard: OwnedShard, answer: Renewal): "known" | "unknown" {
    // It may have been released meanwhile.
    if (shard.state !== "held") return "known"
    switch (answer._tag) {
      case "Confirmed":
        if (answer.revocation !== undefined) shard.isRevoked = true
        return "known"
      case "Gone":
        this.lose(shard, shard.held.lost("Expired", this.claims.now()))
        return "known"
      case "Replaced":
        this.lose(shard, shard.held.lost("Replaced", this.claims.now()))
        return "known"
      case "Revoked":
        shard.isRevoked = true
        shard.isFinal = true
        return "known"
      case "Unknown":
        return "unknown"
    }
  }

  private lose(shard: OwnedShard, loss: OwnershipLost): void {
    shard.state = "lost"
    shard.loss = loss
  }

  /**
   * The first loss among these shards. This process's own clock tells it first: after a pause no shard is trusted before
   * the backend has confirmed it anew.
   */
  private lossAmong(shards: ReadonlyArray<OwnedShard>): OwnershipLost | undefined {
    const now = this.claims.now()
    for (const shard of shards) {
      if (shard.state !== "held") continue
      const remaining = shard.held.remaining(now)
      if (remaining <= 0) this.lose(shard, shard.held.lost("Stalled", now))
      else if (shard.isFinal && remaining < Timing.leaveBefore(this.claims.times.interval)) {
        this.lose(shard, shard.held.lost("Revoked", now))
      }
    }
    return shards.find(({ loss }) => loss !== undefined)?.loss
  }

  /**
   * Withdraws what has expired by this process's own clock. A backend may renew all claims of a process together, as etcd
   * does with a lease, and would then keep it for as long as the process lives.
   */
  get expire(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const now = this.claims.now()
      const { guardGap } = this.claims.times
      const expired = Array.from(this.owned.values()).filter(({ held, isExpired, state }) =>
        state !== "withdrawing" && !isExpired && held.remaining(now) <= -guardGap
      )
      this.lossAmong(expired)
      for (const shard of expired) shard.isExpired = true
      return this.claims.withdrawLater(expired.map(({ held }) => held.claim))
    })
  }

  /** Releases a shard whose entities have ended. */
  release(id: ShardId): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => {
      const shard = this.find(id)
      return shard === undefined ? Effect.void : this.withdraw([shard])
    })
  }

  /** Releases all shards, whose entities have ended. It forgets what was lost. */
  get releaseAll(): Effect.Effect<void, LockBackendError> {
    return Effect.suspend(() => this.withdraw(Array.from(this.owned.values())))
  }

  private withdraw(shards: ReadonlyArray<OwnedShard>): Effect.Effect<void, LockBackendError> {
    const byClaim = new Map(shards.map((shard) => [shard.held.claim, shard]))
    // Not renewed from now on: a withdrawal whose answer is lost may have been done.
    for (const shard of shards) shard.state = "withdrawing"
    return this.claims.withdraw(Array.from(byClaim.keys()), (claim) => this.forget(byClaim.get(claim)!))
  }

  /** The token of a shard, if this runner may trust it now. `undefined` if it is not among its shards. */
  tokenOf(id: ShardId): Effect.Effect<bigint, OwnershipLost | LockNotHeld> | undefined {
    const shard = this.find(id)
    if (shard === undefined) return undefined
    const loss = this.lossAmong([shard])
    if (loss !== undefined) return Effect.fail(loss)
    return shard.state === "held"
      ? Effect.succeed(shard.held.fencingToken)
      : Effect.fail(new LockNotHeld({ key: shard.held.key }))
  }
}
