/** Which claims of this process are contended, as far as it was told. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"

/**
 * Claims behind which others wait. The server says so once, whether anybody asks or not, so it is remembered until the claim
 * ends. A message may be lost: the renewals of claims of which somebody asks it ask too.
 */
export class Contention {
  private readonly known = new Map<string, Deferred.Deferred<void>>()
  private readonly telemetry: StoreTelemetry

  constructor(telemetry: StoreTelemetry) {
    this.telemetry = telemetry
  }

  private of(id: string): Deferred.Deferred<void> {
    let told = this.known.get(id)
    if (told === undefined) this.known.set(id, told = Deferred.makeUnsafe())
    return told
  }

  /** Records that others wait behind a claim. */
  note(id: string, key: string): void {
    const told = this.of(id)
    this.telemetry.callBack(() => Deferred.doneUnsafe(told, Effect.void), key)
  }

  /** Waits until others wait behind a claim. */
  wait(id: string): Effect.Effect<void> {
    return Effect.suspend(() => Deferred.await(this.of(id)))
  }

  /** Whether somebody asks this of a claim and has not been told. */
  isWatched(id: string): boolean {
    const told = this.known.get(id)
    return told !== undefined && !Deferred.isDoneUnsafe(told)
  }

  /** Forgets a claim that has ended. */
  forget(id: string): void {
    if (this.known.size > 0) this.known.delete(id)
  }
}
