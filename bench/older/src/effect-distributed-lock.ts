import { Effect, ManagedRuntime } from "effect"
import { DistributedSemaphore, RedisBacking } from "effect-distributed-lock"
import { Redis } from "ioredis"
import { failurePause, type Lock, type Task } from "../../src/contenders/contender.ts"

export const open = async (url: string, ttl: number): Promise<Lock> => {
  const redis = new Redis(url)
  await redis.ping()
  const runtime = ManagedRuntime.make(RedisBacking.layer(redis))
  const semaphore = (key: string, limit = 1) => DistributedSemaphore.make(key, { limit, ttl })

  const loop = (task: Task) => {
    const body = task.ms === 0
      ? Effect.sync(() => {
        task.entered()
        task.left()
      })
      : Effect.sync(task.entered).pipe(Effect.zipRight(Effect.sleep(task.ms)), Effect.zipRight(Effect.sync(task.left)))
    const limit = task.lock?.kind === "semaphore" ? task.lock.permits : 1
    return Effect.flatMap(semaphore(task.key, limit), ({ withPermits }) => {
      const section = withPermits(1)(body).pipe(
        Effect.catchAll((error) => Effect.delay(Effect.sync(() => task.failed(error)), failurePause))
      )
      return Effect.whileLoop({ while: task.again, body: () => section, step: () => {} })
    })
  }

  return {
    run: (tasks) => runtime.runPromise(Effect.forEach(tasks, loop, { concurrency: "unbounded", discard: true })),
    section: (key, body) =>
      runtime.runPromise(Effect.flatMap(semaphore(key), ({ withPermits }) => withPermits(1)(Effect.promise(body)))),
    bare: (body) => runtime.runPromise(Effect.promise(body)),
    close: async () => {
      await runtime.dispose()
      redis.disconnect()
    }
  }
}
