import { Effect } from "effect"
import type { Port } from "../../src/internal/port.ts"
import type { StoreOptions } from "../../src/internal/store.ts"

/** A port over nothing, for a test to answer as it likes. */
export const silentPort: Port = {
  inbox: "inbox",
  onMessage: () => {},
  onReconnect: () => {},
  onLeft: () => {},
  probe: Effect.void,
  slotted: false,
  servers: () => [],
  replicated: () => Effect.die("nobody waits for replicas"),
  run: () => Effect.never
}

export const plainSettings: StoreOptions = {
  keyPrefix: "",
  retryInterval: 100,
  callLimit: 2_000,
  interop: false,
  waitReplicas: 0
}
