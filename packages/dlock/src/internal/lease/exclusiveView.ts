import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Lease } from "../../Lease.ts"
import type { LockNotHeld, OwnershipLost } from "../../LockError.ts"
import type { SharedLease } from "../../SharedLease.ts"
import type { Enclosing, HeldLease } from "./heldLease.ts"
import { LeaseView } from "./leaseView.ts"

/** How many of these views of each lease have not ended. Kept apart, so that a lease that nobody re-enters has no field for it. */
const open = new WeakMap<HeldLease, number>()

/**
 * A lease of a mutex or of a write lock that was re-entered. Its token is that of the outer lease, since a resource has
 * no reason to tell the two apart.
 */
export class ExclusiveView extends LeaseView implements Lease {
  private renewalFiber: Fiber.Fiber<never, OwnershipLost> | undefined

  constructor(outer: HeldLease, parent: Enclosing | undefined, callersScope: Scope.Scope | undefined) {
    super(outer, parent, callersScope)
    open.set(outer, (open.get(outer) ?? 0) + 1)
  }

  /** Whether a lease has been re-entered by a program that still relies on being alone. */
  static isOpenOn(lease: HeldLease): boolean {
    return open.has(lease)
  }

  override get isExclusive(): boolean {
    return true
  }

  get fencingToken(): bigint {
    return this.outer.fencingToken
  }

  get renewal(): Fiber.Fiber<never, OwnershipLost> {
    if (this.renewalFiber === undefined) {
      this.renewalFiber = this.outer.host.fork(this.lost)
      if (this.state === "released") this.renewalFiber.interruptUnsafe()
    }
    return this.renewalFiber
  }

  /** Of a write lock. It stays one, because the outer section needs it as such. */
  get downgrade(): Effect.Effect<SharedLease, OwnershipLost | LockNotHeld> {
    return Effect.as(this.ensureHeld, this)
  }

  protected override onRelease(): void {
    const others = open.get(this.outer)! - 1
    if (others === 0) open.delete(this.outer)
    else open.set(this.outer, others)
    this.renewalFiber?.interruptUnsafe()
  }
}
