/** A process that holds locks and waits for them, as the test tells it. */
import { onMessage, report } from "dlock-testing/report"
import { Deferred, Effect, Exit, Layer, ManagedRuntime } from "effect"
import { DistributedSemaphore, type Locker, withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"
import { RedisLocker } from "effect-dlock-redis"

/** What a caller is told. It holds `hold` and then, if there is a `then`, waits for that too, until it is told to release. */
export type Order =
  | {
    readonly hold: string
    readonly then?: string
    readonly ttl?: number
    readonly metadata?: Readonly<Record<string, string>>
    /** The capacity of a semaphore. */
    readonly of?: number
  }
  | { readonly release: string }

/** What a caller reports. */
export type Report = { readonly held: string } | { readonly ended: string; readonly error?: string }

const [driver, url, holder, prefix] = process.argv.slice(2) as [string, string, string, string]
const options = { holder, prefix, defaultTtl: "10 seconds" } as const

const layer: Layer.Layer<Locker, unknown> = driver === "etcd"
  ? EtcdLocker.layer({ hosts: [url], ...options })
  : RedisLocker.layer({ url, ...options })
const runtime = ManagedRuntime.make(layer)
const releases = new Map<string, Deferred.Deferred<void>>()

onMessage((message) => {
  const order = message as Order
  if ("release" in order) {
    const release = releases.get(order.release)
    if (release !== undefined) Deferred.doneUnsafe(release, Effect.void)
    return
  }
  const { hold, metadata, of, then, ttl } = order
  const release = Deferred.makeUnsafe<void>()
  releases.set(hold, release)
  const inside = (key: string, inner: Effect.Effect<void, unknown, Locker>) =>
    Effect.andThen(Effect.sync(() => report({ held: key } satisfies Report)), inner)
  const untilReleased = Deferred.await(release)
  const asked = { metadata, ttl }
  const work = inside(
    hold,
    then === undefined ? untilReleased : withLock(then, inside(then, untilReleased), asked)
  )
  const section = of === undefined
    ? withLock(hold, work, asked)
    : Effect.flatMap(DistributedSemaphore.make(hold, { permits: of }), (one) => one.withPermit(work, asked))
  void runtime.runPromiseExit(section).then((exit) =>
    report({ ended: hold, ...(Exit.isFailure(exit) && { error: String(exit.cause) }) } satisfies Report)
  )
})
