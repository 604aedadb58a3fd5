// The work of one instance: each kind of lock has something to do, and instances are in each other's way.
import { Config, Cron, Effect, Layer, Option, Random, Schedule } from "effect"
import {
  DistributedSemaphore,
  Leader,
  Lease,
  Lock,
  type Locker,
  Once,
  type OwnershipLost,
  ReadWriteLock,
  type TryError,
  withLockIfAvailable
} from "effect-dlock"

/** The stock of a product. Metrics count it as `inventory`, whichever product it is. */
class InventoryLock extends Lock.Service<InventoryLock>()("inventory", {
  key: (product: number) => `inventory/${product}`,
  timeout: "10 seconds"
}) {}

/** Some work that takes between half as long and one and a half times as long. */
const work = (name: string, millis: number) =>
  Random.nextIntBetween(millis / 2, millis * 1.5).pipe(
    Effect.flatMap((taken) => Effect.sleep(taken)),
    Effect.withSpan(name)
  )

/** Does a job again and again. A job that fails is logged: the locks' own metrics count why. */
const forever = <A, E, R>(name: string, pause: number, job: Effect.Effect<A, E, R>) =>
  job.pipe(
    Effect.withSpan(name, { root: true, kind: "server" }),
    Effect.catchCause((cause) => Effect.logWarning(`${name} did not succeed`, cause)),
    Effect.andThen(Random.nextIntBetween(pause / 2, pause * 1.5)),
    Effect.flatMap((millis) => Effect.sleep(millis)),
    Effect.forever
  )

const order = Effect.flatMap(Random.nextIntBetween(1, 4), (product) =>
  work("reserve goods", 12).pipe(
    Effect.andThen(work("charge card", 18)),
    InventoryLock.withLock(product)
  ))

/** It holds a product's lock for so long that orders wait behind it. */
const stockCount = work("count the shelf", 500).pipe(
  Effect.andThen(work("write the difference", 120)),
  InventoryLock.withLock(1)
)

/** Takes longer than a ttl, so that its lock is renewed many times. Who finds each partition taken has nothing to do. */
const partition = (index = 1): Effect.Effect<void, TryError | OwnershipLost, Locker> =>
  withLockIfAvailable(`partitions/${index}`, work("move the partition on", 7_000), { name: "partitions" }).pipe(
    Effect.flatMap((done) => Option.isSome(done) || index === 3 ? Effect.void : partition(index + 1))
  )

const summaries = Effect.map(
  DistributedSemaphore.make("summaries", { permits: 4 }),
  ({ withPermit }) =>
    forever("summary", 60, withPermit(work("call the model", 80), { name: "summaries", timeout: "5 seconds" }))
)

const catalogue = Effect.map(ReadWriteLock.make("catalogue"), ({ withReadLock, withWriteLock }) =>
  Effect.all([
    forever("page", 40, withReadLock(work("render", 20), { name: "catalogue", timeout: "5 seconds" })),
    forever(
      "catalogue update",
      1_500,
      withWriteLock(() => work("rebuild the catalogue", 120), {
        name: "catalogue",
        timeout: "5 seconds"
      })
    )
  ], { concurrency: "unbounded", discard: true }))

const everyTwoSeconds = Cron.parseUnsafe("*/2 * * * * *")

const program = Effect.gen(function*() {
  const customers = yield* Config.Int("SHOP_CUSTOMERS").pipe(Config.withDefault(3))
  yield* Effect.all([
    ...Array.from({ length: customers }, () => forever("order", 50, order)),
    forever("stock count", 3_000, stockCount),
    forever("partition", 400, partition()),
    yield* summaries,
    yield* catalogue,
    Once.cron("jobs/rates", everyTwoSeconds, () => work("fetch exchange rates", 60), { name: "rates" })
  ], { concurrency: "unbounded", discard: true })
})

const mailer = Lease.use(({ fencingToken }) =>
  Effect.andThen(
    Effect.log(`leads in term ${fencingToken}`),
    Effect.repeat(work("send mail", 40), Schedule.spaced("200 millis"))
  )
)

/** The shop is open for as long as the layer is. */
export const layer = Layer.mergeAll(
  Layer.effectDiscard(Effect.forkScoped(program)),
  // Named, so that whoever waits to lead is told apart from callers that wait for work.
  Leader.layer("services/mailer", mailer)
)
