import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Fs from "node:fs/promises"
import type { Tls } from "./options.ts"

type Path = Option.Option<string>

const read = (variable: string, path: Path): Effect.Effect<string | undefined, Config.ConfigError> =>
  Option.isNone(path)
    ? Effect.undefined
    : Effect.tryPromise({
      try: () => Fs.readFile(path.value, "utf8"),
      catch: (cause) =>
        new Config.ConfigError(
          new ConfigProvider.SourceError({ message: `${variable} names a file that cannot be read`, cause })
        )
    })

/** The certificates that the configuration names by their paths; none where it names no authority. */
export const tls = (
  paths: { readonly ca: Path; readonly cert: Path; readonly key: Path }
): Effect.Effect<Tls | undefined, Config.ConfigError> =>
  Effect.gen(function*() {
    const ca = yield* read("DLOCK_ETCD_CA", paths.ca)
    const cert = yield* read("DLOCK_ETCD_CERT", paths.cert)
    const key = yield* read("DLOCK_ETCD_KEY", paths.key)
    if (ca === undefined) return undefined
    return { ca, cert, key: key === undefined ? undefined : Redacted.make(key) }
  })
