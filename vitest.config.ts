import { defineConfig } from "vitest/config"

const shared = {
  globalSetup: ["testing/src/globalSetup.ts"],
  // Against what hangs; whoever promises a time counts it, less what the machine was late by.
  testTimeout: 120_000,
  hookTimeout: 30_000
}

/** The live tests that the older line of the Redis client runs too; with DLOCK_LINES=all, every one. */
const bothLines = process.env.DLOCK_LINES === "all"
  ? ["packages/dlock-redis/test/*.live.test.ts"]
  : ["conformance", "RedisLocker", "lines", "greeting", "reasons", "credentials"].map((name) =>
    `packages/dlock-redis/test/${name}.live.test.ts`
  )

export default defineConfig({
  test: {
    maxWorkers: 3,
    reporters: ["default", "./testing/src/tally.ts"],
    projects: [
      {
        test: {
          ...shared,
          name: "main",
          include: ["packages/*/test/**/*.test.ts", "{testing,examples,bench,torture,simulation}/test/**/*.test.ts"],
          provide: { ioredisLine: "6" },
          typecheck: {
            enabled: true,
            include: ["packages/*/test/**/*.test-d.ts"],
            tsconfig: "tsconfig.typetest.json"
          }
        }
      },
      {
        resolve: { alias: [{ find: /^ioredis$/, replacement: "ioredis-5" }] },
        test: { ...shared, name: "ioredis 5", include: bothLines, provide: { ioredisLine: "5" } }
      }
    ]
  }
})
