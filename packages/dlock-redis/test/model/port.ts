import { type Clock, Duration, Effect } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import type { Port, Reply, Tally } from "../../src/internal/client/port.ts"
import type { StoreOptions } from "../../src/internal/store/store.ts"

export const plainTelemetry = Effect.runSync(StoreTelemetry.make("Redis"))

/** A port over nothing, for a test to answer as it likes. */
export const silentPort: Port = {
  telemetry: plainTelemetry,
  inbox: "inbox",
  onMessage: () => {},
  onReconnect: () => {},
  onServerLeft: () => {},
  probe: Effect.void,
  heardAt: () => undefined,
  slotted: false,
  servers: () => [],
  replicated: () => Effect.die("nobody waits for replicas"),
  run: () => Effect.never
}

/** A reply, with what becomes of the request told as a port tells it. */
export const replied = <A>(clock: Clock.Clock, tally: Tally | undefined, value: A): Reply<A> => {
  const sentAt = clock.monotonicTimeNanosUnsafe()
  tally?.noteSent(sentAt)
  tally?.noteAnswered(true)
  tally?.noteEnded()
  return { sentAt, value }
}

export const plainSettings: StoreOptions = {
  keyPrefix: "",
  retryInterval: 100,
  operationTimeout: 2_000,
  interop: false,
  waitReplicas: 0
}

/** A mutex's claim. */
export const plainClaim: Claim = {
  id: "a".repeat(22),
  key: "k",
  prefix: "",
  permits: 1,
  capacity: 1,
  ttl: Duration.seconds(30),
  guardGap: Duration.seconds(3),
  holder: "me"
}
