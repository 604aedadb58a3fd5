import * as Module from "node:module"

const manifest = Module.createRequire(import.meta.url)("../../package.json") as { readonly version: string }

/** The version of this package. */
export const version = manifest.version
