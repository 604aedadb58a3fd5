/** Lists the locks under a prefix. */

import type { LockName, LockState } from "effect-dlock/LockAdmin"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { CallFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import * as Admin from "../../protocol/adminTransactions.ts"
import type { Range } from "../../protocol/clauses.ts"
import { keyAt, pathOf } from "../../protocol/keys.ts"
import { type Named, named, readStates } from "./lockStates.ts"

/**
 * Lists the locks whose names begin with `within.key`. It reads some hundred names of claims at a time and goes on behind the
 * queue of the last, so that no queue is read whole. Each step reads the keys as they are then: a lock that is held all the time is
 * there whenever its part is read, and no step needs a revision that may have been compacted.
 */
export const listLocks = (port: Port, within: LockName): Stream.Stream<LockState, CallFailure> => {
  const { from, to } = Admin.beginningWith(Buffer.from(pathOf(within.key, within.prefix)))
  return Stream.paginate(
    from,
    (start: Buffer) =>
      Effect.flatMap(readPage(port, { from: start, to }, within.prefix), ({ locks, next }) =>
        Effect.map(
          readStates(port, locks),
          (states) => [states.filter(({ kind }) => kind !== undefined), Option.fromUndefinedOr(next)] as const
        ))
  )
}

/** The locks of some names, and where the next names begin. */
const readPage = (port: Port, range: Range, prefix: string) =>
  Effect.map(port.txn({ success: [Admin.readNames(range, namesAtOnce)] }), ({ value }) => {
    const [{ count, kvs }] = Admin.readFound(value) as readonly [Admin.Found]
    const locks: Array<Named> = []
    let behind = range.from
    for (const { key } of kvs) {
      if (Buffer.compare(key, behind) < 0) continue
      const path = pathIn(key.toString(), prefix)
      const lock = path === undefined ? undefined : keyAt(path, prefix)
      if (lock !== undefined) locks.push(named(lock, prefix))
      // The end of the queue: a zero comes after the slash.
      behind = path === undefined ? Admin.after(key) : Buffer.from(`${path}0`)
    }
    return { locks, next: count > kvs.length ? behind : undefined }
  })

/** The path of a lock in the key of a claim. `undefined` for every other key. */
const pathIn = (key: string, prefix: string): string | undefined => {
  const slash = key.indexOf("/", prefix.length)
  return slash < 0 || key.includes("\0") ? undefined : key.slice(0, slash)
}

const namesAtOnce = 256
