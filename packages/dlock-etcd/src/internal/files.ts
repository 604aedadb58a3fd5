import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs/promises"
import type { Tls } from "./options.ts"

/** The text of the file that a variable names; `undefined` where it is not set. */
const read = (variable: string): Effect.Effect<string | undefined, Config.ConfigError> =>
  Effect.flatMap(StoreOptions.variable(variable), (path) =>
    path === undefined
      ? Effect.undefined
      : Effect.tryPromise({
        try: () => Fs.readFile(path, "utf8"),
        catch: (cause) => StoreOptions.problem(`${variable} names a file that cannot be read`, cause)
      }))

/** The certificates that the configuration names by their paths; none where it names none. */
export const tls: Effect.Effect<Tls | undefined, Config.ConfigError> = Effect.gen(function*() {
  const ca = yield* read("DLOCK_ETCD_CA")
  const cert = yield* read("DLOCK_ETCD_CERT")
  const key = yield* read("DLOCK_ETCD_KEY")
  if (ca !== undefined) return { ca, cert, key: key === undefined ? undefined : Redacted.make(key) }
  if (cert === undefined && key === undefined) return undefined
  return yield* Effect.fail(StoreOptions.problem("DLOCK_ETCD_CERT and DLOCK_ETCD_KEY need DLOCK_ETCD_CA"))
})
