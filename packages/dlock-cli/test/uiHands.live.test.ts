import { type Browser, startBrowser } from "dlock-testing/browser"
import { redisUrl } from "dlock-testing/context"
import { Redis } from "ioredis"
import { afterAll, beforeAll, expect, test } from "vitest"
import { hostileKeys } from "./ui/hostile.ts"
import { expectNoSideways, openPage } from "./ui/open.ts"
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

test("a lock is found, understood and revoked by keyboard alone", async () => {
  const prefix = "ui-keyboard:"
  const one = caller("redis", redisUrl(), "stuck-job", prefix)
  await Promise.all(["shop:a", "shop:b", "zoo"].map((key) => one.hold(key)))
  const { page, problems } = await openPage(
    browser,
    (await ui("redis", redisUrl(), ["--prefix", prefix, "--allow-changes"])).url
  )
  await page.getByRole("row", { name: /zoo/ }).waitFor()
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement!
      const style = getComputedStyle(element.matches(".shows input") ? element.nextElementSibling! : element)
      return {
        name: element.getAttribute("aria-label") ?? element.getAttribute("name") ?? element.tagName,
        isSeen: style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) >= 2
      }
    })
  const order: Array<string> = []
  for (let stop = 0; stop < 4; stop++) {
    await page.keyboard.press("Tab")
    const { isSeen, name } = await focused()
    expect([name, isSeen]).toEqual([name, true])
    order.push(name)
  }
  expect(order).toEqual([
    "Filter by key or holder",
    "show",
    "SELECT",
    "Locks: arrow keys to move, Enter to look at one"
  ])
  // The group, its two locks, then the last one.
  await page.keyboard.press("End")
  const active = () =>
    page.evaluate(() => {
      const id = document.activeElement!.getAttribute("aria-activedescendant")
      return id === null ? undefined : document.getElementById(id)?.textContent ?? undefined
    })
  expect(await active()).toContain("zoo")
  await page.keyboard.press("Home")
  expect(await active()).toContain("2 locks")
  await page.keyboard.press("ArrowLeft")
  await page.locator(".row", { hasText: "shop:a" }).waitFor({ state: "detached" })
  await page.keyboard.press("ArrowRight")
  await page.locator(".row", { hasText: "shop:a" }).waitFor()
  await page.keyboard.press("End")
  await page.keyboard.press("Enter")
  await page.getByRole("complementary", { name: "zoo" }).waitFor()
  // The details have the focus, and Esc gives it back.
  expect(await page.evaluate(() => document.activeElement!.id)).toBe("details-key")
  await page.keyboard.press("Escape")
  expect((await focused()).name).toContain("Locks:")
  await page.keyboard.press("Enter")
  await page.keyboard.press("Tab")
  expect((await focused()).name).toBe("Close the details")
  await page.keyboard.press("Tab")
  expect((await focused()).name).toMatch(/^Revoke the hold of stuck-job, token \d+$/)
  await page.keyboard.press("Enter")
  const dialog = page.getByRole("dialog", { name: "Revoke this hold" })
  await dialog.getByLabel("Time to finish, in seconds").waitFor()
  // The dialog is the only thing that the Tab key reaches, and Esc closes it alone.
  for (let stop = 0; stop < 8; stop++) {
    await page.keyboard.press("Tab")
    const isInside = await page.evaluate(() =>
      document.activeElement === document.body || document.activeElement!.closest("dialog") !== null
    )
    expect(isInside).toBe(true)
  }
  await page.keyboard.press("Escape")
  await dialog.waitFor({ state: "detached" })
  expect((await focused()).name).toMatch(/^Revoke the hold/)
  await page.keyboard.press("Enter")
  await dialog.getByLabel("Time to finish, in seconds").waitFor()
  await page.keyboard.press("Enter")
  await page.getByRole("status").getByText("The lock was released.").waitFor({ timeout: patience })
  await one.worker.waitFor((report) => "ended" in report && report.ended === "zoo", patience)
  // A screen reader is told of it, too.
  await page.getByRole("log").getByText(/Revoked zoo/).waitFor({ timeout: patience })
  expect(problems).toEqual([])
  await page.close()
})

test("a lock is broken only by who types its key, and read-only there is nothing to break it with", async () => {
  const prefix = "ui-break:"
  const one = caller("redis", redisUrl(), "holder", prefix)
  const [changing, reading] = await Promise.all([
    ui("redis", redisUrl(), ["--prefix", prefix, "--allow-changes"]),
    ui("redis", redisUrl(), ["--prefix", prefix])
  ])
  await one.hold("precious")
  const readOnly = await openPage(browser, reading.url)
  await readOnly.row("precious").click()
  await readOnly.page.getByRole("complementary", { name: "precious" }).getByText("holder").first().waitFor()
  expect(await readOnly.page.getByRole("button").allTextContents()).toEqual([""])
  expect(await readOnly.page.getByRole("button", { name: "Close the details" }).count()).toBe(1)
  await readOnly.page.getByText("read-only").waitFor()
  await readOnly.page.close()

  const { page } = await openPage(browser, changing.url)
  await page.getByRole("row", { name: /precious/ }).click()
  await page.getByRole("button", { name: /^Break the hold/ }).click()
  const dialog = page.getByRole("dialog", { name: "Break this lock: two may run" })
  const button = dialog.getByRole("button", { name: "Break the lock" })
  expect(await button.isDisabled()).toBe(true)
  await dialog.getByLabel("Type the key to confirm").fill("preciou")
  expect(await button.isDisabled()).toBe(true)
  await dialog.getByLabel("Type the key to confirm").fill("precious")
  await button.click()
  await page.getByRole("status").getByText("The lock was broken.").waitFor({ timeout: patience })
  await page.getByRole("region", { name: "Events" }).getByText("deleted from this page").waitFor({ timeout: patience })
  const { error } = await one.worker.waitFor((report) => "ended" in report, patience) as { readonly error?: string }
  expect(error).toContain("OwnershipLost")
  await page.close()
})

test("twenty hostile keys, holders and metadata are text: nothing runs, nothing breaks the page", async () => {
  const prefix = "ui-hostile:"
  const redis = new Redis(redisUrl())
  const one = caller("redis", redisUrl(), "<img src=x onerror=window.hacked=1>", prefix)
  for (const key of hostileKeys(prefix)) {
    await one.hold(key, { metadata: { "<b>name": `${key.slice(0, 100)}"><script>window.hacked=1</script>` } })
  }
  // The client of another library may call itself anything.
  await redis.set(`${prefix}foreign`, "<script>window.hacked=1</script>\u202e\u001b[31m\u0000", "PX", 60_000)
  const { url } = await ui("redis", redisUrl(), ["--prefix", prefix, "--allow-changes"])
  for (const width of [390, 1440]) {
    const { page, problems } = await openPage(browser, url, {
      width,
      height: 900,
      colorScheme: width === 390 ? "dark" : "light"
    })
    await page.locator(".totals dd").filter({ hasText: String(hostileKeys(prefix).length + 1) }).first().waitFor({
      timeout: patience
    })
    await expectNoSideways(page)
    // Each of them, by keyboard, with its details open.
    await page.locator(".table").focus()
    await page.getByRole("combobox").selectOption("age")
    await page.locator(".table").focus()
    const seen = new Set<string>()
    for (let index = 0; index <= hostileKeys(prefix).length; index++) {
      await page.locator(".table").focus()
      await page.keyboard.press("ArrowDown")
      await page.keyboard.press("Enter")
      await page.locator("#details-key bdi").waitFor()
      await page.locator(".holds > li").first().waitFor()
      seen.add((await page.locator("#details-key").textContent())!)
      await expectNoSideways(page)
      if (index === 3) {
        await page.getByRole("button", { name: /^Break/ }).first().click()
        await expectNoSideways(page)
        await page.keyboard.press("Escape")
      }
    }
    expect(seen.size).toBe(hostileKeys(prefix).length + 1)
    const whole = Array.from(seen).find((text) => text.includes("aaaaaaaaaaaaaaaa"))!
    expect(whole.length).toBeGreaterThan(900)
    const state = await page.evaluate(() => ({
      hacked: (globalThis as { hacked?: unknown }).hacked,
      scripts: document.scripts.length,
      images: document.images.length,
      // What is not seen or turns the text around it is shown by its number.
      raw: /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(
        document.getElementById("page")!.textContent
      )
    }))
    expect(state).toEqual({ hacked: undefined, scripts: 1, images: 1, raw: false })
    expect(problems).toEqual([])
    await page.close()
  }
  redis.disconnect()
})
