import * as Effect from "effect/Effect"
import { Lease } from "../../Lease.ts"
import { type Enclosing, HeldLease } from "../lease/heldLease.ts"
import { LeaseView } from "../lease/leaseView.ts"
import { type Term, termOf } from "./candidate.ts"

/** Steps down from the leadership in which the caller runs. */
export const resign: Effect.Effect<never, never, Lease> = Effect.flatMap(Lease, (lease) => {
  const term = enclosingTerm(lease)
  if (term === undefined) return Effect.die(new Error("Leader.resign: this is not the program of a leader"))
  term.stepDown("it resigned")
  // The caller ends here, also in a region that cannot be interrupted.
  return Effect.interrupt
})

/** The term whose program encloses what runs under this lease. */
const enclosingTerm = (lease: Lease): Term | undefined => {
  let enclosing: Enclosing | undefined = lease instanceof HeldLease || lease instanceof LeaseView ? lease : undefined
  for (; enclosing !== undefined; enclosing = enclosing.parent) {
    const term = termOf(enclosing.held)
    if (term !== undefined) return term
  }
  return undefined
}
