import type { Browser, Page } from "dlock-testing/browser"
import { expect } from "vitest"

/** A page that is open, and what went wrong in it. */
export interface Opened {
  readonly page: Page
  /** Errors of programs, and what the security policy has stopped. */
  readonly problems: ReadonlyArray<string>
  readonly row: (key: string) => ReturnType<Page["locator"]>
  readonly section: (name: string) => ReturnType<Page["locator"]>
}

export interface Look {
  readonly width?: number
  readonly height?: number
  readonly colorScheme?: "light" | "dark"
}

/** Opens the page and waits until it is live. */
export const openPage = async (browser: Browser, url: string, look: Look = {}): Promise<Opened> => {
  const page = await browser.newPage({
    viewport: { width: look.width ?? 1440, height: look.height ?? 1000 },
    colorScheme: look.colorScheme ?? "light"
  })
  const problems: Array<string> = []
  page.on("pageerror", (error) => problems.push(String(error)))
  page.on("console", (message) => {
    if (/Content Security Policy|TrustedHTML|violates/i.test(message.text())) problems.push(message.text())
  })
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(url).origin)) problems.push(`a foreign request: ${request.url()}`)
  })
  await page.goto(url)
  await page.getByText("live", { exact: true }).waitFor()
  return {
    page,
    problems,
    row: (key) => page.locator(".row.lock").filter({ has: page.locator(".key bdi", { hasText: key }) }),
    section: (name) => page.getByRole("region", { name })
  }
}

/** Fails if something sticks out at the side. */
export const expectNoSideways = async (page: Page): Promise<void> => {
  const wide = await page.evaluate(() => {
    const width = document.documentElement.clientWidth
    const isInDrawing = (element: Element): boolean => element.closest("svg") !== null
    return {
      scrolls: document.documentElement.scrollWidth - width,
      out: Array.from(document.querySelectorAll("body *"))
        .filter((element) => !isInDrawing(element) && element.closest(".hidden") === null)
        .filter((element) => element.getClientRects().length > 0 && element.getBoundingClientRect().right > width + 1)
        .filter((element) => {
          // What is cut off by an element around it is not seen.
          for (let around = element.parentElement; around !== null; around = around.parentElement) {
            const isCut = getComputedStyle(around).overflowX !== "visible"
            if (isCut && around.getBoundingClientRect().right <= width + 1) return false
          }
          return true
        })
        .map((element) => `${element.tagName}.${element.getAttribute("class")}`)
    }
  })
  expect(wide).toEqual({ scrolls: 0, out: [] })
}
