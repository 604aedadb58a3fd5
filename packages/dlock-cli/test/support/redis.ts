import { type Server, startRedis } from "dlock-testing"
import { afterAll, afterEach, beforeAll } from "vitest"
import { endAll } from "./dlock.ts"

/** A Redis of the test file, and the environment that names it. */
export const useRedis = () => {
  let server: Server
  const env: Record<string, string> = {}
  beforeAll(async () => {
    server = await startRedis()
    env["DLOCK_REDIS_URL"] = server.url
  })
  afterEach(endAll)
  afterAll(() => server.stop())
  return { env, server: () => server }
}
