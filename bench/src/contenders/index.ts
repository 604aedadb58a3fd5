import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Lock, SharedLock } from "./contender.ts"

export type Backend = "redis" | "etcd"

/** One of those who are compared. */
export interface Contender {
  readonly name: string
  readonly backend: Backend
  readonly role: "ours" | "floor" | "peer"
  /** The packages whose versions belong beside its figures. */
  readonly packages: ReadonlyArray<string>
  /** How it was set up, for readers. */
  readonly settings: string
  /** Commands that it sends as they are and that scripts do not run: what is counted besides scripts and connections. */
  readonly sends: ReadonlyArray<string>
  /** At which fraction of the time to live, or how long before its end, it renews; absent where it does not. */
  readonly renewsAfter?: (ttl: number) => number
  /** What it has beside mutexes. */
  readonly shares?: ReadonlyArray<SharedLock["kind"]>
  readonly load: () => Promise<{ readonly open: (url: string, ttl: number) => Promise<Lock> }>
}

export const contenders: ReadonlyArray<Contender> = [
  {
    name: "SET NX PX",
    backend: "redis",
    role: "floor",
    packages: ["ioredis"],
    settings:
      "`SET NX PX` and a compare-and-delete script, by ioredis. Asks again every 5 to 15 ms. Renews nothing. **The floor.**",
    sends: ["set"],
    load: () => import("./plain-redis.ts")
  },
  {
    name: "effect-dlock-redis",
    backend: "redis",
    role: "ours",
    packages: ["effect", "ioredis"],
    settings: "`withLock`, as its layer comes. All tasks of a process are fibers of one runtime.",
    sends: [],
    renewsAfter: (ttl) => ttl / 3,
    shares: ["semaphore", "readWrite"],
    load: () => import("./ours-redis.ts")
  },
  {
    name: "redis-semaphore",
    backend: "redis",
    role: "peer",
    packages: ["redis-semaphore", "ioredis"],
    settings: "`Mutex`. Asks every 10 ms (its default); `acquireTimeout: Infinity`.",
    sends: ["set"],
    renewsAfter: (ttl) => ttl * 0.8,
    shares: ["semaphore"],
    load: () => import("./redis-semaphore.ts")
  },
  {
    name: "redlock",
    backend: "redis",
    role: "peer",
    packages: ["@sesamecare-oss/redlock", "ioredis"],
    settings: "`@sesamecare-oss/redlock`, `using`, one Redis. Asks every 200 ± 100 ms (its default); `retryCount: -1`.",
    sends: [],
    renewsAfter: (ttl) => ttl - 500 - Math.round(ttl * 0.01) - 2,
    load: () => import("./redlock.ts")
  },
  {
    name: "redlock-universal",
    backend: "redis",
    role: "peer",
    packages: ["redlock-universal", "ioredis"],
    settings: "`createLock(…).using`. Asks every 100 ms (its default); `retryAttempts` without end.",
    sends: ["set"],
    renewsAfter: (ttl) => ttl * 0.8,
    load: () => import("./redlock-universal.ts")
  },
  {
    name: "verrou",
    backend: "redis",
    role: "peer",
    packages: ["@verrou/core", "ioredis"],
    settings: "`@verrou/core`, `createLock(…).run`. Asks every 250 ms without end (its default). Renews nothing.",
    sends: ["set"],
    load: () => import("../../older/src/verrou.ts")
  },
  {
    name: "effect-distributed-lock",
    backend: "redis",
    role: "peer",
    packages: ["effect-distributed-lock", "effect", "ioredis"],
    settings:
      "`DistributedSemaphore` with one permit, `withPermits`, on Effect 3. Woken by messages, asks every 100 ms besides (its default).",
    sends: [],
    renewsAfter: (ttl) => ttl / 3,
    shares: ["semaphore"],
    load: () => import("../../older/src/effect-distributed-lock.ts")
  },
  {
    name: "put if absent",
    backend: "etcd",
    role: "floor",
    packages: ["etcd3"],
    settings:
      "A transaction that puts if absent, under one lease of the process, and one that compares and deletes, by etcd3. Asks again every 5 to 15 ms. **The floor.**",
    sends: [],
    load: () => import("./plain-etcd.ts")
  },
  {
    name: "effect-dlock-etcd",
    backend: "etcd",
    role: "ours",
    packages: ["effect", "etcd3"],
    settings: "`withLock`, as its layer comes. All tasks of a process are fibers of one runtime.",
    sends: [],
    renewsAfter: (ttl) => ttl / 3,
    shares: ["semaphore", "readWrite"],
    load: () => import("./ours-etcd.ts")
  },
  {
    name: "etcd3 Lock",
    backend: "etcd",
    role: "peer",
    packages: ["etcd3"],
    settings: "`client.lock(…)`, a lease for each lock. It cannot wait: asked again every 5 to 15 ms, as the floor.",
    sends: [],
    renewsAfter: (ttl) => ttl / 3,
    load: () => import("./etcd3-lock.ts")
  }
]

export const named = (name: string): Contender => {
  const found = contenders.find((contender) => contender.name === name)
  if (found === undefined) throw new Error(`No contender is called ${name}.`)
  return found
}

const here = import.meta.dirname
const older = new Set(["@verrou/core", "effect-distributed-lock"])

/** The versions of what a contender runs on. */
export const versionsOf = ({ packages }: Contender): string => {
  const home = Path.join(here, packages.some((name) => older.has(name)) ? "../../older" : "../..", "node_modules")
  return packages.map((name) => {
    const { version } = JSON.parse(Fs.readFileSync(Path.join(home, name, "package.json"), "utf8")) as {
      readonly version: string
    }
    return `${name} ${version}`
  }).join(", ")
}
