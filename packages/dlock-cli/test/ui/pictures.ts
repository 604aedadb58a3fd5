/**
 * Draws the page: `node packages/dlock-cli/test/ui/pictures.ts FOLDER`. The pictures of docs/ui.md are among them, by the
 * same names (`docs` as the folder makes them anew there, and the others go to its subfolder `looks`, which is not kept).
 */
import { startRedis } from "dlock-testing"
import { startBrowser } from "dlock-testing/browser"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Caller, startCaller, startUi } from "./start.ts"

const folder = process.argv[2] ?? "/tmp/dlock-ui"
const looks = Path.join(folder, "looks")
Fs.mkdirSync(looks, { recursive: true })

const redis = await startRedis()
const names = ["report-7c9f", "report-2b1e", "billing-04aa", "billing-91d3", "stock-5e10", "stock-77b2", "mail-3f08"]
const callers = new Map<string, Caller>(names.map((name) => [name, startCaller("redis", redis.url, name)]))
const of = (name: string) => callers.get(name)!

const empty = await startUi("redis", redis.url, ["nothing-here:"])
const ui = await startUi("redis", redis.url, ["--allow-changes"])
const browser = await startBrowser()
const sizes = { desktop: { width: 1440, height: 1000 }, phone: { width: 390, height: 844 } } as const
const open = async (url: string, size: keyof typeof sizes, colorScheme: "light" | "dark") => {
  const page = await browser.newPage({ viewport: sizes[size], colorScheme, deviceScaleFactor: 1 })
  page.on("pageerror", (error) => console.error("page:", error.message))
  page.on("console", (message) => {
    if (message.type() === "error") console.error("console:", message.text())
  })
  await page.goto(url)
  await page.getByText("live", { exact: true }).waitFor()
  return page
}

await of("mail-3f08").hold("once:mail/digest")
// The page is open from the beginning, as on a day on call.
const watching = await open(ui.url, "desktop", "light")
await of("report-7c9f").hold("nightly-report", { ttl: 16_000, metadata: { host: "eu-1", job: "report 2026-12-01" } })
for (const name of ["report-2b1e", "mail-3f08", "stock-77b2"]) of(name).order({ hold: "nightly-report" })
await of("stock-5e10").hold("inventory:shelf/12", { next: "inventory:shelf/40" })
await of("stock-77b2").hold("inventory:shelf/40", { next: "inventory:shelf/12" })
of("stock-5e10").order({ proceed: "inventory:shelf/12" })
of("stock-77b2").order({ proceed: "inventory:shelf/40" })
for (const [index, name] of names.slice(2, 6).entries()) {
  await of(name).hold("api:partner-quota", { of: 3 }).catch(() => {})
  if (index === 2) break
}
of("report-2b1e").order({ hold: "api:partner-quota", of: 3 })
for (let shelf = 1; shelf <= 9; shelf++) await of("stock-5e10").hold(`inventory:shelf/${shelf}`)
for (let shelf = 60; shelf <= 64; shelf++) await of("billing-04aa").hold(`inventory:warehouse-b/shelf/${shelf}`)
await of("billing-91d3").hold("billing:invoice/4711", { ttl: 4_000 })
// A crash, some hand-overs, a revocation.
of("billing-91d3").worker.signal("SIGSTOP")
for (let turn = 0; turn < 5; turn++) {
  const [one, other] = turn % 2 === 0 ? ["mail-3f08", "billing-04aa"] : ["billing-04aa", "mail-3f08"]
  await of(one!).hold("billing:ledger")
  of(other!).order({ hold: "billing:ledger" })
  await sleep(1_600)
  of(one!).order({ release: "billing:ledger" })
  await sleep(1_600)
  of(other!).order({ release: "billing:ledger" })
}
of("report-7c9f").worker.signal("SIGSTOP")
await of("billing-04aa").hold("billing:invoice/4712")
await watching.getByRole("row", { name: /4712/ }).click()
await watching.getByRole("button", { name: /^Revoke/ }).click()
await watching.getByRole("button", { name: "Revoke", exact: true }).click()
await watching.getByText("The lock was released.").waitFor()
await watching.keyboard.press("Escape")
await watching.getByText("not renewed", { exact: true }).first().waitFor({ timeout: 30_000 })
await watching.getByText("The lock was released.").waitFor({ state: "detached" })

// The pictures of the documents.
await watching.evaluate(() => (document.activeElement as HTMLElement).blur())
await watching.setViewportSize({ width: 1120, height: 740 })
await sleep(700)
await watching.screenshot({ path: Path.join(folder, "ui-light.png") })
await watching.emulateMedia({ colorScheme: "dark" })
await watching.setViewportSize({ width: 390, height: 844 })
await sleep(700)
await watching.screenshot({ path: Path.join(folder, "ui-phone.png") })
await watching.setViewportSize(sizes.desktop)

for (const scheme of ["light", "dark"] as const) {
  for (const size of ["desktop", "phone"] as const) {
    const page = await open(ui.url, size, scheme)
    await sleep(1_500)
    await page.screenshot({ path: Path.join(looks, `${size}-${scheme}.png`), fullPage: true })
    await page.close()
  }
}
await watching.emulateMedia({ colorScheme: "light" })
await watching.screenshot({ path: Path.join(looks, "long-light.png"), fullPage: true })
await watching.emulateMedia({ colorScheme: "dark" })
await watching.screenshot({ path: Path.join(looks, "long-dark.png"), fullPage: true })
await watching.getByRole("row", { name: /shelf\/12/ }).first().click()
await sleep(1_500)
await watching.screenshot({ path: Path.join(looks, "details-dark.png") })
await watching.getByRole("button", { name: /^Revoke/ }).first().click()
await sleep(300)
await watching.screenshot({ path: Path.join(looks, "revoke-dark.png") })
await watching.keyboard.press("Escape")
await watching.emulateMedia({ colorScheme: "light" })
await watching.getByRole("button", { name: /^Break/ }).first().click()
await sleep(300)
await watching.screenshot({ path: Path.join(looks, "break-light.png") })
await watching.keyboard.press("Escape")
const phone = await open(ui.url, "phone", "light")
await phone.getByRole("row", { name: /shelf\/12/ }).first().click()
await sleep(1_500)
await phone.screenshot({ path: Path.join(looks, "details-phone.png") })
const nothing = await open(empty.url, "desktop", "light")
await sleep(1_300)
await nothing.screenshot({ path: Path.join(looks, "empty.png") })
await redis.stop()
await sleep(6_000)
await watching.screenshot({ path: Path.join(looks, "away.png") })

await browser.close()
await Promise.all([ui.stop(), empty.stop()])
await Promise.all(Array.from(callers.values(), ({ worker }) => worker.kill()))
process.exit(0)
