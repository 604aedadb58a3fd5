/**
 * Logs for a store, written with the loggers of the program that made it.
 *
 * **When to use**
 *
 * Use in a store of your own, so that it logs like the stores of this project.
 *
 * **Details**
 *
 * Every line carries `component=dlock`. An outage is logged once, whether the store or the locker notices it.
 *
 * **Example** (Report a lost connection)
 *
 * ```ts
 * import { Effect } from "effect"
 * import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
 *
 * declare const socket: { readonly on: (event: "close" | "ready", listener: () => void) => void }
 *
 * export const make = Effect.gen(function*() {
 *   const telemetry = yield* StoreTelemetry.make("My server")
 *   socket.on("close", () => telemetry.connectionLost(socket))
 *   socket.on("ready", () => telemetry.connectionBack(socket))
 *   // Return it as the store's member `telemetry`.
 *   return telemetry
 * })
 * ```
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as StoreRoom from "./internal/telemetry/storeRoom.ts"

export type {
  /**
   * The log lines of one store.
   *
   * @category models
   * @since 0.1.0
   */
  StoreTelemetry
} from "./internal/telemetry/storeRoom.ts"

/**
 * Makes the telemetry of a store. It logs in the context of the program that builds the store. `server` is the server's
 * name in the log lines, such as `Redis`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (server: string) => Effect.Effect<StoreRoom.StoreTelemetry> = StoreRoom.make

/**
 * Runs a callback like `StoreTelemetry.callBack`, but logs in the given context.
 *
 * **When to use**
 *
 * Use in code that has no store, but has the context of the fiber that it resumes.
 *
 * @category callbacks
 * @since 0.1.0
 */
export const callBackIn: (context: Context.Context<never>, callback: () => void, key?: string) => void =
  StoreRoom.callBackIn
