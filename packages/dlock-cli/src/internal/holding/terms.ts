import type { LockOptions } from "effect-dlock/Locker"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../backend.ts"
import { ChildCommand } from "../childCommand.ts"
import { exitCodes } from "../exitCodes.ts"
import { Failure } from "../failure.ts"

/** The flags that say how a lock is held. */
export interface LeaseFlags {
  readonly ttl: Option.Option<Duration.Duration>
  readonly guard: Option.Option<Duration.Duration>
  readonly metadata: Option.Option<Readonly<Record<string, string>>>
  readonly maxHold?: Option.Option<Duration.Duration>
}

/** How a lock is held. The times are in milliseconds. */
export interface Terms {
  readonly ttl: number
  readonly guardGap: number
  readonly options: LockOptions
}

const defaultTtl = 30_000

/** A reader that dies keeps every writer out for that long. It is the default of the library too. */
const longestUsualRead = 10_000

/**
 * The terms of a call: its flags, then the variables, then the defaults of the library. They are given with each call, since
 * the guardian of a command must know them.
 */
export const termsOf = (
  flags: LeaseFlags,
  isReader = false
): Effect.Effect<Terms, Config.ConfigError | Failure, Backend.Root> =>
  Effect.gen(function*() {
    const provider = yield* Backend.variables
    const read = <A>(name: string, parser: StoreOptions.Parser<A>) =>
      Effect.provideService(StoreOptions.variable(name, parser), ConfigProvider.ConfigProvider, provider)
    const usual = (yield* read("DLOCK_DEFAULT_TTL", StoreOptions.duration(100, StoreOptions.year))) ?? defaultTtl
    const gap = yield* read("DLOCK_GUARD_GAP", StoreOptions.duration(0, StoreOptions.year))
    const ttl = Option.match(flags.ttl, {
      onNone: () => isReader ? Math.min(usual, longestUsualRead) : usual,
      onSome: Duration.toMillis
    })
    const guardGap = Option.match(flags.guard, {
      onNone: () => gap ?? Math.max(100, ttl / 10),
      onSome: Duration.toMillis
    })
    return {
      ttl,
      guardGap,
      options: {
        ttl,
        guardGap,
        ...(Option.isSome(flags.metadata) && { metadata: flags.metadata.value }),
        ...(flags.maxHold !== undefined && Option.isSome(flags.maxHold) && { maxHold: flags.maxHold.value })
      }
    }
  })

/** The flags that say how to wait. */
export interface WaitingFlags {
  readonly isTry: boolean
  readonly wait: Option.Option<Duration.Duration>
}

/** How long to wait, as an option of the lock. Fails if the two flags contradict each other. */
export const timeoutOf = ({ isTry, wait }: WaitingFlags): Effect.Effect<LockOptions, Failure> =>
  isTry && Option.isSome(wait)
    ? usage("-n and -w contradict each other: -n does not wait, -w says how long")
    : Effect.succeed(Option.isSome(wait) ? { timeout: wait.value } : {})

export const usage = (message: string): Effect.Effect<never, Failure> =>
  Effect.fail(new Failure({ message, exitCode: exitCodes.usage }))

/** The command of a call: what is behind `--`, or a script for a shell. */
export const commandOf = (script: Option.Option<string>): Effect.Effect<ReadonlyArray<string>, Failure> =>
  Effect.flatMap(ChildCommand, (command) => {
    if (Option.isNone(script)) return Effect.succeed(command)
    return command.length === 0
      ? Effect.succeed(["sh", "-c", script.value])
      : usage("-c and a command behind -- exclude each other: there is one command")
  })
