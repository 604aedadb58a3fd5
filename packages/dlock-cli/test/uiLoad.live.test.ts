import { startRedis, startWorker } from "dlock-testing"
import { startBrowser } from "dlock-testing/browser"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { expect, test } from "vitest"
import { openPage } from "./ui/open.ts"
import { startUi } from "./ui/start.ts"

/** `DLOCK_UI_LOAD=5000x200x30`: locks, changes a second, seconds. */
const [locks, changes, seconds] = (process.env.DLOCK_UI_LOAD ?? "1000x100x4").split("x").map(Number) as [
  number,
  number,
  number
]

/** The seconds for which a process has computed. */
const computed = (pid: number): number => {
  const fields = Fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** The tasks of the page's thread: for how many milliseconds each of them computed, and how long it took. */
const tasksIn = (trace: Buffer) => {
  interface Event {
    readonly name: string
    readonly pid: number
    readonly tid: number
    readonly dur?: number
    readonly tdur?: number
    readonly args?: { readonly name?: string }
  }
  const { traceEvents }: { readonly traceEvents: ReadonlyArray<Event> } = JSON.parse(trace.toString())
  const main = new Set(
    traceEvents.filter(({ args, name }) => name === "thread_name" && args?.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid} ${tid}`)
  )
  return traceEvents
    .filter(({ name, pid, tid }) => name === "RunTask" && main.has(`${pid} ${tid}`))
    .map(({ dur, tdur }) => ({ took: (dur ?? 0) / 1_000, computed: (tdur ?? NaN) / 1_000 }))
}

test(`${locks} locks with ${changes} changes a second are all told, in few rows and bounded work`, async () => {
  const redis = await startRedis()
  const crowd = startWorker<{ readonly held?: number; readonly changes?: number }>(
    Path.join(import.meta.dirname, "ui/crowd.ts"),
    { args: [redis.url, String(locks), String(changes)] }
  )
  await crowd.waitFor((report) => report.held === locks, 60_000)
  const ui = await startUi("redis", redis.url)
  const browser = await startBrowser()
  const { page, problems } = await openPage(browser, ui.url)
  await page.locator(".totals dd").filter({ hasText: new RegExp(`^${locks.toLocaleString("en")}$`) }).first().waitFor({
    timeout: 30_000
  })
  const client = await page.context().newCDPSession(page)
  await client.send("Performance.enable", { timeDomain: "threadTicks" })
  const metric = async (name: string) =>
    (await client.send("Performance.getMetrics")).metrics.find((one) => one.name === name)!.value
  await browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline", "toplevel"] })
  const before = { server: computed(ui.pid), at: performance.now(), page: await metric("TaskDuration") }
  const changesBefore = crowd.messages.at(-1)?.changes ?? 0
  await page.locator(".table").focus()
  for (let second = 0; second < seconds; second++) {
    // Somebody scrolls meanwhile, with all groups open or closed.
    await page.keyboard.press(second % 2 === 0 ? "End" : "Home")
    await page.keyboard.press("ArrowRight")
    await sleep(1_000)
  }
  const took = (performance.now() - before.at) / 1_000
  const share = (computed(ui.pid) - before.server) / took
  const ofPage = (await metric("TaskDuration") - before.page) / took
  const tasks = tasksIn(await browser.stopTracing())
  const rows = await page.locator(".sizer .row").count()
  const made = ((crowd.messages.at(-1)?.changes ?? 0) - changesBefore) / took
  const footer = await page.locator("footer.bottom").textContent()
  const heap = await metric("JSHeapUsedSize") / 1e6
  const above = (all: ReadonlyArray<number>) =>
    `${all.filter((ms) => ms > 50).length} above 50 ms, the longest ${Math.max(0, ...all).toFixed(0)} ms`
  console.log(
    `${locks} locks, ${made.toFixed(0)} changes a second, ${took.toFixed(0)} s: dlock ui ${
      (share * 100).toFixed(1)
    } % of a ` +
      `core; the page's thread ${(ofPage * 100).toFixed(1)} %, ${tasks.length} tasks; they computed: ` +
      `${above(tasks.map(({ computed }) => computed))}; they took: ${above(tasks.map(({ took }) => took))}; ` +
      `${rows} rows in the document, ${heap.toFixed(0)} MB. ${footer}`
  )
  // Only what is in sight is in the document.
  expect(rows).toBeLessThan(60)
  expect(problems).toEqual([])
  // The figures are of the machine that asks for them.
  if (process.env.DLOCK_UI_LOAD !== undefined) {
    expect(Math.max(...tasks.map(({ computed }) => computed))).toBeLessThan(50)
    expect(share).toBeLessThan(0.2)
  }
  await browser.close()
  await ui.stop()
  await crowd.kill()
  await redis.stop()
})
