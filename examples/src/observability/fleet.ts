// Instances of the service as processes, with what a fleet has around it: a server for the locks, a collector of traces
// and a Prometheus. One instance, "south", has a bad line to the server when it is told to.
import {
  freePorts,
  type Prometheus,
  type Proxy,
  type Server,
  startEtcd,
  startPrometheus,
  startProxy,
  startRedis,
  startWorker,
  type Worker
} from "dlock-testing"
import { Effect, Schedule } from "effect"
import type { ServerDriver } from "../servers.ts"
import { Collector } from "./collector.ts"

export const instances = ["north", "east", "south"] as const
export type Instance = typeof instances[number]

export interface Fleet {
  readonly prometheus: Prometheus
  readonly metricsUrls: Readonly<Record<Instance, string>>
  readonly processes: Readonly<Record<Instance, Worker<object>>>
  /** The line of "south" to the server of the locks. */
  readonly line: Proxy
}

export interface FleetOptions {
  readonly driver: ServerDriver
  /** Paths of files with rules for Prometheus. */
  readonly rules?: ReadonlyArray<string>
  readonly customers?: number
}

const started = <A extends { readonly stop: () => Promise<void> }>(start: () => Promise<A>) =>
  Effect.acquireRelease(Effect.promise(start), (one) => Effect.promise(() => one.stop()))

const servers: {
  readonly [Driver in ServerDriver]: {
    readonly variable: string
    readonly start: () => Promise<Server>
    readonly scheme: "redis" | "http"
  }
} = {
  redis: { variable: "DLOCK_REDIS_URL", start: () => startRedis({ args: ["--appendonly", "yes"] }), scheme: "redis" },
  etcd: { variable: "DLOCK_ETCD_HOSTS", start: () => startEtcd(), scheme: "http" }
}

const answers = (url: string) =>
  Effect.tryPromise(async () => {
    const response = await fetch(url)
    if (!response.ok) throw new Error(`${url} answers ${response.status}`)
  }).pipe(Effect.retry(Schedule.spaced("50 millis")), Effect.timeout("20 seconds"), Effect.orDie)

/** A fleet for as long as the scope is open. Each instance is scraped once a second, and its locks last three seconds. */
export const start = Effect.fnUntraced(function*({ customers = 3, driver, rules = [] }: FleetOptions) {
  const collector = yield* Collector
  const { scheme, start, variable } = servers[driver]
  const server = yield* started(start)
  const line = yield* started(() => startProxy(server.port, scheme))
  const ports = yield* Effect.promise(() => freePorts(instances.length))
  const byInstance = <A>(make: (instance: Instance, port: number) => A) =>
    Object.fromEntries(instances.map((name, index) => [name, make(name, ports[index]!)])) as Record<Instance, A>

  const processes = byInstance((instance, port) =>
    startWorker(`${import.meta.dirname}/service.ts`, {
      env: {
        DLOCK_DRIVER: driver,
        [variable]: instance === "south" ? line.url : server.url,
        DLOCK_DEFAULT_TTL: "3 seconds",
        DLOCK_HOLDER: `shop-${instance}`,
        METRICS_PORT: `${port}`,
        OTEL_SERVICE_NAME: "shop",
        OTEL_RESOURCE_ATTRIBUTES: `service.instance.id=${instance}`,
        OTEL_TRACES_EXPORTER: "otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_BSP_SCHEDULE_DELAY: "500",
        SHOP_CUSTOMERS: `${customers}`
      }
    })
  )
  yield* Effect.addFinalizer(() => Effect.promise(() => Promise.all(instances.map((name) => end(processes[name])))))
  const metricsUrls = byInstance((_, port) => `http://127.0.0.1:${port}/metrics`)
  yield* Effect.forEach(instances, (name) => answers(metricsUrls[name]), { concurrency: "unbounded" }).pipe(
    Effect.tapCause(() => Effect.logError(instances.map((name) => processes[name].output()).join("\n")))
  )
  const prometheus = yield* started(() =>
    startPrometheus({ targets: byInstance((_, port) => `127.0.0.1:${port}`), rules })
  )
  const fleet: Fleet = { prometheus, metricsUrls, processes, line }
  return fleet
})

/** As a container ends: asked first, killed after three seconds. */
const end = async (process: Worker<object>): Promise<void> => {
  process.signal("SIGCONT")
  process.signal("SIGTERM")
  const timer = setTimeout(() => void process.kill(), 3_000)
  await process.exited
  clearTimeout(timer)
}

/** A holder that is frozen, as a virtual machine can be, for longer than its locks last. */
export const freeze = ({ processes }: Fleet, instance: Instance) =>
  Effect.acquireUseRelease(
    Effect.sync(() => processes[instance].signal("SIGSTOP")),
    () => Effect.sleep("5 seconds"),
    () => Effect.sync(() => processes[instance].signal("SIGCONT"))
  )

/** A line on which nothing comes through for a moment now and then: some renewals are confirmed late. */
export const flakyLine = ({ line }: Fleet, times: number) =>
  Effect.sync(line.hold).pipe(
    Effect.andThen(Effect.sleep("1700 millis")),
    Effect.ensuring(Effect.sync(line.release)),
    Effect.andThen(Effect.sleep("1700 millis")),
    Effect.repeat({ times: times - 1 })
  )

/** A line on which nothing comes through, for longer than the locks last. */
export const deadLine = ({ line }: Fleet) =>
  Effect.acquireUseRelease(
    Effect.sync(line.hold),
    () => Effect.sleep("6 seconds"),
    () => Effect.sync(line.release)
  )

/** Which instance leads, as its own metrics say. */
export const leader = Effect.fnUntraced(function*({ metricsUrls }: Fleet) {
  const pages = yield* Effect.forEach(
    instances,
    (name) => Effect.promise(async () => (await fetch(metricsUrls[name])).text())
  )
  return instances.find((_, index) => /^dlock_leader\{.*\} 1$/m.test(pages[index]!)) ?? "north"
})
