import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { problem, variable } from "../../StoreOptions.ts"

/** A layer, or a function that loads one. */
export type Driver<L> = L | (() => Promise<L>)

/** The layer of a driver. `never` for a type that is neither a layer nor a function that loads one. */
export type LayerOf<D> = Extract<D extends () => Promise<infer L> ? L : D, Layer.Any>

/** The first line of an error's message. The other lines of a module loader's message list the importing files. */
const firstLineOf = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).split("\n", 1).join("").trim()

/**
 * The layer that `DLOCK_DRIVER` names. There is no default: a silent default could give each instance of a fleet its
 * own lock.
 */
export const choose = <L extends Layer.Any>(
  drivers: Readonly<Record<string, Driver<L>>>
): Effect.Effect<L, Config.ConfigError> =>
  Effect.gen(function*() {
    const names = Object.keys(drivers).toSorted().join(", ")
    const name = yield* variable("DLOCK_DRIVER", (text) => Result.succeed(text as string))
    if (name === undefined) return yield* Effect.fail(problem(`DLOCK_DRIVER is not set: set it to one of ${names}`))
    const driver = Object.hasOwn(drivers, name) ? drivers[name] : undefined
    if (driver === undefined) {
      return yield* Effect.fail(problem(`DLOCK_DRIVER is ${JSON.stringify(name)}: set it to one of ${names}`))
    }
    if (typeof driver !== "function" || Layer.isLayer(driver)) return driver as L
    return yield* Effect.tryPromise({
      try: driver as () => Promise<L>,
      catch: (cause) =>
        // The cause is left out: its stack would be printed, and a stack of module loading says no more.
        problem(`The driver "${name}" could not be loaded: are its packages installed? (${firstLineOf(cause)})`)
    })
  })
