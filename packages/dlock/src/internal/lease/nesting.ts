import * as Context from "effect/Context"
import * as Scope from "effect/Scope"
import { Lease } from "../../Lease.ts"
import { HeldLease } from "./heldLease.ts"

/** Leases by their store and the scope that holds them, for as long as both are there. */
const byStore = new WeakMap<object, WeakMap<Scope.Scope, Map<string, HeldLease>>>()

/**
 * The innermost live lease of the section that asks. A lease that somebody made up for a test holds nothing.
 *
 * Those that have ended are taken out of the chain on the way: fibers that outlive their section and open the next one
 * would make it longer for ever.
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
 * The live lease on `name` that the asker already stands in: one of the sections around it, of which `innermost` is the
 * first, or one that its own scope holds. Waiting for it would be waiting for oneself.
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
 * The ids of the claims that the asker's sections hold through other stores: those may be clients of the same backend. Of
 * its own store `alreadyHeld` knows.
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

/** Forgets a lease that is over. */
export const leave = (lease: HeldLease): void => {
  if (lease.leasesOfScope?.get(lease.claim.key) === lease) lease.leasesOfScope.delete(lease.claim.key)
}
