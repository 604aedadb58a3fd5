import * as Context from "effect/Context"
import * as Scope from "effect/Scope"
import { Lease } from "../../Lease.ts"
import { Leases } from "../../Leases.ts"
import { isExclusive } from "../../LockStore.ts"
import { SharedLease } from "../../SharedLease.ts"
import type { Shape } from "../options/request.ts"
import { type Enclosing, HeldLease } from "./heldLease.ts"
import { LeaseGroup } from "./leaseGroup.ts"
import { LeaseView } from "./leaseView.ts"

/**
 * Leases by store, by the scope that holds them, and by the name of the lock. Weak, so that this map keeps neither a
 * store nor a scope alive.
 */
const byStore = new WeakMap<object, WeakMap<Scope.Scope, Map<string, HeldLease>>>()

/**
 * The innermost lease, or view of a lease, that encloses the caller and lives. A view counts as long as its lease lives,
 * also when it has ended itself: the caller still holds the lock. A lease that a test made by hand does not count.
 *
 * It also removes what has ended from the chain of parents. Otherwise the chain would grow for ever if each section forks
 * a fiber that outlives it and opens the next section.
 */
export const innermost = (context: Context.Context<never>): Enclosing | undefined => {
  const exclusive = live(ours(Context.getOrUndefined(context, Lease)))
  const shared = live(ours(Context.getOrUndefined(context, SharedLease)))
  const group = live(lastOf(Context.getOrUndefined(context, Leases)))
  // The deepest one has the others among its parents.
  let innermost = exclusive
  for (const lease of [shared, group]) if ((lease?.depth ?? -1) > (innermost?.depth ?? -1)) innermost = lease
  for (let lease = innermost; lease !== undefined; lease = lease.parent) lease.parent = around(lease)
  return innermost
}

const ours = (lease: Lease | SharedLease | undefined): Enclosing | undefined =>
  lease instanceof HeldLease || lease instanceof LeaseView ? lease : undefined

/** The last lease of a group. The others are among its parents. */
const lastOf = (leases: Leases | undefined): Enclosing | undefined =>
  leases instanceof LeaseGroup ? leases.own.at(-1) ?? leases.members[0] : undefined

/** Whether the caller is in a program that has re-entered this lease. */
export const isInView = (context: Context.Context<never>, lease: HeldLease): boolean => {
  const group = Context.getOrUndefined(context, Leases)
  const innermost = [
    ours(Context.getOrUndefined(context, Lease)),
    ours(Context.getOrUndefined(context, SharedLease)),
    ...(group instanceof LeaseGroup ? group.members : [])
  ]
  return innermost.some((one) => {
    for (let next: Enclosing | undefined = one; next !== undefined; next = next.parent) {
      if (next instanceof LeaseView && next.held === lease) return true
    }
    return false
  })
}

/** The next one outwards that says more than this one. A view that has ended says no more than a later one of its lease. */
const around = ({ held, parent }: Enclosing): Enclosing | undefined => {
  let next = live(parent)
  while (next !== undefined && next.held === held && next.state !== "held") next = live(next.parent)
  return next
}

/** Whether a second claim would still wait for the claim of this lease. */
const isLive = (lease: HeldLease): boolean => lease.state === "held" || lease.isKept

const live = (lease: Enclosing | undefined): Enclosing | undefined => {
  while (lease !== undefined && !isLive(lease.held)) lease = lease.parent
  return lease
}

/**
 * The live lease on `name` that the caller already holds: in an enclosing section (starting from `innermost`), in the
 * scope around such a section, or in its own scope. A second claim would make the caller wait for itself.
 */
export const alreadyHeld = (
  innermost: Enclosing | undefined,
  context: Context.Context<never>,
  store: object,
  name: string
): HeldLease | undefined => {
  const holds = (lease: HeldLease): boolean => isLive(lease) && lease.claim.key === name && lease.host.store === store
  const inScope = (scope: Scope.Scope | undefined): HeldLease | undefined => {
    const own = scope && byStore.get(store)?.get(scope)?.get(name)
    return own !== undefined && holds(own) ? own : undefined
  }
  for (let lease = innermost; lease !== undefined; lease = lease.parent) {
    const own = holds(lease.held) ? lease.held : inScope(lease.callersScope)
    if (own !== undefined) return own
  }
  // A lease that a scope holds is not among the parents of a section that reads under it.
  const group = Context.getOrUndefined(context, Leases)
  const own = group instanceof LeaseGroup ? group.leases.find(holds) : undefined
  return own ?? inScope(Context.getOrUndefined(context, Scope.Scope))
}

/**
 * Whether a request for more of a lock may enter the lease that its caller holds. A reader always may: behind a waiting
 * writer it would otherwise wait for itself. A writer may not enter a read lock, and permits are never entered.
 */
export const mayReenter = ({ claim }: HeldLease, shape: Shape, isReentrant: boolean): boolean => {
  if (claim.kind !== shape.kind || shape.kind === "semaphore") return false
  return isExclusive(shape) ? isReentrant && isExclusive(claim) : true
}

/**
 * Some of the live leases of this store that the caller holds, at most `most`: of the enclosing sections (starting from
 * `innermost`), of the scopes around them, and of its own scope. Absent if there are none.
 */
export const someHeld = (
  innermost: Enclosing | undefined,
  context: Context.Context<never>,
  store: object,
  most: number
): ReadonlyArray<HeldLease> | undefined => {
  const byScope = byStore.get(store)
  if (innermost === undefined && byScope === undefined) return undefined
  const some = new Set<HeldLease>()
  // A scope may hold very many.
  const add = (leases: Iterable<HeldLease> = []): void => {
    for (const lease of leases) {
      if (some.size >= most) return
      if (lease.state === "held" && lease.host.store === store) some.add(lease)
    }
  }
  const inScope = (scope: Scope.Scope | undefined) => scope && byScope?.get(scope)?.values()
  for (let lease = innermost; lease !== undefined && some.size < most; lease = lease.parent) {
    add([lease.held])
    add(inScope(lease.callersScope))
  }
  const group = Context.getOrUndefined(context, Leases)
  if (group instanceof LeaseGroup) add(group.leases)
  add(inScope(Context.getOrUndefined(context, Scope.Scope)))
  return some.size === 0 ? undefined : Array.from(some)
}

/**
 * The ids of the claims that the caller's sections hold through other stores, which may be clients of the same backend.
 * `alreadyHeld` handles the claims of the caller's own store.
 */
export const elsewhere = (innermost: Enclosing | undefined, store: object): ReadonlyArray<string> | undefined => {
  let ids: Set<string> | undefined
  for (let lease = innermost; lease !== undefined; lease = lease.parent) {
    // Views of one lease have one claim.
    if (lease.held.host.store !== store) (ids ??= new Set()).add(lease.held.claim.id)
  }
  return ids && Array.from(ids)
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
