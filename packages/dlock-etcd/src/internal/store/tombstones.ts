/** The lease on which tombstones stand: what late requests of withdrawn claims meet. */

import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { SingleFlight } from "../client/singleFlight.ts"
import { freshId } from "./leases/leases.ts"

/**
 * The lease of all tombstones of this process. It outlives any request that may still be on its way, and is never kept
 * alive. Its id is chosen before it is granted, so that asking again after a failure asks for the same one.
 */
export class Tombstones {
  private current: { readonly id: string; until: number } | undefined
  /** The grant that is under way, for all who need it. */
  private granting: SingleFlight<string, CallFailure> | undefined
  private readonly port: Port
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>

  constructor(port: Port, now: () => number, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.now = now
    this.fork = fork
  }

  readonly lease: Effect.Effect<string, CallFailure> = Effect.suspend(() => {
    if (this.granting !== undefined) return this.granting.await
    const { current } = this
    if (current !== undefined && this.now() < current.until) return Effect.succeed(current.id)
    // A lease whose grant failed has no time yet, and is asked for again.
    const mine = current?.until === 0 ? current : { id: freshId(), until: 0 }
    this.current = mine
    const granting = new SingleFlight<string, CallFailure>()
    this.granting = granting
    const granted = Effect.onExit(this.port.grant(mine.id, tombstoneSeconds), (exit) =>
      Effect.sync(() => {
        this.granting = undefined
        if (Exit.isSuccess(exit)) mine.until = this.now() + exit.value.value * 1_000 / 2
        // The store has closed: those who still wait are told at once.
        granting.end(Exit.hasInterrupts(exit) ? Exit.fail(closedFailure) : Exit.map(exit, () => mine.id))
      }))
    this.fork(Effect.asVoid(Effect.exit(granted)))
    return granting.await
  })

  /** Somebody revoked that lease: the next tombstone has another. */
  forgetLease(lease: string): void {
    if (this.current?.id === lease) this.current = undefined
  }
}

const tombstoneSeconds = 960
