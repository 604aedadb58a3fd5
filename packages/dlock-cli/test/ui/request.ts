import * as Http from "node:http"

export interface Reply {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

/** A request with any headers, which a browser would not let a page send. */
export const request = (
  port: number,
  path: string,
  options: { readonly method?: string; readonly headers?: Http.OutgoingHttpHeaders; readonly body?: unknown } = {}
): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const body = options.body === undefined ? undefined : JSON.stringify(options.body)
    const asked = Http.request({
      host: "127.0.0.1",
      port,
      path,
      method: options.method ?? "GET",
      headers: {
        ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
        ...options.headers
      }
    }, (response) => {
      let text = ""
      response.on("data", (chunk: Buffer) => text += chunk)
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, body: text }))
    })
    asked.once("error", reject)
    asked.end(body)
  })

/** Opens the stream of updates and reads it, until it is closed; with `isPaused` nothing is read. */
export const openUpdates = (
  url: string,
  isPaused = false
): Promise<{ readonly text: () => string; readonly close: () => void }> =>
  new Promise((resolve, reject) => {
    Http.get(`${url}updates`, (response) => {
      let text = ""
      if (isPaused) response.socket.pause()
      else response.on("data", (chunk: Buffer) => text += chunk)
      response.on("error", () => {})
      resolve({ text: () => text, close: () => response.destroy() })
    }).once("error", reject)
  })
