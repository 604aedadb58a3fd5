/** What a run can have more of than the faults of its servers and connections. */
export const dimensions = {
  replicas: "grants that a replica must have, replicas that freeze, and requests that arrive when their client has gone"
} as const

export type Dimension = keyof typeof dimensions

/** Those of a run that does not name any. */
export const usual: ReadonlyArray<Dimension> = []

/** What a part of the run asks: whether it has this dimension. */
export type With = ReadonlySet<Dimension>
