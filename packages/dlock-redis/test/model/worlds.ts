/** The claims of the worlds that are searched, and what a search found in words. */
import { readWriteCapacity } from "effect-dlock/LockStore"
import type { Result } from "./explore.ts"
import * as World from "./world.ts"

export const two = [{ process: 0 }, { process: 1 }]
export const three = [{ process: 0 }, { process: 1 }, { process: 2 }]

export const small = { process: 0, permits: 1 }
export const large = { process: 1, permits: 2 }

/** While a fleet changes the capacity, two claims know two of them. */
export const rolling = [{ process: 0, capacity: 2 }, { process: 1, capacity: 1 }]

export const readWrite = { kind: "readWrite", capacity: readWriteCapacity } as const
export const reader = { process: 0, permits: 1 }
export const writer = { process: 1, permits: readWriteCapacity }

/**
 * One claim has been passed over because its process does not listen, the claim behind it holds the lock, and one more
 * claim has not asked yet.
 */
export const passedOver: Omit<World.Config, "name"> = {
  claims: [...three, { process: 0 }],
  sends: 1,
  interrupts: false,
  cut: true,
  after: `a0 asks; run acquire a0; a0 hears acquire; b0 asks; run acquire b0; b0 hears acquire; c0 asks; run acquire c0;
    c0 hears acquire; process 1 cut off; a0 releases; run release a0; a0 hears release; c0 hears notification`
}

export const told = (config: World.Config, { depth, found, sampled, seconds, states, whole }: Result): string =>
  [
    `model: ${config.name} (${World.limits(config)}): ${states} states`,
    whole ? "whole" : `cut after ${depth} moves`,
    ...found === undefined ? [`progress from ${sampled}`] : [`${found.what} in ${found.trace.length} moves`],
    `${seconds.toFixed(1)} s`
  ].join(", ")
