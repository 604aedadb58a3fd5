import * as Effect from "effect/Effect"
import type { CallFailure } from "./failure.ts"
import { freshId } from "./leases.ts"
import type { Port } from "./port.ts"

/**
 * The lease of the marks that cancel claims. It outlives any request that may still be on its way, and is never kept
 * alive. It has its id before it is granted, so that many who ask for it at once, and again after a failure, make one.
 */
export class Marks {
  private current: { readonly id: string; until: number } | undefined
  private readonly port: Port
  private readonly now: () => number

  constructor(port: Port, now: () => number) {
    this.port = port
    this.now = now
  }

  readonly lease: Effect.Effect<string, CallFailure> = Effect.suspend(() => {
    const { current } = this
    if (current === undefined || this.now() >= current.until && current.until > 0) {
      this.current = { id: freshId(), until: 0 }
    }
    const mine = this.current!
    if (mine.until > 0) return Effect.succeed(mine.id)
    return Effect.map(this.port.grant(mine.id, markSeconds), ({ value }) => {
      mine.until = this.now() + value * 1_000 / 2
      return mine.id
    })
  })

  /** Somebody revoked it: the next mark has another. */
  isGone(lease: string): void {
    if (this.current?.id === lease) this.current = undefined
  }
}

const markSeconds = 960
