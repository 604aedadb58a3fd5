import { recordLag } from "dlock-testing"
import { redisUrl } from "dlock-testing/context"
import { Redis } from "ioredis"
import { execFile } from "node:child_process"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openUpdates, type Reply, request } from "./ui/request.ts"
import { startUi, type Ui } from "./ui/start.ts"

const prefix = "ui-access:"
let ui: Ui
let changing: Ui

beforeAll(async () => {
  ;[ui, changing] = await Promise.all([
    startUi("redis", redisUrl(), ["--prefix", prefix]),
    startUi("redis", redisUrl(), ["--prefix", prefix, "--allow-changes"])
  ])
})
afterAll(async () => {
  await Promise.all([ui.stop(), changing.stop()])
})

const paths = ["", "main.js", "page.css", "icon.svg", "preact.js", "about", "updates", "locks/1", "revoke", "break"]

test("the word in the address has 256 random bits, and is another one each time", () => {
  expect(Buffer.from(ui.word, "base64url").length).toBe(32)
  expect(changing.word).not.toBe(ui.word)
})

test("it listens on the loopback address alone", async () => {
  const others = Object.values(Os.networkInterfaces()).flatMap((all) => all ?? [])
    .filter(({ family, internal }) => family === "IPv4" && !internal)
  for (const { address } of others) {
    const isRefused = await new Promise((resolve) => {
      Net.connect(ui.port, address).once("error", () => resolve(true)).once("connect", () => resolve(false))
    })
    expect(isRefused, address).toBe(true)
  }
})

describe("without the right word nothing is answered", () => {
  const wrong = ["", "wrong/", `${"A".repeat(43)}/`]
  test.each(wrong)("/%s", async (word) => {
    for (const path of paths) {
      for (const method of ["GET", "POST"]) {
        const { body, status } = await request(changing.port, `/${word}${path}`, {
          method,
          headers: { origin: `http://127.0.0.1:${changing.port}` }
        })
        expect([path, status]).toEqual([path, 403])
        expect(body).not.toContain(changing.word)
      }
    }
  })

  test("not even what is asked for beside it", async () => {
    const { status } = await request(ui.port, `/?word=${ui.word}`, { headers: { cookie: `word=${ui.word}` } })
    expect(status).toBe(403)
  })
})

test("a foreign host is refused: a name that leads here does not make a page ours", async () => {
  const foreign = [
    "attacker.example",
    `attacker.example:${ui.port}`,
    "127.0.0.1.attacker.example",
    "10.0.0.1",
    "localhost.attacker.example"
  ]
  for (const host of foreign) {
    const { status } = await request(ui.port, `/${ui.word}/about`, { headers: { host } })
    expect([host, status]).toEqual([host, 403])
  }
  for (const host of [`localhost:${ui.port}`, "localhost:9999", `127.0.0.1:${ui.port}`, `[::1]:${ui.port}`]) {
    expect([host, (await request(ui.port, `/${ui.word}/about`, { headers: { host } })).status]).toEqual([host, 200])
  }
})

describe("read-only", () => {
  test("every method that could change something is refused", async () => {
    for (const method of ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
      for (const path of paths) {
        const { status } = await request(ui.port, `/${ui.word}/${path}`, {
          method,
          headers: { origin: `http://127.0.0.1:${ui.port}` }
        })
        expect([method, path, status]).toEqual([method, path, 405])
      }
    }
  })

  test("what it says of itself", async () => {
    expect(JSON.parse((await request(ui.port, `/${ui.word}/about`)).body)).toEqual({
      driver: "redis",
      keyPrefix: prefix,
      within: "",
      isReadOnly: true,
      version: expect.any(String)
    })
  })
})

describe("with changes allowed", () => {
  const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> =>
    request(changing.port, `/${changing.word}/${path}`, {
      method: "POST",
      body,
      headers: { origin: `http://127.0.0.1:${changing.port}`, ...headers }
    })
  const revocation = { id: 1_000_000, token: "1", graceMs: 0, why: "" }

  test("a foreign origin, none, and a foreign site are refused", async () => {
    const foreign = [
      { origin: "http://attacker.example" },
      { origin: "null" },
      { origin: `https://127.0.0.1:${changing.port}` },
      { origin: `http://127.0.0.1:${changing.port + 1}` },
      { origin: `http://localhost:${changing.port}` },
      { "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "same-site" }
    ]
    for (const headers of foreign) {
      expect([headers, (await post("revoke", revocation, headers)).status]).toEqual([headers, 403])
    }
    const without = await request(changing.port, `/${changing.word}/revoke`, { method: "POST", body: revocation })
    expect(without.status).toBe(403)
  })

  test("what a form can send is refused", async () => {
    expect((await post("revoke", revocation, { "content-type": "text/plain" })).status).toBe(415)
  })

  test("a request that makes no sense is refused", async () => {
    for (
      const body of [{}, { ...revocation, token: "-1" }, { ...revocation, graceMs: 1e9 }, {
        ...revocation,
        why: "a".repeat(501)
      }, []]
    ) {
      expect((await post("revoke", body)).status).toBe(400)
    }
    expect((await post("revoke", { ...revocation, why: "a".repeat(100_000) })).status).toBe(400)
    expect((await post("nothing", {})).status).toBe(404)
  })

  test("a lock that was never shown is not touched", async () => {
    expect(JSON.parse((await post("revoke", revocation)).body)).toMatchObject({ outcome: "refused" })
    expect(JSON.parse((await post("break", { id: 1_000_000, token: "1", confirmation: "" })).body))
      .toMatchObject({ outcome: "refused" })
  })
})

test("a lock is not broken by who did not type its key, nor revoked by a token that was not seen", async () => {
  const client = new Redis(redisUrl())
  await client.set(`${prefix}precious`, "somebody", "PX", 60_000)
  const updates = await openUpdates(changing.url)
  const seen = () => /"id":(\d+),"key":"precious".*?"token":"(\d+)"/.exec(updates.text())
  while (seen() === null) await sleep(50)
  const [, id, token] = seen()!
  const post = async (path: string, body: unknown) =>
    JSON.parse(
      (await request(changing.port, `/${changing.word}/${path}`, {
        method: "POST",
        body,
        headers: { origin: `http://127.0.0.1:${changing.port}` }
      })).body
    )
  expect(await post("break", { id: Number(id), token, confirmation: "preciou" })).toMatchObject({ outcome: "refused" })
  expect(await post("break", { id: Number(id), token: `${token}1`, confirmation: "precious" }))
    .toMatchObject({ outcome: "notHeld" })
  expect(await post("revoke", { id: Number(id), token: `${token}1`, graceMs: 0, why: "" }))
    .toMatchObject({ outcome: "notHeld" })
  expect(await client.get(`${prefix}precious`)).toBe("somebody")
  expect(await post("break", { id: Number(id), token, confirmation: "precious" })).toMatchObject({ outcome: "broken" })
  expect(await client.get(`${prefix}precious`)).toBe(null)
  updates.close()
  client.disconnect()
})

test("a link on a foreign page leads to the page, and no foreign page gets anything else", async () => {
  const foreign = { "sec-fetch-site": "cross-site" }
  const link = { ...foreign, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" }
  expect((await request(ui.port, `/${ui.word}/`, { headers: link })).status).toBe(200)
  for (const path of paths) {
    expect((await request(ui.port, `/${ui.word}/${path}`, { headers: foreign })).status).toBe(403)
  }
  const frame = { ...link, "sec-fetch-dest": "iframe" }
  expect((await request(ui.port, `/${ui.word}/`, { headers: frame })).status).toBe(403)
})

test("every answer, refusals too, has the headers that keep foreign code out", async () => {
  const answers = await Promise.all([
    request(ui.port, `/${ui.word}/`),
    request(ui.port, `/${ui.word}/main.js`),
    request(ui.port, `/${ui.word}/about`),
    request(ui.port, `/${ui.word}/nothing`),
    request(ui.port, "/"),
    request(ui.port, `/${ui.word}/`, { method: "POST" })
  ])
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 404, 403, 405])
  for (const { headers } of answers) {
    const policy = headers["content-security-policy"]!
    expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    for (const part of ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]) {
      expect(policy).toContain(part)
    }
    expect(policy).not.toMatch(/unsafe|\*|http/)
    expect(headers).toMatchObject({
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
      "cross-origin-resource-policy": "same-origin",
      "cache-control": "no-store"
    })
    expect(headers).not.toHaveProperty("access-control-allow-origin")
    expect(headers).not.toHaveProperty("set-cookie")
  }
  // Nothing inline, and nothing from elsewhere.
  expect(answers[0]!.body).not.toMatch(/<script(?![^>]*src=)|<style|style=|\bon\w+=|https?:\/\//)
})

describe("starting", () => {
  const run = (args: ReadonlyArray<string>, env: Record<string, string>) =>
    new Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }>((resolve) => {
      const program = Path.resolve(import.meta.dirname, "../src/dlock.ts")
      execFile(
        process.execPath,
        [program, "ui", ...args],
        { env: { PATH: process.env.PATH!, ...env } },
        (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr })
      )
    })

  test("a server that is not there is told before there is a page", async () => {
    const { code, stderr, stdout } = await run([], { DLOCK_REDIS_URL: "redis://127.0.0.1:1" })
    expect([code, stdout]).toEqual([69, ""])
    expect(stderr).toContain("dlock: ")
  })

  test("a port that is taken is told", async () => {
    const { code, stderr, stdout } = await run(["--port", String(ui.port)], { DLOCK_REDIS_URL: redisUrl() })
    expect([code, stdout]).toEqual([69, ""])
    expect(stderr).toContain(`cannot listen on 127.0.0.1:${ui.port} (--port)`)
  })
})

test("it ends when it is told to, though a page is open", async () => {
  const one = await startUi("redis", redisUrl())
  expect(one.errors()).toContain("the page changes nothing")
  const updates = await openUpdates(one.url)
  const lag = recordLag()
  const asked = performance.now()
  await one.stop()
  expect(performance.now() - asked - lag.max()).toBeLessThan(3_000)
  lag.stop()
  updates.close()
})

test("with --json it prints its address as JSON", async () => {
  const one = await startUi("redis", redisUrl(), ["--json"])
  await one.stop()
  expect(one.isReadOnly).toBe(true)
})
