/** Claims of this process whose holders were asked to leave. */

import type { Revocation, RevocationNotice } from "effect-dlock/LockStore"
import * as Arr from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Port } from "../../client/port.ts"
import type { RequestBatcher } from "../../client/requestBatcher.ts"
import type { Watches } from "../../client/watches.ts"
import * as Admin from "../../protocol/adminTransactions.ts"
import { withdrawing } from "../../protocol/clauses.ts"
import { markOf, revocationBell } from "../../protocol/keys.ts"
import * as Transactions from "../../protocol/transactions.ts"
import type { Leases } from "../leases/leases.ts"
import type { Registry } from "../registry.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"

interface Parts {
  readonly port: Port
  readonly now: () => number
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly batcher: RequestBatcher
  readonly watches: Watches
  readonly registry: Registry
  readonly leases: Leases<Place>
  readonly tell: (notice: RevocationNotice) => void
}

/**
 * Finds the marks on claims of this process, tells the holders, and says which claims are never extended again.
 *
 * A mark is a key on the lease of the claim that it is about. Each confirmation of a lease reads the keys on it after the
 * keep-alive was sent, so it finds every mark that was put before: that costs no request. A watch on the bell of the prefix hears
 * of a mark at once. The mark ends with the claim or with the lease, whichever is earlier.
 *
 * Nobody but this process and the lease ends a marked claim. Others need not know for how long this process may believe in the
 * claim, so a mark that is found late, or by no one, costs time and never lets two in: this holds for a process of a version that
 * knows no marks too. In time the claim ends by itself: the grace counts from when this process learns of the mark, which is at
 * most a third of a ttl after it was put while the server answers; from then on no confirmation counts for the claim, and it is
 * withdrawn when its last one is over. A process that is frozen or cut off confirms nothing, and its leases end.
 */
export class Revocations {
  /** Ends the watch on the bell of each prefix that is watched. */
  private readonly watched = new Map<string, () => void>()
  private readonly parts: Parts

  constructor(parts: Parts) {
    this.parts = parts
  }

  /** Whether the claim is never extended again. */
  isForbidden({ place: { revocation } }: TrackedClaim): boolean {
    return revocation !== undefined && this.parts.now() >= revocation.forbiddenAt
  }

  /** What the holder of the claim is told. `undefined` if nobody has asked it to leave. */
  of({ place: { revocation } }: TrackedClaim): Revocation | undefined {
    if (revocation === undefined) return undefined
    const { by, forbiddenAt, why } = revocation
    const grace = Duration.millis(Math.max(0, forbiddenAt - this.parts.now()))
    return { by, ...(why !== undefined && { why }), grace }
  }

  /** Called when a claim has been held for a moment: watches the bell of its prefix. Short sections have no watch. */
  watchFor({ claim: { prefix } }: TrackedClaim): void {
    if (!this.watched.has(prefix)) this.watch(prefix, leastPause)
  }

  /** `pause`: how many milliseconds later a watch that the server refused begins again. Meanwhile the beats find the marks. */
  private watch(prefix: string, pause: number): void {
    const { fork, watches } = this.parts
    const again = Effect.sync(() => {
      if (this.watched.get(prefix) === stop) this.watch(prefix, Math.min(2 * pause, mostPause))
    })
    const stop = watches.add(
      { key: revocationBell(prefix), puts: "only" },
      0n,
      (rings) => {
        for (const { value } of rings) {
          const { mark, ...asking } = Admin.decodeAsking(value ?? Buffer.alloc(0))
          const place = mark === undefined ? undefined : this.take(mark, asking)
          if (place !== undefined) this.tell(place)
        }
      },
      () => fork(Effect.delay(again, pause)),
      // Marks that were put before the watch began ring no more.
      () => fork(this.lookAtLeases)
    )
    this.watched.set(prefix, stop)
  }

  /**
   * Takes the marks that a beat has found. The bell has rung for them, so a watch that has not told of them may be deaf. It begins
   * anew.
   */
  takeInBeat(marks: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const unheard = new Set<string>()
      return Effect.andThen(
        this.takeAll(marks, ({ tracked }) => unheard.add(tracked.claim.prefix)),
        Effect.sync(() => {
          for (const prefix of unheard) {
            const stop = this.watched.get(prefix)
            if (stop === undefined) continue
            stop()
            this.watch(prefix, leastPause)
          }
        })
      )
    })
  }

  private readonly lookAtLeases = Effect.suspend(() => {
    const { leases, port } = this.parts
    const used = leases.all().filter(({ claims }) => claims.size > 0)
    return Effect.forEach(
      used,
      ({ id }) =>
        Effect.ignore(Effect.flatMap(port.inspect(id), ({ value }) => this.takeAll(value.keys.filter(isMark)))),
      { concurrency: 4, discard: true }
    )
  })

  /**
   * Takes the marks that are on a lease of this process. It knows at once until when each claim may be extended, and then reads who
   * asked. Marks on claims that have ended are deleted.
   */
  private takeAll(marks: ReadonlyArray<string>, onNews: (place: Place) => unknown = () => {}): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (marks.length === 0) return Effect.void
      const { fork, port, registry } = this.parts
      const found: Array<string> = []
      const left: Array<string> = []
      for (const key of marks) {
        const { claimKey, created } = markOf(key) ?? {}
        const place = registry.at(claimKey ?? "")
        if (place === undefined || (place.created !== undefined && place.created !== created)) left.push(key)
        else if (place.revocation?.marks.has(key) !== true && this.take(key, undefined) !== undefined) {
          found.push(key)
          onNews(place)
        }
      }
      for (const some of Arr.chunksOf(left, marksAtOnce)) fork(Effect.ignore(port.txn(Transactions.remove(some))))
      return Effect.forEach(
        Arr.chunksOf(found, marksAtOnce),
        (some) =>
          Effect.match(port.txn(Admin.findMarks(some)), {
            onFailure: () => this.takeAskings(some, () => undefined),
            onSuccess: ({ value }) => {
              const values = Admin.readFound(value)
              this.takeAskings(some, (index) => values[index]?.kvs[0]?.value)
            }
          }),
        { concurrency: 4, discard: true }
      )
    })
  }

  /** Takes the values of marks. Where one could not be read, the next beat reads it. */
  private takeAskings(marks: ReadonlyArray<string>, valueOf: (index: number) => Buffer | undefined): void {
    const places = new Set<Place>()
    marks.forEach((key, index) => {
      const value = valueOf(index)
      const place = this.placeOf(key)
      if (value !== undefined) this.take(key, Admin.decodeAsking(value))
      else place?.revocation?.marks.delete(key)
      if (place !== undefined) places.add(place)
    })
    // Of several marks on one claim, the one that leaves the least time tells who asks, and it may be the last of them.
    for (const place of places) this.tell(place)
  }

  private placeOf(key: string): Place | undefined {
    const mark = markOf(key)
    const place = mark && this.parts.registry.at(mark.claimKey)
    return place?.created === mark?.created ? place : undefined
  }

  /** Takes a mark, and who put it if that is known. Returns the place if it is one of this process. */
  private take(key: string, asking: Admin.Asking | undefined): Place | undefined {
    const place = this.placeOf(key)
    if (place === undefined) return undefined
    const known = place.revocation
    const forbiddenAt = this.parts.now() + markOf(key)!.grace
    const isShorter = known === undefined || forbiddenAt < known.forbiddenAt
    // The name of who left the holder the least time. Of a mark that was found before its value, the value tells it later.
    const { by, why } = (isShorter || known.of === key ? asking : known) ?? { by: "", why: undefined }
    place.revocation = {
      by,
      why,
      of: isShorter ? key : known.of,
      // A mark that is heard of again leaves no more time.
      forbiddenAt: isShorter ? forbiddenAt : known.forbiddenAt,
      marks: (known?.marks ?? new Set()).add(key)
    }
    return place
  }

  private tell({ tracked }: Place): void {
    const revocation = this.of(tracked)
    if (tracked.state === "held" && revocation !== undefined) this.parts.tell({ id: tracked.claim.id, revocation })
  }

  /** Called when a marked claim is granted: the mark was found first. Tells the holder when it has taken the grant. */
  noteGranted({ place }: TrackedClaim): void {
    this.parts.fork(Effect.delay(Effect.sync(() => this.tell(place)), toldAfter))
  }

  /** Called when a marked claim has ended: deletes its marks. Others that are unknown here end with the lease, or at its next beat. */
  forget({ claim, revocation }: Place): void {
    const { batcher, fork } = this.parts
    const request = Transactions.remove(Array.from(revocation!.marks))
    const operation = { ...withdrawing(claim, request), claim: `${claim.id} marks`, isPatient: true }
    fork(Effect.ignore(batcher.run(operation)))
  }
}

/** Whether a key on a lease is a mark. */
export const isMark = (key: string): boolean => key.includes("\0revoked\0")

/** How many marks one transaction reads or deletes. A server must allow nine operations in a transaction. */
const marksAtOnce = 8

// Milliseconds.

const toldAfter = 20
const leastPause = 60_000
const mostPause = 3_600_000
