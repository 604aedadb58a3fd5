import type { About, Answer, BreakRequest, Details, RevokeRequest, Update } from "./protocol.ts"
import type { Store } from "./store.ts"

/** Keeps the store up to date, for as long as somebody looks. The browser itself connects again after an interruption. */
export const follow = (store: Store): void => {
  let source: EventSource | undefined
  let heardAt = performance.now()

  const open = () => {
    source?.close()
    source = new EventSource("updates")
    heardAt = performance.now()
    source.onmessage = ({ data }: MessageEvent<string>) => {
      heardAt = performance.now()
      store.connect("live")
      store.apply(JSON.parse(data) as Update)
      if (store.about === undefined) void describe(store)
    }
    source.addEventListener("alive", () => {
      heardAt = performance.now()
      store.connect("live")
    })
    source.onerror = () => {
      // Closed: the server answered, and refused. Its word is another one since it was started again.
      const isRefused = source?.readyState === EventSource.CLOSED
      store.connect(isRefused ? "refused" : "gone")
    }
  }

  setInterval(() => {
    if (source !== undefined && store.connection === "live" && performance.now() - heardAt > longestSilence) {
      store.connect("gone")
      open()
    }
  }, 1_000)

  // Nobody looks at a page in the background: then the server need not read for it.
  let leaving: ReturnType<typeof setTimeout> | undefined
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving)
    if (document.visibilityState === "visible") {
      if (source === undefined) open()
      return
    }
    leaving = setTimeout(() => {
      source?.close()
      source = undefined
    }, patienceInBackground)
  })
  open()
}

const describe = async (store: Store): Promise<void> => {
  const response = await fetch("about").catch(() => undefined)
  if (response?.ok === true) store.describe(await response.json() as About)
}

/** `undefined`: the lock is not known any more. Fails with a message to show. */
export const detailsOf = async (id: number): Promise<Details | undefined> => {
  const response = await asked(fetch(`locks/${id}`))
  if (response.status === 410) return undefined
  return await response.json() as Details
}

export const revoke = (request: RevokeRequest): Promise<Answer> => post("revoke", request)

export const breakLock = (request: BreakRequest): Promise<Answer> => post("break", request)

const post = async (path: string, body: unknown): Promise<Answer> => {
  const response = await asked(fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body)
  }))
  return await response.json() as Answer
}

const asked = async (asking: Promise<Response>): Promise<Response> => {
  let response: Response
  try {
    response = await asking
  } catch {
    throw new Error("dlock ui does not answer")
  }
  if (!response.ok && response.status !== 410) throw new Error(await response.text())
  return response
}

// Milliseconds. The server says something every three seconds.
const longestSilence = 10_000
const patienceInBackground = 15_000
