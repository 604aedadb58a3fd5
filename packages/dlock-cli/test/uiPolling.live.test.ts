import { type Server, startRedis } from "dlock-testing"
import { Redis } from "ioredis"
import * as Fs from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, expect, test } from "vitest"
import { openUpdates, request } from "./ui/request.ts"
import { startUi, type Ui } from "./ui/start.ts"

let redis: Server
let client: Redis
let ui: Ui

beforeAll(async () => {
  redis = await startRedis()
  client = new Redis(redis.url)
  for (let index = 0; index < 1_000; index++) await client.set(`dlock:key-${index}`, "somebody", "PX", 600_000)
  ui = await startUi("redis", redis.url)
})
afterAll(async () => {
  await ui.stop()
  client.disconnect()
  await redis.stop()
})

/** How often the server was asked for its keys. */
const scans = async (): Promise<number> =>
  Number(/cmdstat_scan:calls=(\d+)/.exec(await client.info("commandstats"))?.[1] ?? 0)

const scansIn = async (ms: number): Promise<number> => {
  const before = await scans()
  await sleep(ms)
  return await scans() - before
}

test("while no page is open nothing is asked, and several pages cost what one costs", async () => {
  // What looked at the start is over.
  expect(await scansIn(1_500)).toBe(0)
  const one = await openUpdates(ui.url)
  await sleep(1_000)
  const ofOne = await scansIn(3_000)
  expect(ofOne).toBeGreaterThan(0)
  const others = await Promise.all(Array.from({ length: 5 }, () => openUpdates(ui.url)))
  await sleep(500)
  expect(await scansIn(3_000)).toBeLessThan(ofOne * 2)
  for (const page of others) {
    expect(new Set(page.text().match(/"key":"key-\d+"/g)).size === 1_000).toBe(true)
    page.close()
  }
  one.close()
  await sleep(4_500)
  expect(await scansIn(1_500)).toBe(0)
})

test("several pages that look at one lock ask for it once", async () => {
  const page = await openUpdates(ui.url)
  await sleep(1_500)
  const id = /"id":(\d+),"key":"key-7"/.exec(page.text())![1]
  const evals = async () => {
    const stats = await client.info("commandstats")
    return Array.from(stats.matchAll(/cmdstat_eval\w*:calls=(\d+)/g)).reduce((sum, [, calls]) => sum + Number(calls), 0)
  }
  page.close()
  await sleep(4_500)
  const before = await evals()
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => request(ui.port, `/${ui.word}/locks/${id}`))
  )
  expect(new Set(answers.map(({ body }) => JSON.parse(body).key))).toEqual(new Set(["key-7"]))
  expect(await evals() - before).toBe(1)
})

test("pages that read nothing hold nothing up, and nothing is kept for them", async () => {
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${ui.pid}/status`, "utf8"))![1]) / 1_024
  const stuck = await Promise.all(Array.from({ length: 10 }, () => openUpdates(ui.url, true)))
  const reading = await openUpdates(ui.url)
  const change = async (round: number) => {
    const pipeline = client.pipeline()
    for (let index = 0; index < 1_000; index++) pipeline.set(`dlock:key-${index}`, `other-${round}`, "PX", 600_000)
    await pipeline.exec()
  }
  await change(0)
  await sleep(1_500)
  const before = memory()
  for (let round = 1; round <= 6; round++) {
    await change(round)
    await sleep(1_000)
  }
  await sleep(1_200)
  // Each stuck page would keep some 300 KB of each round: 18 MB.
  expect(memory() - before).toBeLessThan(60)
  // Everything changed in each round, and was told.
  const told = reading.text().split("\"key\":\"key-7\"").length - 1
  expect(told).toBeGreaterThanOrEqual(5)
  for (const page of [...stuck, reading]) page.close()
})
