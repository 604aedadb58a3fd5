import { expect, test } from "vitest"
import { etcdUrl, redisUrl } from "../src/context.ts"
import { command } from "../src/index.ts"

test("the redis of this run answers", async () => {
  const info = await command(Number(new URL(redisUrl()).port), "INFO server")
  expect(info).toMatch(/redis_version:\d+/)
})

test("the etcd of this run answers", async () => {
  const response = await fetch(`${etcdUrl()}/version`)
  expect(await response.json()).toMatchObject({ etcdserver: expect.stringMatching(/^3\./) })
})
