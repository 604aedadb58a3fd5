import * as Headers from "effect/http/Headers"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Crypto from "node:crypto"

/** The word in the address of the page, without which nothing is answered: 256 random bits. */
export const makeWord = (): string => Crypto.randomBytes(32).toString("base64url")

/**
 * Why a request is refused, if it is. Whoever asks must know the word, and a browser must ask for a page that it got from
 * here: a foreign page, or a foreign name that leads to this machine, gets no answer.
 */
export const refusal = (
  request: HttpServerRequest,
  { isReadOnly, word }: { readonly word: string; readonly isReadOnly: boolean }
): HttpServerResponse.HttpServerResponse | undefined => {
  const host = request.headers.host ?? ""
  if (!loopback.test(host)) return refuse(403, "This address leads to a page for this machine alone.")
  if (!isSame(request.url.split("/")[1]?.split("?")[0] ?? "", word)) {
    return refuse(403, "Open the address that `dlock ui` has printed: it has a word in it that is missing here.")
  }
  const site = request.headers["sec-fetch-site"] ?? "none"
  // A link to the page may stand on a foreign one, for example in a terminal in the browser.
  const isLink = request.method === "GET" && request.headers["sec-fetch-dest"] === "document"
  if (site !== "same-origin" && site !== "none" && !isLink) return refuse(403, "A foreign page asks.")
  if (request.method === "GET" || request.method === "HEAD") return undefined
  if (request.method !== "POST" || isReadOnly) {
    return HttpServerResponse.setHeader(
      refuse(
        405,
        isReadOnly ? "This page is read-only: start `dlock ui --allow-changes`." : "There is no such method."
      ),
      "allow",
      isReadOnly ? "GET, HEAD" : "GET, HEAD, POST"
    )
  }
  if (request.headers.origin !== `http://${host}`) return refuse(403, "A foreign page asks.")
  if (!/^application\/json\b/.test(request.headers["content-type"] ?? "")) return refuse(415, "Send JSON.")
  return undefined
}

/** The names by which a browser on this machine, or at the other end of `ssh -L`, comes here. */
const loopback = /^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$/i

/** Compares in the same time, whatever is different. */
const isSame = (one: string, other: string): boolean => {
  const digest = (text: string) => Crypto.createHash("sha256").update(text).digest()
  return Crypto.timingSafeEqual(digest(one), digest(other))
}

const refuse = (status: number, why: string) => HttpServerResponse.text(`${why}\n`, { status })

/** On every answer. The page loads nothing from elsewhere, runs nothing that is not a file of ours, and is in no frame. */
export const withSafeHeaders = HttpServerResponse.setHeaders(Headers.fromInput({
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'"
  ].join("; "),
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  // The address has the word in it.
  "cache-control": "no-store",
  "x-robots-tag": "noindex"
}))
