import { Locker } from "effect-dlock/Locker"
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import * as Info from "../../info.ts"
import { commandLine } from "../../text/commandLine.ts"
import { counted } from "../../text/units.ts"

/**
 * For a call without its token: tells on stderr who holds the lock, and fails with the command to run. A token that is
 * looked up now could be that of the next holder.
 */
export const refuseWithoutToken = (key: string, verb: "revoke" | "break") =>
  Effect.gen(function*() {
    const info = yield* Locker.inspect(key)
    yield* Console.error(Info.toText(info))
    const commandOf = yield* commandLine
    const message = info.holders.length === 0
      ? `nobody holds the lock: there is nothing to ${verb}`
      : `--token is missing: nothing was changed. If it is the right hold, run\n` +
        commandsFor(info, (token) => commandOf(verb, key, token))
    return yield* new Failure({
      message,
      exitCode: info.holders.length === 0 ? exitCodes.no : exitCodes.usage
    })
  })

const commandsFor = ({ holders }: LockInfo, commandOf: (token: bigint) => string): string =>
  holders.slice(0, mostCommands).map(({ token }) => `  ${commandOf(token)}`)
    .concat(holders.length > mostCommands ? [`  … ${counted(holders.length - mostCommands, "other hold")}`] : [])
    .join("\n")

const mostCommands = 5
