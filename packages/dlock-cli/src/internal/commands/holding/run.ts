import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../../backend.ts"
import { orBusy } from "../../holding/busy.ts"
import { withJob } from "../../holding/job.ts"
import { type Locks, withTheLocks } from "../../holding/locks.ts"
import { runOnce } from "../../holding/runOnce.ts"
import { commandOf, termsOf, timeoutOf, usage } from "../../holding/terms.ts"
import { durationFlag } from "../../options/duration.ts"
import * as Holding from "../../options/holding.ts"
import { underLock } from "../../process/underLock.ts"

const flags = {
  keys: Argument.String("key").pipe(
    Argument.withDescription("The key of the lock. Of several, all are held at once"),
    Argument.atLeast(1)
  ),
  ...Holding.waiting,
  isShared: Flag.Boolean("shared").pipe(
    Flag.withAlias("s"),
    Flag.withDescription("Hold the lock together with others that say -s; -x excludes them"),
    Flag.withDefault(false)
  ),
  isExclusive: Flag.Boolean("exclusive").pipe(
    Flag.withAlias("x"),
    Flag.withDescription("Hold the lock alone, also beside those that say -s"),
    Flag.withDefault(false)
  ),
  permits: Flag.Int("permits").pipe(
    Flag.withDescription("Hold so many permits of the --of that there are. Default: 1"),
    Flag.optional
  ),
  of: Flag.Int("of").pipe(
    Flag.withDescription("How many permits there are, the same for all callers"),
    Flag.optional
  ),
  once: durationFlag("once").pipe(
    Flag.withDescription("Skip the command if it has succeeded within this time, like dlock once --every"),
    Flag.optional
  ),
  ...Holding.lease,
  maxHold: Holding.maxHold,
  shell: Holding.shell
}

type Given = Command.Command.Config.Infer<typeof flags>

const locksOf = ({ isExclusive, isShared, keys, of, permits }: Given) => {
  if (isShared && isExclusive) return usage("-s and -x contradict each other")
  if (Option.isSome(of)) {
    return isShared || isExclusive
      ? usage("--of makes the lock a semaphore, which has no -s and no -x")
      : Effect.succeed<Locks>({
        _tag: "Permits",
        keys,
        permits: Option.getOrElse(permits, () => 1),
        capacity: of.value
      })
  }
  if (Option.isSome(permits)) return usage("--permits needs --of: how many permits are there?")
  return Effect.succeed<Locks>({ _tag: isShared ? "Read" : isExclusive ? "Write" : "Mutex", keys })
}

export const run = Command.make("run", flags, (given) =>
  Effect.gen(function*() {
    const { conflict, isShared, isTry, keys, once } = given
    const command = yield* commandOf(given.shell)
    const terms = yield* termsOf(given, isShared)
    const locks = yield* locksOf(given)
    const timeout = yield* timeoutOf(given)
    if (Option.isSome(once)) {
      if (locks._tag !== "Mutex" || keys.length > 1) {
        return yield* usage("--once takes one key, and no other kind of lock")
      }
      return yield* runOnce({ key: keys[0]!, every: once.value, counts: "success", conflict, command, terms })
    }
    return yield* withJob(command, terms, (job) =>
      withTheLocks(locks, isTry, { ...terms.options, ...timeout }, (under) =>
        underLock(under, job)).pipe(
          orBusy(keys, conflict),
          Effect.provide(Backend.locker)
        ))
  })).pipe(
    Command.withDescription("Run a command while holding a lock"),
    Command.withExamples([
      { command: "dlock run nightly-report -- ./report.sh --all", description: "Wait for the lock, then run" },
      { command: "dlock run -n backup -- pg_dump shop", description: "Skip it if another host has the lock" },
      {
        command: "dlock run -w 5m stock:1 stock:2 -- ./move.sh",
        description: "Hold two locks, wait 5 minutes at most"
      },
      { command: "dlock run -s catalogue -- ./read.sh", description: "Read together with other readers" },
      { command: "dlock run --of 3 renders -- ./render.sh", description: "Run at most 3 at a time" },
      { command: "dlock run deploy -c 'make build && make push'", description: "Run a line of a shell" }
    ])
  )
