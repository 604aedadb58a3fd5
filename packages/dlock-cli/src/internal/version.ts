import * as Module from "node:module"

/** A bundle has it inside: there is no manifest beside it. */
declare const DLOCK_VERSION: string | undefined

const ofManifest = (): string => {
  const manifest = Module.createRequire(import.meta.url)("../../package.json") as { readonly version: string }
  return manifest.version
}

/** The version of this package. */
export const version = typeof DLOCK_VERSION === "string" ? DLOCK_VERSION : ofManifest()
