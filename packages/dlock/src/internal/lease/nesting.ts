import * as Context from "effect/Context"
import * as Scope from "effect/Scope"
import { Lease } from "../../Lease.ts"
import { HeldLease } from "./heldLease.ts"

/**
 * Leases by store, by the scope that holds them, and by the name of the lock. Weak, so that this map keeps neither a
 * store nor a scope alive.
 */
const byStore = new WeakMap<object, WeakMap<Scope.Scope, Map<string, HeldLease>>>()

/**
 * The innermost live lease of the calling section. A lease that a test made by hand does not count.
 *
 * It also removes ended leases from the chain of parents. Otherwise the chain would grow for ever if each section forks
 * a fiber that outlives it and opens the next section.
 */
export const innermost = (context: Context.Context<never>): HeldLease | undefined => {
  const lease = Context.getOrUndefined(context, Lease)
  const innermost = live(lease instanceof HeldLease ? lease : undefined)
  for (let lease = innermost; lease !== undefined; lease = lease.parent) lease.parent = live(lease.parent)
  return innermost
}

const live = (lease: HeldLease | undefined): HeldLease | undefined => {
  while (lease !== undefined && lease.state !== "held") lease = lease.parent
  return lease
}

/**
 * The live lease on `name` that the caller already holds, in an enclosing section (starting from `innermost`) or in its
 * own scope. The caller would wait for itself.
 */
export const alreadyHeld = (
  innermost: HeldLease | undefined,
  context: Context.Context<never>,
  store: object,
  name: string
): HeldLease | undefined => {
  const holds = (lease: HeldLease): boolean =>
    lease.state === "held" && lease.claim.key === name && lease.host.store === store
  for (let lease = innermost; lease !== undefined; lease = lease.parent) {
    if (holds(lease)) return lease
  }
  const scope = Context.getOrUndefined(context, Scope.Scope)
  const own = scope && byStore.get(store)?.get(scope)?.get(name)
  return own !== undefined && holds(own) ? own : undefined
}

/**
 * The ids of the claims that the caller's sections hold through other stores, which may be clients of the same backend.
 * `alreadyHeld` handles the claims of the caller's own store.
 */
export const elsewhere = (innermost: HeldLease | undefined, store: object): ReadonlyArray<string> | undefined => {
  let ids: Array<string> | undefined
  for (let lease = innermost; lease !== undefined; lease = lease.parent) {
    if (lease.host.store !== store) (ids ??= []).push(lease.claim.id)
  }
  return ids
}

/** Remembers which scope holds a lease. */
export const register = (lease: HeldLease, scope: Scope.Scope): void => {
  const { store } = lease.host
  let byScope = byStore.get(store)
  if (byScope === undefined) {
    byScope = new WeakMap()
    byStore.set(store, byScope)
  }
  let leasesOfScope = byScope.get(scope)
  if (leasesOfScope === undefined) {
    leasesOfScope = new Map()
    byScope.set(scope, leasesOfScope)
  }
  leasesOfScope.set(lease.claim.key, lease)
  lease.leasesOfScope = leasesOfScope
}

/** Forgets a lease that has ended. */
export const leave = (lease: HeldLease): void => {
  if (lease.leasesOfScope?.get(lease.claim.key) === lease) lease.leasesOfScope.delete(lease.claim.key)
}
