/**
 * What a store logs, with the loggers of the program that made it. A store of your own may use it as ours do: its lines
 * carry `component=dlock`, and an outage that it notes is logged once, together with what the locker notices.
 *
 * **Example** (A store that knows when it has lost its server)
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
 *   // Goes into the store, as its member `telemetry`.
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
 * Makes the telemetry of a store, in the context of the program that builds it. `server` is the server's name in log
 * lines, such as `Redis`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (server: string) => Effect.Effect<StoreRoom.StoreTelemetry> = StoreRoom.make

/**
 * The same as `callBack` of a store's telemetry, for code that has the context of the fiber it resumes and no store.
 *
 * @category callbacks
 * @since 0.1.0
 */
export const callBackIn: (context: Context.Context<never>, callback: () => void, key?: string) => void =
  StoreRoom.callBackIn
