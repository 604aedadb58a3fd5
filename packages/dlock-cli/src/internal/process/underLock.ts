import type { Revocation } from "effect-dlock/LockStore"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Failure } from "../failure.ts"
import { shown } from "../shown.ts"
import { Child, type Held } from "./child.ts"
import { environment, type Told } from "./command.ts"
import type { Signals } from "./signals.ts"
import { uptime } from "./uptime.ts"

/** What a command needs of the lease that it runs under. */
export interface Under extends Told {
  readonly remaining: Effect.Effect<Duration.Duration>
  readonly revocation: Effect.Effect<Revocation>
}

export interface Job {
  readonly command: ReadonlyArray<string>
  readonly signals: Signals
  /** Hears the exit code, before the lock is released. */
  readonly onEnded: (code: number) => void
  /** In milliseconds. */
  readonly ttl: number
  /** In milliseconds. */
  readonly guardGap: number
}

/**
 * Runs a command under a lease that is held, and returns its exit code when its whole group has ended. Its interruption
 * asks the group to end, and kills it when three quarters of the guard gap are over.
 */
export const underLock = (
  lease: Under,
  { command, guardGap, onEnded, signals, ttl }: Job
): Effect.Effect<number, Failure> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(heldOf(lease), (held) => {
      // This process was stopped since the grant: its loss is on the way, and ends this.
      if (held.remaining <= 0) return restore(Effect.never)
      const child = new Child(command, environment(lease), guardGap, held)
      child.onGuardianGone = () =>
        void process.stderr.write(
          "dlock: the guardian of the command has been ended: if dlock is killed too, nobody ends the command\n"
        )
      // A command that waits for its terminal forever must not be stopped without its lock.
      const onStop = () => void process.stderr.write("dlock: goes on, because a lock cannot be suspended\n")
      if (!child.isOnTerminal) process.on("SIGTSTP", onStop)
      const ended = Effect.tryPromise({ try: () => child.ended, catch: (error) => error as Failure })
      const extend = Effect.map(heldOf(lease), (held) => child.extend(held))
      const told = Effect.forever(Effect.delay(extend, ttl * toldEach))
      const revoked = Effect.flatMap(lease.revocation, tellRevocation)
      const beside = Effect.all([told, revoked], { concurrency: "unbounded", discard: true })
      return restore(Effect.raceFirst(ended, Effect.andThen(beside, Effect.never))).pipe(
        Effect.onInterrupt(() => child.stop),
        Effect.ensuring(Effect.sync(() => process.removeListener("SIGTSTP", onStop))),
        signals.passTo((signal) => child.signal(signal)),
        Effect.tap((code) => Effect.sync(() => onEnded(code)))
      )
    })
  )

const heldOf = (lease: Under): Effect.Effect<Held> =>
  Effect.suspend(() => {
    const at = uptime()
    const now = performance.now()
    return Effect.map(lease.remaining, (left) => ({ at, now, remaining: Duration.toMillis(left) }))
  })

/** After which part of the ttl the guardian hears of the deadline again. A renewal moves it after a third. */
const toldEach = 1 / 12

const tellRevocation = ({ by, grace, why }: Revocation): Effect.Effect<void> => {
  const reason = why === undefined ? "" : `: ${shown(why)}`
  const seconds = Duration.toSeconds(grace)
  return Console.error(
    `dlock: ${shown(by)} revokes the lock${reason}; the command is asked to end in ${seconds} s`
  )
}
