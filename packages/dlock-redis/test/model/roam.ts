/** Long random walks through a world that is too large to search, with every kind of move. */
import { random } from "dlock-testing/random"
import { progress } from "./progress.ts"
import * as World from "./world.ts"

export interface Roamed {
  readonly moves: number
  readonly found: string | undefined
}

export const roam = (config: World.Config, seed: number, ways: number, length: number): Roamed => {
  const world = World.world(config)
  let moves = 0
  for (let way = 0; way < ways; way++) {
    const { pick } = random(seed + way)
    const trace: Array<string> = []
    let state = World.initial(world)
    const stop = (what: string): Roamed => ({ moves, found: `${what} (seed ${seed + way})\n${trace.join("\n")}` })
    for (let step = 0; step < length; step++) {
      const move = pick(World.moves(world, state))
      state = World.settle(move.state)
      trace.push(move.name)
      moves++
      const what = move.broken ?? World.broken(world, state)
      if (what !== undefined) return stop(what)
    }
    const stuck = progress(world, state)
    if (stuck !== undefined) return stop(stuck)
  }
  return { moves, found: undefined }
}
