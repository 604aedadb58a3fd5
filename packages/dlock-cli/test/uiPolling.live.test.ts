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
  for (let index = 0; index < 100; index++) await client.set(`dlock:key-${index}`, "somebody", "PX", 600_000)
  // What is garbage is not what is kept.
  const collect = "import v8 from 'node:v8';import vm from 'node:vm';v8.setFlagsFromString('--expose-gc');" +
    "const gc=vm.runInNewContext('gc');setInterval(gc,500).unref()"
  ui = await startUi("redis", redis.url, [], { NODE_OPTIONS: `--import "data:text/javascript,${collect}"` })
})
afterAll(async () => {
  await ui.stop()
  client.disconnect()
  await redis.stop()
})

/** How often the server was asked for its keys. */
const scans = async (): Promise<number> =>
  Number(/cmdstat_scan:calls=(\d+)/.exec(await client.info("commandstats"))?.[1] ?? 0)

/** Waits for a fact, however slow the machine is. */
const eventually = async (what: string, check: () => boolean | Promise<boolean>): Promise<void> => {
  for (const until = performance.now() + 30_000; !await check(); await sleep(100)) {
    if (performance.now() > until) throw new Error(`not within 30 s: ${what}`)
  }
}

/** Waits until the server is asked for nothing, when the last page has been closed for a while. */
const quiet = async () => {
  await sleep(3_500)
  await eventually("nothing is asked", async () => {
    const before = await scans()
    await sleep(2_500)
    return await scans() === before
  })
}

const untilRead = (page: { readonly text: () => string }) =>
  eventually("the list is read", () => page.text().includes("\"backend\":\"up\""))

test("while no page is open nothing is asked, and several pages cost what one costs", async () => {
  // What looked at the start is over.
  await sleep(500)
  const before = await scans()
  const one = await openUpdates(ui.url)
  await untilRead(one)
  const ofReading = await scans() - before
  expect(ofReading).toBeGreaterThan(0)
  const started = performance.now()
  const start = await scans()
  const others = await Promise.all(Array.from({ length: 7 }, () => openUpdates(ui.url)))
  await eventually("it is read again", async () => await scans() >= start + 2 * ofReading)
  for (const page of others) {
    await untilRead(page)
    expect(new Set(page.text().match(/"key":"key-\d+"/g)).size).toBe(100)
  }
  const asked = await scans() - start
  const readings = Math.ceil((performance.now() - started) / 1_000) + 1
  console.log(`${asked} SCANs for eight pages, ${ofReading} a reading`)
  expect(asked).toBeLessThanOrEqual(readings * ofReading)
  for (const page of others) page.close()
  one.close()
  await quiet()
})

test("several pages that look at one lock ask for it once", async () => {
  const page = await openUpdates(ui.url)
  await untilRead(page)
  const id = /"id":(\d+),"key":"key-7"/.exec(page.text())![1]
  const evals = async () => {
    const stats = await client.info("commandstats")
    return Array.from(stats.matchAll(/cmdstat_eval\w*:calls=(\d+)/g)).reduce((sum, [, calls]) => sum + Number(calls), 0)
  }
  page.close()
  await quiet()
  const before = await evals()
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => request(ui.port, `/${ui.word}/locks/${id}`))
  )
  expect(new Set(answers.map(({ body }) => JSON.parse(body).key))).toEqual(new Set(["key-7"]))
  expect(await evals() - before).toBe(1)
})

test("pages that read nothing hold nothing up, and nothing is kept for them", async () => {
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${ui.pid}/status`, "utf8"))![1]) / 1_024
  const stuck = await Promise.all(Array.from({ length: 20 }, () => openUpdates(ui.url, true)))
  const reading = await openUpdates(ui.url)
  const long = "x".repeat(900)
  const change = async (round: number) => {
    const pipeline = client.pipeline()
    for (let index = 0; index < 1_000; index++) {
      pipeline.set(`dlock:big-${index}-${long}`, `other-${round}`, "PX", 600_000)
    }
    await pipeline.exec()
  }
  const timesTold = () => reading.text().split("\"key\":\"big-7-").length - 1
  const round = async (number: number) => {
    const before = timesTold()
    await change(number)
    await eventually("the page that reads is told of each round", () => timesTold() > before)
  }
  await untilRead(reading)
  // What the process needs anyway, and what the system keeps for each connection: some megabytes.
  for (let number = 0; number < 5; number++) await round(number)
  await sleep(1_500)
  const before = memory()
  for (let number = 5; number < 8; number++) await round(number)
  await sleep(1_500)
  const grown = memory() - before
  console.log(`the process has grown by ${grown.toFixed(0)} MB`)
  // Each stuck page would keep more than a megabyte of each round: 70 MB at least.
  expect(grown).toBeLessThan(60)
  for (const page of [...stuck, reading]) page.close()
})
