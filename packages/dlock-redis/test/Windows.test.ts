import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import * as Ioredis from "ioredis"
import { closed, notSent } from "../src/internal/client/failure.ts"
import { Window } from "../src/internal/client/window/window.ts"
import { Windows } from "../src/internal/client/window/windows.ts"
import * as Scripts from "../src/internal/protocol/index.ts"
import { keysOf } from "../src/internal/protocol/keys.ts"
import { plainTelemetry } from "./model/port.ts"

/** The windows of a cluster whose slots are all on one node, which never answers. */
const setting = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const sent: Array<string> = []
  const cluster = { slots: Array.from({ length: 16_384 }, () => ["127.0.0.1:7000"]) }
  const windows = new Windows(cluster as unknown as Ioredis.Cluster, Ioredis, () =>
    new Window({
      isReady: () => true,
      whyNotReady: () => notSent,
      send: (_command, _program, call) => {
        sent.push(call.keys[0]!)
        return new Promise(() => {})
      }
    }, { telemetry: plainTelemetry, clock, longest: 60_000 }))
  const release = windows.run(Scripts.release, {
    keys: keysOf("k")!,
    id: "",
    capacity: 1,
    tombstone: false,
    interop: false
  })
  return { release, sent, windows }
})

describe("the windows of a cluster", () => {
  it.live("once closed fail what comes for a node that nobody has asked before, and send nothing", () =>
    Effect.gen(function*() {
      const { release, sent, windows } = yield* setting
      windows.close()
      assert.deepStrictEqual(yield* Effect.flip(release).pipe(Effect.timeout("2 seconds")), closed)
      assert.deepStrictEqual(sent, [])
    }))
})
