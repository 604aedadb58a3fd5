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
export const enclosing = (context: Context.Context<never>): HeldLease | undefined => {
  const lease = Context.getOrUndefined(context, Lease)
  const innermost = live(lease instanceof HeldLease ? lease : undefined)
  for (let holding = innermost; holding !== undefined; holding = holding.outer) holding.outer = live(holding.outer)
  return innermost
}

const live = (holding: HeldLease | undefined): HeldLease | undefined => {
  while (holding !== undefined && holding.state !== "held") holding = holding.outer
  return holding
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
  const holds = (holding: HeldLease): boolean =>
    holding.state === "held" && holding.claim.key === name && holding.host.store === store
  for (let holding = innermost; holding !== undefined; holding = holding.outer) {
    if (holds(holding)) return holding
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
  for (let holding = innermost; holding !== undefined; holding = holding.outer) {
    if (holding.host.store !== store) (ids ??= []).push(holding.claim.id)
  }
  return ids
}

/** Remembers which scope holds a lease. */
export const settle = (holding: HeldLease, scope: Scope.Scope): void => {
  const { store } = holding.host
  let byScope = byStore.get(store)
  if (byScope === undefined) {
    byScope = new WeakMap()
    byStore.set(store, byScope)
  }
  let neighbours = byScope.get(scope)
  if (neighbours === undefined) {
    neighbours = new Map()
    byScope.set(scope, neighbours)
  }
  neighbours.set(holding.claim.key, holding)
  holding.neighbours = neighbours
}

/** Forgets a lease that is over. */
export const leave = (holding: HeldLease): void => {
  if (holding.neighbours?.get(holding.claim.key) === holding) holding.neighbours.delete(holding.claim.key)
}
