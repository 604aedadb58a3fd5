import { Effect, type Layer, ManagedRuntime, References } from "effect"
import { DistributedSemaphore, Locker, ReadWriteLock, withLock } from "effect-dlock"
import { failurePause, type Lock, type Task } from "./contender.ts"

/** Our own, by what users call. All tasks are fibers of one runtime. */
export const over = async <E>(layer: Layer.Layer<Locker, E>): Promise<Lock> => {
  const runtime = ManagedRuntime.make(layer)
  const quiet = Effect.provideService(References.MinimumLogLevel, "Error")
  // The servers of a benchmark keep nothing on disk, and the library warns of that.
  await runtime.runPromise(quiet(Effect.asVoid(Effect.context<Locker>())))

  /** The section of a task's lock, of a write where that is asked for. */
  const sectionOf = ({ key, lock, writes }: Task, body: Effect.Effect<void>) => {
    switch (lock?.kind) {
      case undefined:
        return Effect.succeed(withLock(key, body))
      case "semaphore":
        return Effect.map(DistributedSemaphore.make(key, { permits: lock.permits }), (one) => one.withPermit(body))
      case "readWrite":
        return Effect.map(ReadWriteLock.make(key), (one) => {
          const [read, write] = [one.withReadLock(body), one.withWriteLock(body)]
          return Effect.suspend(() => writes() ? write : read)
        })
    }
  }

  const loop = (task: Task) => {
    const body = task.ms === 0
      ? Effect.sync(() => {
        task.entered()
        task.left()
      })
      : Effect.sync(task.entered).pipe(Effect.andThen(Effect.sleep(task.ms)), Effect.andThen(Effect.sync(task.left)))
    return Effect.flatMap(sectionOf(task, body), (one) => {
      const section = Effect.catch(
        one as Effect.Effect<void, unknown, Locker>,
        (error) => Effect.delay(Effect.sync(() => task.failed(error)), failurePause)
      )
      return Effect.whileLoop({ while: task.again, body: () => section, step: () => {} })
    })
  }

  return {
    run: (tasks) => runtime.runPromise(Effect.forEach(tasks, loop, { concurrency: "unbounded", discard: true })),
    section: (key, body) => runtime.runPromise(withLock(key, Effect.promise(body))),
    bare: (body) => runtime.runPromise(Effect.promise(body)),
    hold: (keys, until, held) =>
      runtime.runPromise(Effect.scoped(
        Effect.forEach(keys, (key) => Effect.tap(Locker.scoped(key), () => Effect.sync(held)), {
          concurrency: 64,
          discard: true
        }).pipe(Effect.andThen(Effect.promise(() => until)))
      )),
    close: () => runtime.dispose()
  }
}
