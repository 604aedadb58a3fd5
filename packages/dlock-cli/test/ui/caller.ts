/** A process that holds locks and waits for them, as the test tells it. */
import { onMessage, report } from "dlock-testing/report"
import { Deferred, Effect, Exit, type Layer, ManagedRuntime } from "effect"
import { DistributedSemaphore, type Locker, withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"
import { RedisLocker } from "effect-dlock-redis"

/** What a caller is told. It holds `hold` until it is told to release it; with a `next`, it waits for that too when told to. */
export type Order =
  | {
    readonly hold: string
    readonly next?: string
    readonly ttl?: number
    readonly metadata?: Readonly<Record<string, string>>
    /** The capacity of a semaphore. */
    readonly of?: number
  }
  | { readonly proceed: string }
  | { readonly release: string }

/** What a caller reports. */
export type Report = { readonly held: string } | { readonly ended: string; readonly error?: string }

const [driver, url, holder, prefix] = process.argv.slice(2) as [string, string, string, string]
const options = { holder, prefix, defaultTtl: "10 seconds" } as const

const layer: Layer.Layer<Locker, unknown> = driver === "etcd"
  ? EtcdLocker.layer({ hosts: [url], ...options })
  : RedisLocker.layer({ url, ...options })
const runtime = ManagedRuntime.make(layer)
const gates = new Map<string, Deferred.Deferred<void>>()
const gate = (name: string) => {
  const one = Deferred.makeUnsafe<void>()
  gates.set(name, one)
  return Deferred.await(one)
}
const open = (name: string) => {
  const one = gates.get(name)
  if (one !== undefined) Deferred.doneUnsafe(one, Effect.void)
}

onMessage((message) => {
  const order = message as Order
  if ("release" in order) return open(`release ${order.release}`)
  if ("proceed" in order) return open(`proceed ${order.proceed}`)
  const { hold, metadata, next, of, ttl } = order
  const untilReleased = gate(`release ${hold}`)
  const untilTold = gate(`proceed ${hold}`)
  const inside = (key: string, inner: Effect.Effect<void, unknown, Locker>) =>
    Effect.andThen(Effect.sync(() => report({ held: key } satisfies Report)), inner)
  const asked = { metadata, ttl }
  const work = inside(
    hold,
    next === undefined ? untilReleased : Effect.andThen(untilTold, withLock(next, inside(next, untilReleased), asked))
  )
  const section = of === undefined
    ? withLock(hold, work, asked)
    : Effect.flatMap(DistributedSemaphore.make(hold, { permits: of }), (one) => one.withPermit(work, asked))
  void runtime.runPromiseExit(section).then((exit) =>
    report({ ended: hold, ...(Exit.isFailure(exit) && { error: String(exit.cause) }) } satisfies Report)
  )
})
