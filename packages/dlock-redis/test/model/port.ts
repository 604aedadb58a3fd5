import { type Clock, Duration, Effect } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import type { Port, Reply, Tally } from "../../src/internal/client/port.ts"
import type { StoreOptions } from "../../src/internal/store/store.ts"

export const plainTelemetry = Effect.runSync(StoreTelemetry.make("Redis"))

/** A port without a server, whose calls a test answers as it likes. */
export const silentPort: Port = {
  telemetry: plainTelemetry,
  inbox: "inbox",
  onMessage: () => {},
  onReconnect: () => {},
  onServerLeft: () => {},
  probe: Effect.void,
  heardAt: () => undefined,
  servers: () => [],
  replicated: () => Effect.die("nobody waits for replicas"),
  run: () => Effect.never
}

/** A reply that also reports to the tally what happened to the request, as a real port does. */
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

/** The claim of a mutex. */
export const plainClaim: Claim = {
  id: "a".repeat(22),
  key: "k",
  prefix: "",
  kind: "mutex",
  permits: 1,
  capacity: 1,
  ttl: Duration.seconds(30),
  guardGap: Duration.seconds(3),
  holder: "me"
}
