import { startRedis } from "dlock-testing"
import { execFile } from "node:child_process"
import * as Path from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"

const program = Path.resolve(import.meta.dirname, "../src/dlock.ts")

test("inspect shows a free lock", async () => {
  const redis = await startRedis()
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [program, "inspect", "a", "--json"], {
      env: { ...process.env, DLOCK_REDIS_URL: `redis://127.0.0.1:${redis.port}` }
    })
    expect(JSON.parse(stdout)).toMatchObject({ key: "a", holders: [], queueLength: 0 })
  } finally {
    await redis.stop()
  }
})
