import * as Os from "node:os"
import { configDefaults, defineConfig } from "vitest/config"

const limits = {
  // Against what hangs; whoever promises a time counts it, less what the machine was late by.
  testTimeout: 120_000,
  hookTimeout: 30_000
}

const ours = ["packages/*/test", "{testing,examples,bench,torture,simulation}/test"]

/** These meet servers, and spend nearly all of their time waiting: more of them run at once than there are processors. */
const waiting = { ...limits, maxWorkers: 4, sequence: { groupOrder: 1 } }

/** Crowds of thousands, of which some are promised an answer in their time: one file after another, and nothing beside it. */
const crowds = [
  "packages/dlock-etcd/test/refusals.live.test.ts",
  "packages/dlock-etcd/test/localQueue.live.test.ts",
  "packages/dlock-etcd/test/adminLoad.live.test.ts",
  "packages/dlock-redis/test/crowds.live.test.ts",
  "packages/dlock-redis/test/sharedLocks.live.test.ts"
]

/** The live tests that the older line of the Redis client runs too; with DLOCK_LINES=all, every one. */
const bothLines = process.env.DLOCK_LINES === "all"
  ? ["packages/dlock-redis/test/*.live.test.ts"]
  : ["conformance", "RedisLocker", "lines", "greeting", "reasons", "credentials"].map((name) =>
    `packages/dlock-redis/test/${name}.live.test.ts`
  )

export default defineConfig({
  test: {
    globalSetup: ["testing/src/globalSetup.ts"],
    // `npm test` has one line for each file; by hand, vitest shows all.
    reporters: [process.env.DLOCK_TALLY === undefined ? "default" : "./testing/src/quiet.ts", "./testing/src/tally.ts"],
    projects: [
      {
        test: {
          ...limits,
          name: "unit",
          // These compute: a live test beside them would measure them, not itself.
          maxWorkers: Math.max(2, Os.availableParallelism()),
          sequence: { groupOrder: 0 },
          include: ours.map((folder) => `${folder}/**/*.test.ts`),
          exclude: [...configDefaults.exclude, "**/*.live.test.ts"],
          typecheck: {
            enabled: true,
            include: ["packages/*/test/**/*.test-d.ts"],
            tsconfig: "tsconfig.typetest.json"
          }
        }
      },
      {
        test: {
          ...waiting,
          name: "live",
          include: ours.map((folder) => `${folder}/**/*.live.test.ts`),
          exclude: [...configDefaults.exclude, ...crowds],
          provide: { ioredisLine: "6" }
        }
      },
      {
        test: {
          ...limits,
          name: "crowds",
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
          include: crowds,
          provide: { ioredisLine: "6" }
        }
      },
      {
        resolve: { alias: [{ find: /^ioredis$/, replacement: "ioredis-5" }] },
        test: { ...waiting, name: "ioredis 5", include: bothLines, provide: { ioredisLine: "5" } }
      }
    ]
  }
})
