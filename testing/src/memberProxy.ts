import * as Http2 from "node:http2"
import type * as Net from "node:net"

/** What a refusing proxy answers, and to which calls: `/etcdserverpb.KV/Txn` is a path, no `method` means every call. */
export interface Refusal {
  readonly method?: RegExp
  /** The gRPC status, such as 8 (resource exhausted), 14 (unavailable), 15 (data loss) or 16 (unauthenticated). */
  readonly code: number
  readonly message: string
}

/**
 * A proxy in this process that understands gRPC and passes each call on to one etcd member, until it is told to answer
 * some of them itself: what a member says when it is overloaded, corrupt or restarted, at a time that a test chooses.
 */
export interface MemberProxy {
  readonly port: number
  readonly url: string
  /**
   * Answers calls that begin from now on with an error, at once, and does not pass them on. Calls that are open go on.
   * Where several refusals fit, the latest answers.
   */
  readonly refuse: (refusal: Refusal) => void
  /** Ends all refusals. */
  readonly heal: () => void
  /** Calls whose path fits that have begun since the start, refused ones included. A stream is one call. */
  readonly count: (method: RegExp) => number
  /** Cuts all connections and closes the port. */
  readonly stop: () => Promise<void>
}

const { NGHTTP2_CANCEL, NGHTTP2_FLAG_END_STREAM, NGHTTP2_INTERNAL_ERROR } = Http2.constants

/** Errors of streams and sessions: "close" follows each, and is where they are dealt with. */
const ignore = (): void => {}

/** Megabytes of one connection, above which Node would refuse streams that a member would have accepted. */
const maxSessionMemory = 1_000

/** As gRPC has it in a header: what is not printable ASCII is escaped, and so is the sign of an escape. */
const escaped = (message: string): string => message.replace(/[^ -$&-~]+/gu, encodeURIComponent)

/** Whether it takes no answer any more, although its "close" may be yet to come. */
const isOver = (stream: Http2.ServerHttp2Stream): boolean => stream.closed || stream.destroyed

const answer = (stream: Http2.ServerHttp2Stream, { code, message }: Refusal): void => {
  if (isOver(stream)) return
  stream.respond({
    ":status": 200,
    "content-type": "application/grpc",
    "grpc-status": `${code}`,
    "grpc-message": escaped(message)
  }, { endStream: true })
  stream.resume()
}

/** Breaks the connection that a stream came by. */
const cut = (stream: Http2.ServerHttp2Stream): void => void stream.session?.socket.resetAndDestroy()

const forward = (
  stream: Http2.ServerHttp2Stream,
  headers: Http2.IncomingHttpHeaders,
  member: Http2.ClientHttp2Session
): void => {
  const call = member.request(headers, { endStream: false })
  let trailers: Http2.IncomingHttpHeaders | undefined
  let isComplete = false
  call.on("error", ignore)
  stream.pipe(call)
  call.on("response", (headers, flags) => {
    if (isOver(stream)) return
    isComplete = (flags & NGHTTP2_FLAG_END_STREAM) !== 0
    stream.respond(headers, { endStream: isComplete, waitForTrailers: !isComplete })
    if (!isComplete) call.pipe(stream)
  })
  call.on("trailers", (received) => {
    isComplete = true
    trailers = received
  })
  // A call that breaks ends as well, without trailers: its "close" tells that, and no empty ones are made up.
  stream.on("wantTrailers", () => {
    if (trailers !== undefined && !isOver(stream)) stream.sendTrailers(trailers)
  })
  call.on("close", () => {
    // What the client yet sends to a call that is over is not to fill its window.
    stream.unpipe(call)
    stream.resume()
    if (isComplete || isOver(stream)) return
    // Without the member's connection the client loses its own, as it would if there were no proxy between them.
    if (member.destroyed) cut(stream)
    else stream.close(call.rstCode || NGHTTP2_INTERNAL_ERROR)
  })
  const cancel = () => {
    if (!call.closed) call.close(stream.rstCode || NGHTTP2_CANCEL)
  }
  // The first comes before the end of what it sends, which would otherwise be passed on as a half-close.
  stream.on("aborted", cancel)
  stream.on("close", cancel)
}

/** Starts a proxy on a free loopback port in front of the member that listens on `memberPort`. */
export const startMemberProxy = async (memberPort: number): Promise<MemberProxy> => {
  const counts = new Map<string, number>()
  const clients = new Set<Http2.ServerHttp2Session>()
  let refusals: ReadonlyArray<Refusal> = []
  let member: Http2.ClientHttp2Session | undefined

  const connected = (): Http2.ClientHttp2Session => {
    if (member !== undefined && !member.closed && !member.destroyed) return member
    member = Http2.connect(`http://127.0.0.1:${memberPort}`, { maxSessionMemory })
    member.on("error", ignore)
    return member
  }

  const server = Http2.createServer({ maxSessionMemory })
  server.on("session", (session) => {
    clients.add(session)
    session.on("error", ignore)
    session.on("close", () => clients.delete(session))
  })
  server.on("stream", (stream, headers) => {
    const path = headers[":path"] ?? ""
    counts.set(path, (counts.get(path) ?? 0) + 1)
    stream.on("error", ignore)
    const refusal = refusals.find(({ method }) => method === undefined || method.test(path))
    if (refusal === undefined) forward(stream, headers, connected())
    else answer(stream, refusal)
  })
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, "127.0.0.1", resolve)
  })
  const { port } = server.address() as Net.AddressInfo

  return {
    port,
    url: `http://127.0.0.1:${port}`,
    refuse: (refusal) => {
      refusals = [refusal, ...refusals]
    },
    heal: () => {
      refusals = []
    },
    count: (method) => [...counts].reduce((sum, [path, count]) => method.test(path) ? sum + count : sum, 0),
    stop: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      clients.forEach((session) => session.socket.resetAndDestroy())
      member?.destroy()
      await closed
    }
  }
}
