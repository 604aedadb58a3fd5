import { open, type Promised } from "dlock-torture-peers"
import { Effect } from "effect"
import type { peers } from "./index.ts"
import type { Make, Subject } from "./subject.ts"

/** A library that speaks in promises. Its holder hears of a loss by a signal, if at all, and has no token. */
export const subjectOf = (library: Promised): Subject => ({
  hold: (ask, body) =>
    Effect.promise((signal) =>
      library.run(ask, signal, (lost) =>
        Effect.runPromise(
          body({
            token: undefined,
            ttl: ask.ttl,
            age: 0,
            holds: undefined,
            lost: Effect.callback((resume) => {
              const tell = () => resume(Effect.succeed({ reason: "told", ago: undefined }))
              if (lost.aborted) return tell()
              lost.addEventListener("abort", tell)
              return Effect.sync(() => lost.removeEventListener("abort", tell))
            })
          }),
          // Told to stop, it stops: as a program that follows its signal would.
          { signal: lost }
        ))
    )
})

export const peer = (name: keyof typeof peers): Make => (address) =>
  address.kind !== "redis"
    ? Effect.die(new Error(`${name} is tortured on one Redis only`))
    : Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => open(name, address.port)),
        (library) => Effect.promise(() => library.close())
      ),
      subjectOf
    )
