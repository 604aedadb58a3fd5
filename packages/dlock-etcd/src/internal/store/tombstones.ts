/** The lease of the tombstones, which stop late requests of withdrawn claims. */

import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type CallFailure, closedFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { SingleFlight } from "../client/singleFlight.ts"
import { freshId } from "./leases/leases.ts"

/**
 * The lease of all tombstones of this process. The lease outlives every request that may still arrive, and is never kept alive.
 * This process chooses the id of the lease, so that a repeated grant after a failure concerns the same lease.
 */
export class Tombstones {
  private current: { readonly id: string; until: number } | undefined
  /** The pending grant, which all callers share. */
  private granting: SingleFlight<string, CallFailure> | undefined
  private readonly port: Port
  private readonly now: () => number
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>

  constructor(port: Port, now: () => number, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.port = port
    this.now = now
    this.fork = fork
  }

  /** The id of the lease, which is granted if necessary. */
  readonly lease: Effect.Effect<string, CallFailure> = Effect.suspend(() => {
    if (this.granting !== undefined) return this.granting.await
    const { current } = this
    if (current !== undefined && this.now() < current.until) return Effect.succeed(current.id)
    // A lease whose grant failed has no end yet: its grant is repeated.
    const mine = current?.until === 0 ? current : { id: freshId(), until: 0 }
    this.current = mine
    const granting = new SingleFlight<string, CallFailure>()
    this.granting = granting
    const granted = Effect.onExit(this.port.grant(mine.id, tombstoneSeconds), (exit) =>
      Effect.sync(() => {
        this.granting = undefined
        if (Exit.isSuccess(exit)) mine.until = this.now() + exit.value.value * 1_000 / 2
        // An interrupt means that the store has closed: callers that still wait fail at once.
        granting.end(Exit.hasInterrupts(exit) ? Exit.fail(closedFailure) : Exit.map(exit, () => mine.id))
      }))
    this.fork(Effect.asVoid(Effect.exit(granted)))
    return granting.await
  })

  /** Called when that lease was revoked: the next tombstone gets a new lease. */
  forgetLease(lease: string): void {
    if (this.current?.id === lease) this.current = undefined
  }
}

/** The ttl of the lease, in seconds: 16 minutes. */

const tombstoneSeconds = 960
