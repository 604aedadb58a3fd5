import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Listing from "../../src/internal/admin/listing.ts"
import type { Ask, Port } from "../../src/internal/client/port.ts"
import type { InspectReply } from "../../src/internal/protocol/index.ts"
import type { LockKeys } from "../../src/internal/protocol/keys.ts"
import { silentPort } from "../model/port.ts"

/** A node of a cluster: its keys, its slots as it tells them, and the run of its process. */
interface Node {
  run: string
  slots: string
  keys: Array<string>
}

const held: InspectReply = {
  kind: "mutex",
  capacity: 1,
  holders: [],
  holderCount: 1,
  permitsHeld: 1,
  waiting: [],
  queueLength: 0,
  lastToken: 1n
}

/** A cluster without a server. `onScan` runs before each node answers a `SCAN`. */
const portOf = (nodes: ReadonlyArray<Node>, onScan: (scan: number) => void = () => {}): Port => {
  let scans = 0
  const askOf = (node: Node): Ask => (command) =>
    Effect.sync(() => {
      if (command === "INFO") return `# Server\r\nrun_id:${node.run}\r\n`
      if (command === "CLUSTER") {
        return `other 127.0.0.1:1 master - 0 0 1 connected\nid 127.0.0.1:2 myself,master - 0 0 2 connected ${node.slots}\n`
      }
      onScan(scans++)
      return ["0", node.keys]
    })
  return {
    ...silentPort,
    slotOf: () => 0,
    servers: () => nodes.map((node, index) => ({ name: `node ${index}`, ask: askOf(node) })),
    run: (_, args) => Effect.succeed({ sentAt: 0n, value: (args as { readonly keys: LockKeys }).keys && held }) as never
  }
}

/** The keys of a list, or the error with which it fails. */
const listed = (port: Port) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(
      Effect.match(Stream.runCollect(Listing.list(port, "", "dlock:")), {
        onSuccess: (states) => states.map(({ key }) => key),
        onFailure: (error) => error.message
      })
    )
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.join(fiber)
  })

const nodes = (): [Node, Node] => [
  { run: "a", slots: "0-8000", keys: ["dlock:1", "{dlock:1}:\0f", "dlock:2"] },
  { run: "b", slots: "8001-16383", keys: ["dlock:3"] }
]

describe("a list over servers that change", () => {
  it.effect("makes one pass through servers that stay the same", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* listed(portOf(nodes())), ["dlock:1", "dlock:2", "dlock:3"])
    }))

  it.effect("finds a lock that moved from a node not read yet to one that was", () =>
    Effect.gen(function*() {
      const [one, two] = nodes()
      const port = portOf([one, two], (scan) => {
        if (scan !== 1) return
        two.keys = []
        two.slots = "9000-16383"
        one.slots = "0-8999"
        one.keys = [...one.keys, "dlock:3"]
      })
      assert.deepStrictEqual(yield* listed(port), ["dlock:1", "dlock:2", "dlock:1", "dlock:2", "dlock:3"])
    }))

  it.effect("makes another pass after a server was replaced, whose cursors mean nothing to the next", () =>
    Effect.gen(function*() {
      const [one, two] = nodes()
      const port = portOf([one, two], (scan) => {
        if (scan === 0) one.run = "c"
      })
      assert.strictEqual((yield* listed(port)).length, 6)
    }))

  it.effect("fails while slots are on their way, or are on a node that is not known", () =>
    Effect.gen(function*() {
      for (const slots of ["8001-16383 [77->-id]", "8001-16383 [9000-<-id]", "8001-16000"]) {
        const [one, two] = nodes()
        two.slots = slots
        assert.match(String(yield* listed(portOf([one, two]))), /locks may be missing/, slots)
      }
    }))

  it.effect("goes on once they have arrived", () =>
    Effect.gen(function*() {
      const [one, two] = nodes()
      two.slots = "8001-16383 [77->-id]"
      const port = portOf([one, two], (scan) => {
        if (scan === 2) two.slots = "8001-16383"
      })
      assert.includeMembers(Array.from(yield* listed(port)), ["dlock:1", "dlock:2", "dlock:3"])
    }))
})
