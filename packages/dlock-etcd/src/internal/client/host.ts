/** One member of the cluster: the connections to it and its auth token. */

import { LockBackendError } from "effect-dlock/LockError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { castGrpcError, Etcd3, type IOptions } from "etcd3"
import type { Duplex } from "./duplex.ts"
import { fromClient, isAboutToken, isWithoutAuth } from "./failure.ts"
import { KeepAlives } from "./keepAlives.ts"

/** The options of a call for the transport. */
interface CallOptions {
  /** When the call must end, in milliseconds on the wall clock, which the transport uses. */
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

/** The client's connections. They are private in the client, but its builders cannot express every option of a call. */
interface Connections {
  readonly withConnection: <A>(
    service: string,
    use: (given: { readonly resource: unknown; readonly client: Service; readonly metadata: Metadata }) => A
  ) => Promise<Awaited<A>>
  readonly markFailed: (resource: unknown, error: Error) => void
}

/**
 * A policy that executes each call once. By default the client repeats calls by itself and, after a few failures, refuses all
 * calls for seconds, releases included.
 */
const once = {
  execute: async <A>(call: (context: { readonly signal: AbortSignal }) => A): Promise<Awaited<A>> =>
    await untraced(() => call({ signal: notAborted }))
}
const notAborted = new AbortController().signal

/**
 * Runs without stack traces. The transport captures one for each call, about 5 % of its cost, for an error that this library
 * replaces anyway.
 */
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
 * One address of a cluster. Each host has its own etcd3 client, so that this library decides which member gets a call. Each
 * host has its own auth token, because each member expires tokens by itself.
 *
 * The token handling of etcd3 is not used. Each call that finds the token expired requests a new one, again and again if the
 * new one is refused too, and streams never request one.
 */
export class Host {
  private readonly client: Etcd3
  private readonly connections: Connections
  private readonly user: { readonly name: string; readonly password: string } | undefined
  /** `undefined` until the first call requests a token. Empty if the cluster has no authentication. */
  private token: string | undefined
  private asking: Promise<void> | undefined
  private keepAlives: KeepAlives | undefined
  private hasClosed = false
  /** When the member last answered anything, by `performance.now()`. */
  private heardAt = 0

  constructor(client: Etcd3, auth: IOptions["auth"]) {
    this.client = client
    this.connections = (client as unknown as { readonly pool: Connections }).pool
    this.user = auth && { name: auth.username, password: auth.password }
  }

  /** Makes one call. If the server refuses the token, the call is sent once more with a new token. */
  async call<A>(service: string, method: string, request: object, options: CallOptions): Promise<A> {
    return await this.withToken((token) => this.callAs(token, service, method, request, options))
  }

  /** Makes one exchange on a new stream and ends the stream. Like a call, it is repeated once with a new token. */
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

  /** Opens a stream that stays open. All requests on the stream use the token with which it was opened. */
  async open(service: string, method: string): Promise<Duplex> {
    return await this.withToken((token) => this.openAs(token, service, method, {}))
  }

  /** Sends one keep-alive on the shared stream. `limit` is how long it waits for the answer, in milliseconds. */
  async keepAlive(id: string, limit: number): Promise<number> {
    return await this.withToken(async (token) => {
      if (this.keepAlives?.isOver !== false) {
        const opened = new KeepAlives(await this.openAs(token, "Lease", "leaseKeepAlive", {}), () => this.heardAt)
        this.keepAlives = opened
        if (this.hasClosed) opened.close()
      }
      return await this.keepAlives.send(id, limit)
    })
  }

  /** Closes the connections and the stream of keep-alives, which would keep the process alive. */
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
      // Another call may have replaced the token since.
      if (this.token === used) await this.renewToken()
      return await use(this.token!)
    }
  }

  /** Requests a token. Callers share the pending request, because the server takes about 100 ms to check a password. */
  private renewToken(): Promise<void> {
    this.asking ??= this.callAs<{ readonly token: string }>("", "Auth", "authenticate", this.user!, {
      deadline: Date.now() + authLimit
    }).then(({ token }) => void (this.token = token), (error: unknown) => {
      // The cluster has no authentication.
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
      stream.on("data", () => {
        this.heardAt = performance.now()
      })
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
          if (error === null) {
            this.heardAt = performance.now()
            resolve(reply)
          } else reject(castGrpcError(error))
        })
      })
    })
  }
}

/** Makes a host, which connects at its first call. The host closes with the scope. */
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
  // These settings detect a dead connection within 10 seconds. Servers disconnect clients that ping more often.
  grpcOptions: {
    ...target.grpcOptions,
    "grpc.keepalive_time_ms": 8_000,
    "grpc.keepalive_timeout_ms": 2_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
    // The transport shares a connection among all clients with the same settings. A layer that loses its connection could not
    // make a new one while another layer of the process has the same.
    "dlock.layer": nextLayer++
  } as IOptions["grpcOptions"] & object
})

let nextLayer = 0

/** How long a request for a token may take, in milliseconds. */
const authLimit = 2_000
