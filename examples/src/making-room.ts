// A batch job that makes room: it rebuilds a search index under a lock that short edits need too.
//
// What to learn from it:
// - `lease.contended` completes when somebody waits for the lock. So the job may hold it for as long as nobody else wants it,
//   and an edit waits for one chunk at most.
// - The chunks are uninterruptible, so the chunk under way is finished before the job gives way. Without that it would be
//   interrupted.
// - The job asks for the lock again behind those who wait. It finds out what was edited meanwhile, and goes on from there.
// - A call that does not wait (`withLockIfAvailable`) is nobody to make room for.
//
// Here the job and the edits are fibers of one process. Run it in several terminals, on one server, and they are processes.
import { NodeRuntime } from "@effect/platform-node"
import { Duration, Effect, Ref } from "effect"
import { withLock } from "effect-dlock"
import { LockerLive } from "./locker.ts"

const chunks = 40

const program = Effect.gen(function*() {
  const done = yield* Ref.make(0)

  const chunk = Effect.andThen(Effect.sleep("20 millis"), Ref.update(done, (count) => count + 1))
  const isDone = Effect.map(Ref.get(done), (count) => count >= chunks)

  /** Works until somebody waits, or until nothing is left. */
  const turn = withLock("index", (lease) =>
    Effect.raceFirst(
      Effect.repeat(Effect.uninterruptible(chunk), { until: () => isDone }),
      lease.contended
    ))
  const job = Effect.repeat(
    Effect.andThen(turn, Effect.flatMap(Ref.get(done), (count) => Effect.log(`leaves the lock after ${count} chunks`))),
    { until: () => isDone }
  ).pipe(Effect.annotateLogs({ who: "job" }))

  const edit = (name: string, after: Duration.Input) =>
    Effect.delay(Effect.timed(withLock("index", Effect.sleep("5 millis"))), after).pipe(
      Effect.flatMap(([took]) => Effect.log(`edited the index after ${Duration.toMillis(took).toFixed(0)} ms`)),
      Effect.annotateLogs({ who: name })
    )

  yield* Effect.all([job, edit("Ann", "200 millis"), edit("Bob", "210 millis"), edit("Cem", "450 millis")], {
    concurrency: "unbounded",
    discard: true
  })
  yield* Effect.log(`the index is rebuilt: ${yield* Ref.get(done)} chunks`)
})

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))
