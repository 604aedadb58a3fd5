import { shown } from "../shown.ts"
import * as WaitFor from "../waitFor.ts"
import type { Edge, Step, Waits } from "./page/protocol.ts"
import { name, type Sighting } from "./sighting.ts"

export const nothingWaits: Waits = { cycles: [], cycleCount: 0, edges: [], edgeCount: 0, blockers: [] }

/** Who waits for whom among these locks, cut to what can be drawn: the circles first, then those behind which most wait. */
export const graphOf = (sightings: Iterable<Sighting>, idOf: (key: string) => number): Waits => {
  const found = WaitFor.waitsFor(Array.from(sightings, ({ info }) => info))
  const edges = new Map<string, Edge>()
  for (const { holder, isDeadlocked, key, waiter } of found.edges) {
    const edge = {
      waiter: name(waiter.holder),
      holder: name(holder.holder),
      id: idOf(key),
      key: shown(key),
      isDeadlocked
    }
    edges.set(JSON.stringify([edge.waiter, edge.holder, edge.id]), edge)
  }
  const behind = countBehind(edges.values())
  const weight = ({ holder, isDeadlocked }: Edge) => (isDeadlocked ? 1e9 : 0) + (behind.get(holder) ?? 0)
  return {
    cycles: found.cycles.slice(0, mostCycles).map((circle) => {
      const youngest = WaitFor.youngest(circle)
      return circle.map((step): Step => ({
        holder: name(step.holder.holder),
        id: idOf(step.key),
        key: shown(step.key),
        token: String(step.holder.token),
        isYoungest: step === youngest
      }))
    }),
    cycleCount: found.cycles.length,
    edges: Array.from(edges.values()).toSorted((one, other) => weight(other) - weight(one)).slice(0, mostEdges),
    edgeCount: edges.size,
    blockers: Array.from(behind, ([holder, count]) => ({ holder, behind: count }))
      .toSorted((one, other) => other.behind - one.behind || (one.holder < other.holder ? -1 : 1))
      .slice(0, mostBlockers)
  }
}

/** How many wait behind each holder, directly or behind somebody who waits for it. */
const countBehind = (edges: Iterable<Edge>): ReadonlyMap<string, number> => {
  const waitersOf = new Map<string, Set<string>>()
  for (const { holder, waiter } of edges) {
    const waiters = waitersOf.get(holder)
    if (waiters === undefined) waitersOf.set(holder, new Set([waiter]))
    else waiters.add(waiter)
  }
  const most = Array.from(waitersOf).toSorted(([, one], [, other]) => other.size - one.size).slice(0, mostCounted)
  return new Map(most.map(([holder]) => {
    const seen = new Set<string>()
    const toVisit = [holder]
    for (let next = toVisit.pop(); next !== undefined && seen.size < mostSeen; next = toVisit.pop()) {
      for (const waiter of waitersOf.get(next) ?? []) {
        if (seen.has(waiter)) continue
        seen.add(waiter)
        toVisit.push(waiter)
      }
    }
    return [holder, seen.size]
  }))
}

const mostCycles = 8
const mostEdges = 40
const mostBlockers = 8
/** Bounds of the work where very many wait. */
const mostCounted = 200
const mostSeen = 10_000
