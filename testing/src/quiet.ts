import type { TestModule, Vitest } from "vitest/node"
import { DefaultReporter } from "vitest/node"

/**
 * One line for each file. What a test logged is shown where that test failed, and is dropped where it passed; the errors
 * of the tests that failed come at the end, in full.
 */
export default class Quiet extends DefaultReporter {
  constructor() {
    super({ summary: false, silent: "passed-only" })
  }

  override onInit(ctx: Vitest): void {
    this.ctx = ctx
  }

  override printTestModule(module: TestModule): void {
    const tests = Array.from(module.children.allTests())
    const failed = tests.filter((test) => test.result().state === "failed")
    const where = [
      module.relativeModuleId,
      ...module.project.name.startsWith("ioredis") ? ["on", module.project.name] : []
    ]
    const counts = [`${tests.length} ${tests.length === 1 ? "test" : "tests"}`]
    if (failed.length > 0) counts.push(`${failed.length} failed`)
    const seconds = (module.diagnostic().duration / 1_000).toFixed(1)
    this.log(`${module.state() === "failed" ? "×" : "✓"} ${where.join(" ")} (${counts.join(", ")}) ${seconds} s`)
    for (const test of failed) this.log(`  × ${test.fullName}`)
  }

  /** The run's last lines are those of `scripts/test.ts`. */
  override reportTestSummary(): void {}
}
