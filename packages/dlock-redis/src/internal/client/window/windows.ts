/** One window for each node of a cluster. */

import * as Effect from "effect/Effect"
import type { Cluster } from "ioredis"
import type * as Library from "ioredis"
import type { Port } from "../port.ts"
import type { Window } from "./window.ts"

/**
 * The windows of a cluster, one per node, so that calls to a node that does not answer do not delay calls to other
 * nodes. The client chooses the node of a call later. If the slot has moved meanwhile, the call only waits in the wrong
 * window.
 */
export class Windows {
  private readonly byNode = new Map<string, Window>()
  private readonly make: () => Window
  private readonly nodeOf: (key: string) => string
  private isClosed = false

  constructor(cluster: Cluster, library: Pick<typeof Library, "Command">, make: () => Window) {
    this.make = make
    this.nodeOf = (key) => cluster.slots[slotOf(library, key)]?.[0] ?? ""
  }

  readonly run: Port["run"] = (script, args, tally, limit) =>
    Effect.suspend(() => {
      const node = this.nodeOf(script.lockOf(args).lock)
      let window = this.byNode.get(node)
      if (window === undefined) {
        this.byNode.set(node, window = this.make())
        if (this.isClosed) window.close()
      }
      return window.run(script, args, tally, limit)
    })

  readonly heardAt: Port["heardAt"] = (key) => this.byNode.get(this.nodeOf(key))?.heardAt

  open(): void {
    for (const window of this.byNode.values()) window.open()
  }

  lose(): void {
    for (const window of this.byNode.values()) window.lose()
  }

  /** Closes all windows, and those that calls to new nodes create later. */
  close(): void {
    this.isClosed = true
    for (const window of this.byNode.values()) window.close()
  }
}

/** The hash slot of a key. */
export const slotOf = (library: Pick<typeof Library, "Command">, key: string): number =>
  new library.Command("get", [key]).getSlot()
