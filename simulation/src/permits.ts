import type { LockStore } from "effect-dlock"
import type { Claim } from "effect-dlock/LockStore"
import { digest } from "./log.ts"

/** How many permits a claim asks for, which follows from its id. */
export const permitsOf = (id: string, capacity: number): number => 1 + digest(id) % capacity

/**
 * The claims of a locker are those of a mutex. This turns them into claims on several permits, as future semaphores
 * will make them, so that the simulation tests the stores with those too.
 */
export const withPermits = (store: LockStore["Service"], capacity: number): LockStore["Service"] => {
  if (capacity === 1) return store
  const wide = (claim: Claim): Claim => ({ ...claim, capacity, permits: permitsOf(claim.id, capacity) })
  return {
    ...store,
    request: (claim, mode) => store.request(wide(claim), mode),
    renew: (held) => store.renew(held.map(({ claim, fencingToken }) => ({ claim: wide(claim), fencingToken }))),
    withdraw: (claim) => store.withdraw(wide(claim))
  }
}
