import type { Network as Shared } from "../network.ts"
import type { RedisServer } from "./server.ts"
import type * as Wire from "./wire.ts"

/** What all connections of a world share. */
export type Network = Shared<RedisServer>

/** What a client's promise is to its caller, without a turn of the event loop. */
export class Answer {
  private listeners: readonly [(value: unknown) => void, (error: unknown) => void] | undefined

  // oxlint-disable-next-line unicorn/no-thenable -- it stands for the promise of a client
  then(onReply: (value: unknown) => void, onError: (error: unknown) => void): void {
    this.listeners = [onReply, onError]
  }

  settle(reply: Wire.Raw): void {
    this.listeners?.[reply instanceof Error ? 1 : 0](reply)
  }
}

/** After these errors a script has not run. */
export const refusals = [
  "LOADING Redis is loading the dataset in memory",
  "READONLY You can't write against a read only replica.",
  "OOM command not allowed when used memory > 'maxmemory'.",
  "NOREPLICAS Not enough good replicas to write.",
  "BUSY Redis is busy running a script.",
  "MISCONF Redis is configured to save RDB snapshots"
]
