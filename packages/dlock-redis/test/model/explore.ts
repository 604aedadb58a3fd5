/** Breadth-first search of a world. It visits every state within the limits once. */
import { progress } from "./progress.ts"
import * as World from "./world.ts"

export interface Found {
  readonly what: string
  readonly trace: ReadonlyArray<string>
}

export interface Result {
  readonly states: number
  /** The number of moves from the start to the last complete layer. */
  readonly depth: number
  /** Whether every state within the limits of the world was visited. */
  readonly whole: boolean
  /** The number of states from which progress was checked. */
  readonly sampled: number
  readonly found: Found | undefined
  readonly seconds: number
}

export interface Limits {
  readonly states: number
  /** Progress is checked from one in this many states. 0 checks none. */
  readonly sample: number
}

interface Node {
  readonly state: World.State
  readonly name: string
  readonly parent: Node | undefined
}

const traceOf = (node: Node | undefined): ReadonlyArray<string> =>
  node === undefined || node.parent === undefined ? [] : [...traceOf(node.parent), node.name]

export const explore = (config: World.Config, limits: Limits): Result => {
  const world = World.world(config)
  const started = performance.now()
  const start = World.play(world, config.after ?? "")
  const seen = new Set<string>([World.key(world, start)])
  // A trace is kept only if one is expected, because the nodes of a large world would not fit into memory.
  const keepsTrace = config.flaws !== undefined
  let layer: Array<Node> = [{ state: start, name: "", parent: undefined }]
  let depth = 0
  let sampled = 0
  const result = (whole: boolean, found?: Found): Result => ({
    states: seen.size,
    depth,
    whole,
    sampled,
    found,
    seconds: (performance.now() - started) / 1_000
  })
  while (layer.length > 0) {
    const next: Array<Node> = []
    for (const node of layer) {
      for (const move of World.moves(world, node.state)) {
        const state = World.settle(move.state)
        const what = move.broken ?? World.broken(world, state)
        const child = { state, name: move.name, parent: keepsTrace ? node : undefined }
        if (what !== undefined) {
          const trace = keepsTrace ? traceOf(child) : [`${depth} moves, then`, move.name, JSON.stringify(state)]
          return result(false, { what, trace })
        }
        const key = World.key(world, state)
        if (seen.has(key)) continue
        seen.add(key)
        if (limits.sample > 0 && seen.size % limits.sample === 0) {
          sampled++
          const stuck = progress(world, state)
          if (stuck !== undefined) {
            return result(false, { what: stuck, trace: [...traceOf(child), JSON.stringify(state)] })
          }
        }
        next.push(child)
      }
      if (seen.size >= limits.states) return result(false)
    }
    layer = next
    depth++
  }
  return result(true)
}
