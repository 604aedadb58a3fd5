/** Token epochs: the numbers that are added to revisions to make fencing tokens. */

import * as Effect from "effect/Effect"
import type { CallFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { epochKey } from "../protocol/keys.ts"
import * as Transactions from "../protocol/transactions.ts"

const first = (prefix: string): Transactions.Epoch => ({ key: epochKey(prefix), text: undefined, base: 0n })

/**
 * The token epochs that this process knows, by prefix. If a request is made for another epoch, its answer contains the right
 * one.
 */
export class Epochs {
  private readonly known = new Map<string, Transactions.Epoch>()

  of(prefix: string): Transactions.Epoch {
    return this.known.get(prefix) ?? first(prefix)
  }

  /** Records the epoch that an answer contains. */
  learn(prefix: string, text: string | undefined): Effect.Effect<void, CallFailure> {
    return Effect.map(read(prefix, text), (epoch) => void this.known.set(prefix, epoch))
  }
}

/** Parses an epoch. Another program may have written the key, and a wrong value must not become a token. */
const read = (prefix: string, text: string | undefined): Effect.Effect<Transactions.Epoch, CallFailure> => {
  if (text === undefined) return Effect.succeed(first(prefix))
  const base = /^\d{1,19}$/.test(text) ? BigInt(text) : undefined
  if (base !== undefined && base <= mostBase) return Effect.succeed({ key: epochKey(prefix), text, base })
  const cause = new Error(
    `the token epoch at ${JSON.stringify(epochKey(prefix).toString())} is not valid: did another program write it?`
  )
  return Effect.fail({ _tag: "CallFailure", notDone: true, retryable: false, leaseGone: false, cause })
}

/**
 * Raises the base to at least `least`, and returns the base before and after. If two processes raise it at the same time, the
 * higher base wins.
 */
export const raise = (port: Port, prefix: string, least: bigint) =>
  Effect.gen(function*() {
    const key = epochKey(prefix)
    const found = yield* port.txn(Transactions.findEpoch(key))
    let epoch = yield* read(prefix, Transactions.textIn(found.value))
    const previous = epoch.base
    while (epoch.base < least) {
      const { value } = yield* port.txn(Transactions.raise(epoch, least))
      const seen = Transactions.epochIn(value)
      if (seen === undefined) return { base: least, previous }
      epoch = yield* read(prefix, seen.text)
    }
    return { base: epoch.base, previous }
  })

/** The highest base. It keeps tokens below 2^63 and leaves room for more revisions than a cluster can reach. */
export const mostBase = 2n ** 63n - 2n ** 53n
