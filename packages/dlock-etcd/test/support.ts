import { etcdctl, etcdctlProgram, find, freePorts, type Proxy, type Server, startEtcd } from "dlock-testing"
import * as Live from "dlock-testing/live"
import { Context, Effect, Layer, type Scope } from "effect"
import { type LockBackendError, Locker, LockStore } from "effect-dlock"
import { EtcdLocker, type EtcdLockerOptions } from "effect-dlock-etcd"
import type { ConfigError } from "effect/Config"
import { Etcd3 } from "etcd3"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { open } from "../src/internal/client/connection.ts"
import type { Port } from "../src/internal/client/port.ts"
import { parse } from "../src/internal/options.ts"
import * as Store from "../src/internal/store/store.ts"

/** An etcd server for one test, which the test may stop, freeze and kill. */
export const server = (...args: ReadonlyArray<string>): Effect.Effect<Server, never, Scope.Scope> =>
  Live.started(() => startEtcd(args))

export { eventually, lag, timed, within } from "dlock-testing/live"

/** A plain client, with which a test reads and changes keys. */
export const plainClient = (url: string): Effect.Effect<Etcd3, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Etcd3({ hosts: url })),
    (client) => Effect.sync(() => client.close())
  )

export const proxyTo = (port: number): Effect.Effect<Proxy, never, Scope.Scope> => Live.proxyTo(port, "http")

/** A locker with its own connections. The server cannot distinguish it from another process. */
export const locker = (
  options: EtcdLockerOptions
): Effect.Effect<Locker["Service"], ConfigError | LockBackendError, Scope.Scope> =>
  Effect.map(Layer.build(Layer.fresh(EtcdLocker.layer(options))), (context) => Context.get(context, Locker))

/** The setting of a test with one server, and the methods of its locker. */
export interface Setting extends Readonly<Locker["Service"]> {
  readonly etcd: Server
  readonly admin: Etcd3
  /** Makes another locker, directly at the server: another process. */
  readonly another: Effect.Effect<Locker["Service"], ConfigError | LockBackendError, Scope.Scope>
}

/** Starts a server for the test, and a locker over it. */
export const setting = (
  options?: Partial<EtcdLockerOptions>
): Effect.Effect<Setting, ConfigError | LockBackendError, Scope.Scope> =>
  Effect.gen(function*() {
    const etcd = yield* server()
    const admin = yield* plainClient(etcd.url)
    const another = locker({ hosts: etcd.url, ...options })
    return { etcd, admin, another, ...yield* another }
  })

/** Starts a server for the test, and a locker that reaches it through a proxy. */
export const proxiedSetting = (options?: Partial<EtcdLockerOptions>): Effect.Effect<
  Setting & { readonly proxy: Proxy },
  ConfigError | LockBackendError,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const etcd = yield* server()
    const admin = yield* plainClient(etcd.url)
    const proxy = yield* proxyTo(etcd.port)
    const another = locker({ hosts: etcd.url, ...options })
    return { etcd, admin, proxy, another, ...yield* locker({ hosts: proxy.url, ...options }) }
  })

/** A locker over a port whose calls a test may change. */
export const lockerOver = (hosts: string, meddle: (port: Port) => Port): Effect.Effect<
  Locker["Service"],
  ConfigError | LockBackendError,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const settings = yield* parse({ hosts })
    const store = Layer.effect(LockStore, Effect.flatMap(open(settings), (port) => Store.make(meddle(port))))
    return Context.get(yield* Layer.build(Layer.fresh(Layer.provide(Locker.layer(), store))), Locker)
  })

/** All keys of the server, tombstones included. */
export const keys = (client: Etcd3): Promise<ReadonlyArray<string>> => client.getAll().keys()

/** The claims in a lock's queue. */
export const claims = async (client: Etcd3, name: string): Promise<ReadonlyArray<string>> =>
  await client.getAll().prefix(`${name}/`).sort("Create", "Ascend").keys()

export const leases = async (client: Etcd3): Promise<ReadonlyArray<string>> =>
  (await client.leaseClient.leaseLeases()).leases.map(({ ID }) => ID)

/** The leases of the server, without those that carry only tombstones: these end by themselves. */
export const leasesOfClaims = async (client: Etcd3): Promise<ReadonlyArray<string>> => {
  const all = await leases(client)
  const states = await Promise.all(all.map((ID) => client.leaseClient.leaseTimeToLive({ ID, keys: true })))
  return all.filter((_, index) => {
    const on = states[index]!.keys.map(String)
    return on.length === 0 || !on.every((key) => key.includes("\0"))
  })
}

/** How many requests of each kind the server has received so far. */
export const requests = async (url: string): Promise<Readonly<Record<string, number>>> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  const counts: Record<string, number> = {}
  for (const [, method, count] of text.matchAll(/^grpc_server_started_total\{grpc_method="(\w+)".*\} (\S+)$/gm)) {
    counts[method as string] = Number(count)
  }
  return counts
}

/** Waits until this many watches are open at the server. */
export const watched = (url: string, count: number): Effect.Effect<void> =>
  Live.eventually(`${count} watches are open`, async () => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return Number(/^etcd_debugging_mvcc_watcher_total (\S+)$/m.exec(text)?.[1]) >= count
  })

/** The requests between two counts. Kinds without a request are left out. */
export const since = (
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>
): Readonly<Record<string, number>> =>
  Object.fromEntries(
    Object.entries(after).map(([method, count]) => [method, count - (before[method] ?? 0)] as const)
      .filter(([, count]) => count !== 0)
  )

export { etcdctl as ctl } from "dlock-testing"

/** An `etcdctl lock` process that holds the lock until `unlock`. */
export interface Foreign {
  readonly locked: () => boolean
  readonly unlock: Effect.Effect<void>
}

export const ctlLock = (url: string, name: string): Effect.Effect<Foreign, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(etcdctlProgram(), [`--endpoints=${url}`, "lock", "--ttl=20", name], {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ETCDCTL_API: "3" }
      })
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output += text
      })
      child.stderr.setEncoding("utf8").on("data", (text: string) => console.error(text))
      const unlock = Effect.promise(() =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) return resolve()
          child.once("exit", () => resolve())
          child.kill("SIGINT")
        })
      )
      return { child, foreign: { locked: () => output.includes(name), unlock } }
    }),
    ({ child }) => Effect.sync(() => void child.kill("SIGKILL"))
  ).pipe(Effect.map(({ foreign }) => foreign))

/** A member that can be killed and started again with its data on disk. */
export interface Member {
  readonly url: string
  readonly port: number
  readonly signal: (signal: NodeJS.Signals) => void
  readonly kill: () => Promise<void>
  readonly start: () => Promise<void>
  /** Replaces the data on disk by that of a snapshot. The member must be the only one, and must be killed. */
  readonly restore: (snapshot: string) => Promise<void>
  readonly leads: () => Promise<boolean>
}

/** A cluster whose members restart with the same names, ports and folders. */
export const members = (count: number): Effect.Effect<ReadonlyArray<Member>, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-members-"))
      const ports = await freePorts(count * 2)
      const peers = ports.slice(count).map((port) => `http://127.0.0.1:${port}`)
      const all = peers.map((peer, index) => member(dir, index, ports[index]!, peer, peers))
      await Promise.all(all.map((one) => one.start()))
      return { all, dir }
    }),
    ({ all, dir }) =>
      Effect.promise(async () => {
        await Promise.all(all.map((one) => one.kill()))
        Fs.rmSync(dir, { recursive: true, force: true })
      })
  ).pipe(Effect.map(({ all }) => all))

const member = (dir: string, index: number, port: number, peer: string, peers: ReadonlyArray<string>): Member => {
  const url = `http://127.0.0.1:${port}`
  let child: ChildProcess | undefined
  const onExit = () => void child?.kill("SIGKILL")
  return {
    url,
    port,
    signal: (signal) => void child?.kill(signal),
    kill: async () => {
      const gone = child && new Promise((resolve) => child!.once("exit", resolve))
      child?.kill("SIGKILL")
      await gone
      child = undefined
      process.off("exit", onExit)
    },
    start: async () => {
      process.once("exit", onExit)
      child = spawn(find("etcd"), [
        `--name=m${index}`,
        `--data-dir=${dir}/m${index}`,
        `--listen-client-urls=${url}`,
        `--advertise-client-urls=${url}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=${peers.map((peer, index) => `m${index}=${peer}`).join(",")}`,
        "--heartbeat-interval=50",
        "--election-timeout=500"
      ], { stdio: "ignore" })
      const until = performance.now() + 20_000
      while (!await answersHealthy(url)) {
        if (performance.now() > until) throw new Error(`${url} is not healthy`)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    },
    restore: async (snapshot) => {
      Fs.rmSync(`${dir}/m${index}`, { recursive: true, force: true })
      await etcdctl(
        url,
        "snapshot",
        "restore",
        snapshot,
        `--name=m${index}`,
        `--data-dir=${dir}/m${index}`,
        `--initial-cluster=m${index}=${peer}`,
        `--initial-advertise-peer-urls=${peer}`
      )
    },
    leads: async () => {
      const text = await (await fetch(`${url}/metrics`)).text()
      return /^etcd_server_is_leader 1$/m.test(text)
    }
  }
}

const answersHealthy = async (url: string): Promise<boolean> => {
  try {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(1_000) })
    return (await response.json() as { readonly health: string }).health === "true"
  } catch {
    return false
  }
}

/** Waits until this many claims are in the queue of `k`. */
export const queued = (hosts: string, count: number, key = "k") =>
  Effect.gen(function*() {
    const admin = yield* plainClient(hosts)
    const standing = () => admin.getAll().prefix(`dlock:${key}/`).count()
    // Many claims need some time to enter.
    yield* Live.eventually(`${count} stand there`, async () => await standing() === count, 5_000 + 20 * count)
  })
