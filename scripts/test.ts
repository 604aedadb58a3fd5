// Runs vitest and closes with one plain line that any CI can count: `4 passed, 0 failed`.
import { runTests } from "./run.ts"

const startedAt = performance.now()
const { code, failed, passed, skipped } = await runTests(process.argv.slice(2))
console.log(`\nThe tests took ${Math.round((performance.now() - startedAt) / 1_000)} s.`)
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`)
process.exitCode = code
