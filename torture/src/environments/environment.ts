import type { Group } from "dlock-testing"
import type { Dimension } from "../dimensions.ts"
import type { Random } from "../random.ts"
import type { Address } from "../subjects/subject.ts"

/** A fault of a server, from its beginning to its end. */
export interface ServerFault {
  readonly weight: number
  /** Whether the backend may lose what it had acknowledged. */
  readonly forgets: boolean
  /** Milliseconds for which its effects last after its end. */
  readonly tail?: number
  /** Whether it hits the worker of this number: all, unless given. */
  readonly hits?: (index: number) => boolean
  /** See `Fault`. */
  readonly harmless?: boolean
  readonly limbo?: number
  readonly inject: (key: string, random: Random) => Promise<void>
}

/** A fault without duration, at the server of one key. Before it acts it reports which locks it may free. */
export interface KeyFault {
  readonly weight: number
  /** Only in a run that has this dimension. */
  readonly with?: Dimension
  /** See `Fault`. */
  readonly harmless?: boolean
  readonly inject: (key: string, about: (forgets: "all" | ReadonlyArray<string>) => void) => Promise<void>
}

/** The servers of one campaign, and their faults. */
export interface Environment {
  readonly ttl: number
  /** Ports of the servers; each worker has a proxy of its own before each. */
  readonly ports: ReadonlyArray<number>
  /** The address for the worker of this number whose proxies have these ports, in the order of `ports`. */
  readonly through: (ports: ReadonlyArray<number>, index: number) => Address
  /** Milliseconds that the worker of this number asks for, where it needs more than the others. */
  readonly ttlOf?: (index: number) => number | undefined
  readonly serverFaults: Readonly<Record<string, ServerFault>>
  /** A repair at the end that is itself a fault. */
  readonly last?: { readonly kind: string; readonly fault: ServerFault }
  readonly keyFaults: Readonly<Record<string, KeyFault>>
  /** Stops all replicas, unless they are stopped; returns the function that lets them go on. */
  readonly freezeReplicas?: () => (() => void) | undefined
  /** Whether these bytes hold a request that gives a claim back. */
  readonly givesBack?: (request: Buffer) => boolean
  /** Milliseconds for which the servers were ready to run without a processor, so far. */
  readonly waited?: () => number
  /** Scripts that took more than 5 ms of a processor, since it was last asked. */
  readonly slowScripts?: () => Promise<ReadonlyArray<{ readonly what: string; readonly took: number }>>
  /** Resolves when all servers are up and in sync. */
  readonly whole: () => Promise<void>
  /** Whether each server has its role, if they may fail over by themselves. */
  readonly inStep?: () => Promise<boolean>
  /** Keys of locks where none belongs. */
  readonly elsewhere?: () => Promise<ReadonlyArray<string>>
  /** Tombstones of withdrawn claims at the server, and their ages in milliseconds. */
  readonly tombstones?: () => Promise<
    ReadonlyArray<{ readonly name: string; readonly key: string; readonly age: number }>
  >
  /** What is left of locks. */
  readonly orphans: () => Promise<ReadonlyArray<string>>
  readonly skipped: ReadonlyArray<string>
  readonly stop: Group["stop"]
}

/** Milliseconds of a fault that a holder may or may not survive. */
export const aLittle = (ttl: number, random: Random): number =>
  ttl * (random.chance(0.7) ? random.between(0.05, 0.6) : random.between(0.8, 2.2))

/** Waits until the check is true, or the limit is over: later checks find what is still wrong. */
export const eventually = async (check: () => Promise<boolean>, limit: number): Promise<boolean> => {
  const end = performance.now() + limit
  while (performance.now() < end) {
    if (await check().catch(() => false)) return true
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
  return false
}
