import type { BackendName } from "./plan.ts"
import { Random } from "./random.ts"

/** What may be in a world besides what is in all of them: something that happens there, or a rule that holds there. */
export type Dimension = /** The store waits for replicas to confirm its grants; they do, or late, or not. */
  | "replicas"
  /** Many wait for one lock, and a process dies with a whole queue: it may not stand idle for that. */
  | "crowds"
  /** Many wait for one lock, and what tells them of their grants is lost or late, or meets what they ask. */
  | "pushes"
  /** Processes stand still while replies lie in their sockets, on a server and a network that are whole. */
  | "sockets"
  /** Lockers close under sections that take their time to end. */
  | "closing"

/** Those that every run has: what the library lives up to. */
export const usual: ReadonlySet<Dimension> = new Set<Dimension>([])

interface Kind {
  readonly backends: ReadonlyArray<BackendName>
  /** In how many of the worlds it is. One that changes what a world is about is there alone. */
  readonly share: number | "alone"
}

const kinds: Readonly<Record<Dimension, Kind>> = {
  replicas: { backends: ["redis"], share: 0.3 },
  crowds: { backends: ["redis"], share: "alone" },
  pushes: { backends: ["redis"], share: "alone" },
  sockets: { backends: ["redis"], share: "alone" },
  closing: { backends: ["redis", "etcd"], share: "alone" }
}

export const dimensions = Object.keys(kinds) as ReadonlyArray<Dimension>

/** Which of them a world has. None of it depends on which others there might have been, but for those that are alone. */
export const drawn = (seed: number, backend: BackendName, among: ReadonlySet<Dimension>): ReadonlySet<Dimension> => {
  const possible = dimensions.filter((one) => among.has(one) && kinds[one].backends.includes(backend))
  const alone = possible.filter((one) => kinds[one].share === "alone")
  const random = Random.of(seed, 20)
  const chosen = random.chance(0.3) && alone.length > 0 ? random.pick(alone) : undefined
  return new Set(possible.filter((one) => {
    const { share } = kinds[one]
    return share === "alone" ? one === chosen : Random.of(seed, 21, dimensions.indexOf(one)).chance(share)
  }))
}
