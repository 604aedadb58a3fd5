/** One member of the cluster: its connections, and the token that it is asked with. */

import { LockBackendError } from "effect-dlock/LockError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { castGrpcError, Etcd3, type IOptions } from "etcd3"
import type { Duplex } from "./duplex.ts"
import { fromClient, isAboutToken, isWithoutAuth } from "./failure.ts"
import { KeepAlives } from "./keepAlives.ts"

/** What a call is to be known by: when it must be over, by the wall clock, which the transport counts by. */
interface CallOptions {
  readonly deadline: number
}

/** The transport's own client of one service. */
type Service = Readonly<
  Record<
    string,
    & ((request: object, metadata: Metadata, options: object, told: (error: Error | null, reply: any) => void) => void)
    & ((metadata: Metadata, options: object) => Duplex & { readonly writable: boolean })
  >
>

interface Metadata {
  readonly set: (name: string, value: string) => void
}

/** The client's connections, which it keeps to itself: its builders cannot say all that a call can. */
interface Connections {
  readonly withConnection: <A>(
    service: string,
    use: (given: { readonly resource: unknown; readonly client: Service; readonly metadata: Metadata }) => A
  ) => Promise<Awaited<A>>
  readonly markFailed: (resource: unknown, error: Error) => void
}

/**
 * The client would repeat calls behind our back and, after a few failures, refuse them all for seconds, releases
 * included. It does what it is told, once.
 */
const once = {
  execute: async <A>(call: (context: { readonly signal: AbortSignal }) => A): Promise<Awaited<A>> =>
    await untraced(() => call({ signal: notAborted }))
}
const notAborted = new AbortController().signal

/** The transport captures a stack trace for each call, a twentieth of its cost, for an error that we replace anyway. */
const untraced = <A>(run: () => A): A => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  try {
    return run()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

/**
 * One address of a cluster: a client of its own, so that we decide who is asked, and a token of its own, since each
 * member lets a token run out for itself.
 *
 * The client's own tokens are not used: it asks for one in each call that finds the old one over, again and again where
 * a new one is refused too, and for its streams not at all.
 */
export class Host {
  private readonly client: Etcd3
  private readonly connections: Connections
  private readonly user: { readonly name: string; readonly password: string } | undefined
  /** Absent until the first call asks for one; empty where the cluster wants none. */
  private token: string | undefined
  private asking: Promise<void> | undefined
  private keepAlives: KeepAlives | undefined
  private hasClosed = false

  constructor(client: Etcd3, auth: IOptions["auth"]) {
    this.client = client
    this.connections = (client as unknown as { readonly pool: Connections }).pool
    this.user = auth && { name: auth.username, password: auth.password }
  }

  /** One call. Where the token was at fault it is asked once more with a new one. */
  async call<A>(service: string, method: string, request: object, options: CallOptions): Promise<A> {
    return await this.withToken((token) => this.callAs(token, service, method, request, options))
  }

  /** What is said over a stream that is ended with the answer. Like a call, it is said once more with a new token. */
  async exchange<A>(
    service: string,
    method: string,
    options: CallOptions,
    use: (stream: Duplex) => Promise<A>
  ): Promise<A> {
    return await this.withToken(async (token) => {
      const stream = await this.openAs(token, service, method, options)
      try {
        return await use(stream)
      } finally {
        stream.end()
      }
    })
  }

  /** A stream that stays, with the token of this moment: what is asked on it later is asked with that too. */
  async open(service: string, method: string): Promise<Duplex> {
    return await this.withToken((token) => this.openAs(token, service, method, {}))
  }

  /** One keep-alive on the stream that stays for those. Milliseconds: how long an answer is waited for. */
  async keepAlive(id: string, limit: number): Promise<number> {
    return await this.withToken(async (token) => {
      if (this.keepAlives?.isOver !== false) {
        const opened = new KeepAlives(await this.openAs(token, "Lease", "leaseKeepAlive", {}))
        this.keepAlives = opened
        if (this.hasClosed) opened.close()
      }
      return await this.keepAlives.send(id, limit)
    })
  }

  /** Closes the connections. A stream that stayed open would keep the process alive. */
  close(): void {
    this.hasClosed = true
    this.keepAlives?.close()
    this.client.close()
  }

  private async withToken<A>(use: (token: string) => Promise<A>): Promise<A> {
    if (this.user === undefined) return await use("")
    if (this.token === undefined) await this.renewToken()
    const used = this.token!
    try {
      return await use(used)
    } catch (error) {
      if (!isAboutToken(error)) throw error
      // Another call may have been told the same before, and have a new one by now.
      if (this.token === used) await this.renewToken()
      return await use(this.token!)
    }
  }

  /** One request for all who need one meanwhile: the server takes a tenth of a second over a password. */
  private renewToken(): Promise<void> {
    this.asking ??= this.callAs<{ readonly token: string }>("", "Auth", "authenticate", this.user!, {
      deadline: Date.now() + authLimit
    }).then(({ token }) => void (this.token = token), (error: unknown) => {
      // The cluster asks nobody who they are.
      if (!isWithoutAuth(error)) throw error
      this.token = ""
    }).finally(() => {
      this.asking = undefined
    })
    return this.asking
  }

  private openAs(token: string, service: string, method: string, options: object): Promise<Duplex> {
    return this.connections.withConnection(service, ({ client, metadata, resource }) => {
      if (token !== "") metadata.set("token", token)
      const stream = client[method]!(metadata, options)
      stream.on("error", (error) => {
        if (stream.writable) this.connections.markFailed(resource, error as Error)
      })
      return stream
    })
  }

  private callAs<A>(
    token: string,
    service: string,
    method: string,
    request: object,
    options: CallOptions
  ): Promise<A> {
    return this.connections.withConnection(service, ({ client, metadata }) => {
      if (token !== "") metadata.set("token", token)
      return new Promise<A>((resolve, reject) => {
        client[method]!(request, metadata, options, (error, reply) => {
          if (error === null) resolve(reply)
          else reject(castGrpcError(error))
        })
      })
    })
  }
}

/** Connects when it is first asked something. Closed with the scope. */
export const connect = (
  target: IOptions,
  address: string
): Effect.Effect<Host, LockBackendError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try({
      try: () => new Host(new Etcd3(safe(target, address)), target.auth),
      catch: (error) => new LockBackendError({ operation: "connect", retryable: false, cause: fromClient(error).cause })
    }),
    (host) => Effect.sync(() => host.close())
  )

const safe = (target: IOptions, host: string): IOptions => ({
  hosts: host,
  ...(target.credentials !== undefined && { credentials: target.credentials }),
  faultHandling: { host: () => once as never, global: once as never },
  // A connection that has gone silent is noticed within ten seconds; servers punish a shorter time.
  grpcOptions: {
    ...target.grpcOptions,
    "grpc.keepalive_time_ms": 8_000,
    "grpc.keepalive_timeout_ms": 2_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500
  }
})

/** Milliseconds. */
const authLimit = 2_000
