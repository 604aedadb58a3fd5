// The rules of the code, and who may import whom: CONTRIBUTING.md says why. An override replaces a rule's list, so that each of
// them is put together from its parts here.
import * as Fs from "node:fs"
import { defineConfig } from "oxlint"

interface Pattern {
  readonly group: ReadonlyArray<string>
  readonly message: string
  readonly caseSensitive?: boolean
}

const barrel = { name: "effect", message: "src imports modules (effect/Effect), never the barrel." }
const ownBarrel = { name: "effect-dlock", message: "src imports modules (effect-dlock/LockStore), never the barrel." }
const noRunner = {
  group: ["vitest", "vitest/*", "@effect/vitest", "dlock-testing", "dlock-testing/*"],
  message: "What ships needs no test runner."
}

/** What the backends need of their users: Effect, the core, and their clients. */
const peers = Fs.readdirSync(`${import.meta.dirname}/packages`).flatMap((name) => {
  const manifest: { readonly peerDependencies?: object } = JSON.parse(
    Fs.readFileSync(`${import.meta.dirname}/packages/${name}/package.json`, "utf8")
  )
  return Object.keys(manifest.peerDependencies ?? {})
})
const clients = Array.from(new Set(peers)).filter((name) => !name.startsWith("effect"))

const core: ReadonlyArray<Pattern> = [
  { group: ["node:*"], message: "The core runs anywhere: no node:*." },
  { group: clients.flatMap((name) => [name, `${name}/*`]), message: "The core knows no client library." },
  {
    group: ["effect-dlock", "effect-dlock/*", "effect-dlock-*"],
    message: "The core imports its own files, and no backend."
  },
  noRunner
]

const backend: ReadonlyArray<Pattern> = [
  { group: ["effect-dlock/testing", "effect-dlock/testing/*"], message: "What ships needs no test suite." },
  {
    group: [
      "effect-dlock/internal/*",
      "effect-dlock/src/*",
      "effect-dlock/dist/*",
      "**/dlock/src/**",
      "**/packages/**"
    ],
    message: "A backend uses the core by its public subpaths."
  },
  { group: ["effect-dlock-*"], message: "A backend imports no backend." },
  noRunner
]

const imports = (
  files: string,
  paths: ReadonlyArray<{ readonly name: string; readonly message: string }>,
  patterns: ReadonlyArray<Pattern>
) => ({
  files: [files],
  rules: { "eslint/no-restricted-imports": ["error", { paths, patterns }] as never }
})

export default defineConfig({
  plugins: ["typescript", "unicorn", "oxc", "import"],
  jsPlugins: ["./scripts/lint.ts"],
  categories: { correctness: "error" },
  rules: {
    "typescript/no-floating-promises": "error",
    "typescript/no-misused-promises": "error",
    "typescript/consistent-type-imports": "error",
    "import/no-cycle": "error",
    "eslint/no-control-regex": "off",
    "dlock/asks-for-a-boolean": "error"
  },
  overrides: [
    { files: ["packages/*/src/**"], rules: { "dlock/logs-in-the-telemetry-room": "error" } },
    { files: ["packages/dlock/src/internal/telemetry/log.ts"], rules: { "dlock/logs-in-the-telemetry-room": "off" } },
    imports("packages/dlock/src/**", [barrel], core),
    imports("packages/dlock/src/internal/**", [barrel], [...core, {
      group: ["**/Locker.ts", "**/withLock.ts", "**/DistributedSemaphore.ts", "**/ReadWriteLock.ts", "**/index.ts"],
      caseSensitive: true,
      message: "A step does not know the front that calls it."
    }]),
    imports("packages/dlock/src/testing/**", [barrel], [...core, {
      group: ["**/internal/**"],
      message: "The suite imports public modules only, as a backend's author does."
    }]),
    imports("packages/dlock-*/src/**", [barrel, ownBarrel], backend),
    // The command line is a program of all of them.
    imports("packages/dlock-cli/src/**", [barrel, ownBarrel], [noRunner]),
    imports("packages/dlock-*/src/internal/protocol/**", [barrel, ownBarrel], [...backend, {
      group: ["**/client/**", "**/store/**", "**/options.ts"],
      message: "The protocol is what is in the server: it knows no client and no store."
    }]),
    imports("packages/dlock-*/src/internal/client/**", [barrel, ownBarrel], [...backend, {
      group: ["**/store/**", "**/doctor/**"],
      message: "A client talks to servers: it knows no store and no doctor."
    }])
  ],
  ignorePatterns: ["**/dist", ".cache"]
})
