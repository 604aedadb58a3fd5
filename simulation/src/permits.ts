import type { LockStore } from "effect-dlock"
import type { Claim } from "effect-dlock/LockStore"
import { digest } from "./log.ts"

/** How many permits a claim asks for: whoever knows its id knows that. */
export const permitsOf = (id: string, capacity: number): number => 1 + digest(id) % capacity

/**
 * The claims of a locker are those of a mutex. Beneath it they are made claims on several permits, as the semaphores to
 * come will make them, so that the stores are seen with those too.
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
