import * as Effect from "effect/Effect"
import type { CallFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { epochOf } from "../protocol/keys.ts"
import * as Queue from "../protocol/transactions.ts"

const first = (prefix: string): Queue.Epoch => ({ key: epochOf(prefix), text: undefined, base: 0n })

/** The epochs that this process knows. None is ever asked for: whoever asks for a place in another is told. */
export class Epochs {
  private readonly known = new Map<string, Queue.Epoch>()

  of(prefix: string): Queue.Epoch {
    return this.known.get(prefix) ?? first(prefix)
  }

  /** Takes in what an answer tells. */
  learn(prefix: string, text: string | undefined): Effect.Effect<void, CallFailure> {
    return Effect.map(read(prefix, text), (epoch) => void this.known.set(prefix, epoch))
  }
}

/** Somebody else may have put anything there: no token is to be made of that. */
const read = (prefix: string, text: string | undefined): Effect.Effect<Queue.Epoch, CallFailure> => {
  if (text === undefined) return Effect.succeed(first(prefix))
  const base = /^\d{1,19}$/.test(text) ? BigInt(text) : undefined
  if (base !== undefined && base <= mostBase) return Effect.succeed({ key: epochOf(prefix), text, base })
  const cause = new Error(`the token epoch at ${JSON.stringify(epochOf(prefix).toString())} is none`)
  return Effect.fail({ _tag: "CallFailure", notDone: true, retryable: false, leaseGone: false, cause })
}

/**
 * Sees to it that the base is at least that much, and tells what it was and is. Two who raise it at once do so one after the
 * other, and the higher one stays.
 */
export const raise = (port: Port, prefix: string, least: bigint) =>
  Effect.gen(function*() {
    const key = epochOf(prefix)
    const found = yield* port.txn(Queue.findEpoch(key))
    let epoch = yield* read(prefix, Queue.textIn(found.value))
    const previous = epoch.base
    while (epoch.base < least) {
      const { value } = yield* port.txn(Queue.raise(epoch, least))
      const seen = Queue.epochIn(value)
      if (seen === undefined) return { base: least, previous }
      epoch = yield* read(prefix, seen.text)
    }
    return { base: epoch.base, previous }
  })

/** Tokens stay below 2^63, with room for the revisions of a cluster that writes for longer than it can live. */
export const mostBase = 2n ** 63n - 2n ** 53n
