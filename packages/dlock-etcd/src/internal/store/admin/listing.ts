/** Lists the locks under a prefix. */

import type { LockName, LockState } from "effect-dlock/LockAdmin"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { isUtf8 } from "node:buffer"
import type { CallFailure } from "../../client/failure.ts"
import type { Port } from "../../client/port.ts"
import * as Admin from "../../protocol/adminTransactions.ts"
import { keyAt, pathOf } from "../../protocol/keys.ts"
import { type Named, named, readStates } from "./lockStates.ts"
import { Pages } from "./pages.ts"

/**
 * Lists the locks whose names begin with `within.key`. It reads some hundred names of claims at a time and goes on behind the
 * queue of the last, so that no queue is read whole. Each step reads the keys as they are then: a lock that is held all the time is
 * there whenever its part is read, and no step needs a revision that may have been compacted.
 */
export const listLocks = (port: Port, within: LockName): Stream.Stream<LockState, CallFailure> =>
  Stream.suspend(() => {
    const pages = new Pages(Admin.beginningWith(Buffer.from(pathOf(within.key, within.prefix))), namesAtOnce)
    return Stream.paginate(pages, () =>
      Effect.gen(function*() {
        const { value } = yield* port.txn({ success: [pages.read()] })
        const [found] = Admin.readFound(value) as readonly [Admin.Found]
        const { behind, locks } = locksIn(found, within.prefix)
        const hasMore = pages.take(found, behind)
        const states = yield* readStates(port, locks)
        return [states.filter(({ kind }) => kind !== undefined), hasMore ? Option.some(pages) : Option.none()] as const
      }))
  })

/** The locks that some names are of, and the end of the last queue. */
const locksIn = ({ kvs }: Admin.Found, prefix: string) => {
  const locks: Array<Named> = []
  let behind: Buffer | undefined
  for (const { key } of kvs) {
    if (behind !== undefined && Buffer.compare(key, behind) < 0) continue
    const path = pathIn(key, prefix)
    const lock = path === undefined ? undefined : keyAt(path, prefix)
    if (lock !== undefined) locks.push(named(lock, prefix))
    // The end of the queue: a zero comes after the slash.
    behind = path === undefined ? Admin.after(key) : Buffer.from(`${path}0`)
  }
  return { behind, locks }
}

/**
 * The path of a lock in the key of a claim. `undefined` for every other key: the names of other applications need not be text, and
 * text that is made of them is in another place of the order.
 */
const pathIn = (key: Buffer, prefix: string): string | undefined => {
  const slash = key.indexOf("/", Buffer.byteLength(prefix))
  const path = key.subarray(0, Math.max(0, slash))
  return slash < 0 || path.includes(0) || !isUtf8(path) ? undefined : path.toString()
}

const namesAtOnce = 256
