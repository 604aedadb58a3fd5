import * as Fs from "node:fs"
import type { Reporter, TestModule } from "vitest/node"

/**
 * Writes the run's counts into the file that `scripts/test.ts` names. A module that did not load, a suite whose hook
 * failed, an error outside any test and a test that never ended each count as a failure.
 */
export default class Tally implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandled: ReadonlyArray<unknown>): void {
    let passed = 0
    let failed = unhandled.length
    let skipped = 0
    const failures: Array<string> = []
    for (const module of modules) {
      if (module.errors().length > 0) failed += 1
      for (const suite of module.children.allSuites()) {
        if (suite.errors().length > 0) failed += 1
      }
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === "passed") passed += 1
        else if (state === "skipped") skipped += 1
        else {
          failed += 1
          failures.push(`${module.project.name}: ${module.relativeModuleId} > ${test.fullName}`)
        }
      }
    }
    const file = process.env.DLOCK_TALLY
    if (file !== undefined) Fs.writeFileSync(file, JSON.stringify({ passed, failed, skipped, failures }))
  }
}
