import { startRedis } from "dlock-testing"
import { type Browser, startBrowser } from "dlock-testing/browser"
import { etcdUrl, redisUrl } from "dlock-testing/context"
import { Redis } from "ioredis"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openPage } from "./ui/open.ts"
import { type Caller, type Driver, startCaller, startUi, type Ui } from "./ui/start.ts"

let browser: Browser
const started: Array<{ readonly stop: () => Promise<unknown> }> = []

beforeAll(async () => {
  browser = await startBrowser()
})
afterAll(async () => {
  await browser.close()
  await Promise.all(started.map((one) => one.stop()))
})

const ui = async (driver: Driver, url: string, args: ReadonlyArray<string>): Promise<Ui> => {
  const one = await startUi(driver, url, args)
  started.push(one)
  return one
}

const caller = (driver: Driver, url: string, holder: string, prefix: string): Caller => {
  const one = startCaller(driver, url, holder, prefix)
  started.push({ stop: () => one.worker.kill() })
  return one
}

const patience = 15_000

describe.each(["redis", "etcd"] as const)("on %s", (driver) => {
  const url = () => driver === "redis" ? redisUrl() : etcdUrl()

  test("locks appear, change and vanish as they do at the server", async () => {
    const prefix = `ui-live-${driver}:`
    const one = caller(driver, url(), "caller-one", prefix)
    const other = caller(driver, url(), "caller-two", prefix)
    const page = await openPage(browser, (await ui(driver, url(), ["--prefix", prefix])).url)
    await page.page.getByText("No lock is held, and nobody waits.").waitFor()
    await one.hold("stock:42", { metadata: { order: "4711" } })
    await page.row("stock:42").getByText("caller-one").waitFor({ timeout: patience })
    other.order({ hold: "stock:42" })
    await page.row("stock:42").getByText("caller-two").waitFor({ timeout: patience })
    await page.section("Who waits for whom").getByText("waits for", { exact: true }).waitFor({ timeout: patience })

    await page.row("stock:42").click()
    const details = page.page.getByRole("complementary", { name: "stock:42" })
    await details.getByText("4711").waitFor()
    expect(await details.getByRole("listitem").filter({ hasText: "caller-two" }).count()).toBe(1)

    one.order({ release: "stock:42" })
    await page.section("Events").getByText("caller-one to caller-two").waitFor({ timeout: patience })
    await details.getByText("Held by").waitFor()
    other.order({ release: "stock:42" })
    await details.getByText("Nobody holds it").waitFor({ timeout: patience })
    await page.page.getByText("No lock is held, and nobody waits.").waitFor({ timeout: patience })
    expect(page.problems).toEqual([])
    await page.page.close()
  })
})

test("a holder that stops is told as not renewed, then as lost, and a revocation as it goes on", async () => {
  const prefix = "ui-losses:"
  const one = caller("redis", redisUrl(), "frozen-job", prefix)
  const two = caller("redis", redisUrl(), "asked-job", prefix)
  const page = await openPage(browser, (await ui("redis", redisUrl(), ["--prefix", prefix, "--allow-changes"])).url)
  await Promise.all([one.hold("nightly", { ttl: 4_000 }), two.hold("weekly")])
  await page.row("nightly").waitFor()
  await page.page.waitForTimeout(1_500)
  one.worker.signal("SIGSTOP")
  await page.row("nightly").getByText("not renewed").waitFor({ timeout: patience })

  await page.row("weekly").click()
  await page.page.getByRole("button", { name: /^Revoke the hold of asked-job/ }).click()
  await page.page.getByLabel("Why, for the holder’s log").fill("a test")
  await page.page.getByRole("button", { name: "Revoke", exact: true }).click()
  await page.page.getByRole("status").getByText("The lock was released.").waitFor({ timeout: patience })
  const { error } = await two.worker.waitFor((report) => "ended" in report, patience) as { readonly error?: string }
  expect(error).toContain("Revoked")

  const lost = page.section("Events").getByRole("listitem").filter({ hasText: "frozen-job lost it" })
  await lost.waitFor({ timeout: patience })
  expect(await lost.textContent()).toContain("Lost")
  // The one that released in time after it was asked is not told as lost.
  expect(await page.section("Events").getByText("asked-job lost it").count()).toBe(0)
  expect(await page.page.locator(".totals .red dd").textContent()).toBe("1")
  expect(page.problems).toEqual([])
  await page.page.close()
})

test("callers that wait for one another are drawn in red, and the youngest hold is named", async () => {
  const prefix = "ui-cycle:"
  const one = caller("redis", redisUrl(), "caller-one", prefix)
  const two = caller("redis", redisUrl(), "caller-two", prefix)
  const page = await openPage(browser, (await ui("redis", redisUrl(), ["--prefix", prefix])).url)
  await one.hold("first", { next: "second" })
  await two.hold("second", { next: "first" })
  one.order({ proceed: "first" })
  const waits = page.section("Who waits for whom")
  await waits.getByText("waits for", { exact: true }).waitFor({ timeout: patience })
  // One that waits for one that works is no circle.
  expect(await page.page.getByRole("img", { name: /^Deadlock/ }).count()).toBe(0)

  two.order({ proceed: "second" })
  await page.page.getByRole("img", { name: /^Deadlock of 2/ }).waitFor({ timeout: patience })
  const [red, green, blue] = await page.page.evaluate(() =>
    getComputedStyle(document.querySelector(".drawing .edge")!).stroke.match(/\d+/g)!.map(Number)
  )
  expect(red! > green! * 2 && red! > blue! * 2).toBe(true)
  for (const key of ["first", "second"]) await page.row(key).getByText("deadlock").waitFor()
  await page.section("Events").getByText("wait for one another and will wait for ever").waitFor()
  await waits.getByText("Revoke the youngest hold").getByRole("button", { name: "second" }).click()
  await page.page.getByRole("complementary", { name: "second" }).waitFor()
  expect(page.problems).toEqual([])
  await page.page.close()
})

test("a backend that goes away is said, with what was known before, and its return too", async () => {
  const redis = await startRedis()
  started.push({ stop: () => redis.stop() })
  const one = await ui("redis", redis.url, [])
  const client = new Redis(redis.url)
  client.on("error", () => {})
  await client.set("dlock:there", "foreign", "PX", 120_000)
  const page = await openPage(browser, one.url)
  await page.row("there").waitFor()
  redis.signal("SIGSTOP")
  await page.page.getByRole("alert").filter({ hasText: "The backend does not answer" }).waitFor({ timeout: patience })
  await page.page.getByText("backend away", { exact: true }).waitFor()
  expect(await page.row("there").count()).toBe(1)
  redis.signal("SIGCONT")
  await page.page.getByText("live", { exact: true }).waitFor({ timeout: patience })
  await page.section("Events").getByText("The backend answers again").waitFor()
  expect(await page.page.getByRole("alert").count()).toBe(0)

  // The program itself ends: the page says so, and when another one has the port, under another word, it says that.
  await one.stop()
  await page.page.getByRole("alert").filter({ hasText: "dlock ui does not answer" }).waitFor({ timeout: patience })
  await ui("redis", redis.url, ["--port", String(one.port)])
  await page.page.getByRole("alert").filter({ hasText: "was started again" }).waitFor({ timeout: patience })
  client.disconnect()
  await page.page.close()
})
