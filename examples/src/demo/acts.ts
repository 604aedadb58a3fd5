import { Duration, Effect } from "effect"
import { History } from "./journal.ts"
import { closestHandOver, type Section, sectionsOf } from "./sections.ts"
import { Shop } from "./shop.ts"
import { workerNames, Workers } from "./workers.ts"

/** Something that was counted or measured, and whether it is as it has to be. */
export interface Finding {
  readonly holds: boolean
  readonly text: string
  /** It has to be so, and is no good news. */
  readonly bad?: boolean
}

export interface Act {
  readonly sections: ReadonlyArray<Section>
  readonly findings: ReadonlyArray<Finding>
}

export const items = 8
export const customers = 3
export const unlucky = "Ben"

const payment = Duration.millis(90)

/** Act 1: all at once, and nothing between them. */
export const withoutLock = Effect.gen(function*() {
  const { left, sections, sold } = yield* observe(items, everybody(false))
  return act(sections, {
    holds: sold > items,
    bad: true,
    text: `${sold} of ${workerNames.length * customers} customers were told "yes", with ${items} in stock: ` +
      `${sold - items} too many. The shelf says ${left} are left.`
  })
})

/** Act 2: the same sale under the lock. */
export const withTheLock = Effect.gen(function*() {
  const { left, sections, sold } = yield* observe(items, everybody(true))
  return act(
    sections,
    exact(items, sold, left),
    neverTwoInside(sections),
    tokensGrow(sections)
  )
})

/** Act 3: one worker loses the lock in the middle of a sale and acts on all the same. */
export const withALoss = Effect.gen(function*() {
  const workers = yield* Workers
  const history = yield* History
  const others = workerNames.filter((worker) => worker !== unlucky)
  const isPaying = history.first((event) => event._tag === "Paying" && event.worker === unlucky)
  const isReplaced = history.first((event) => event._tag === "Sold" && event.worker !== unlucky)

  const { events, left, sections, sold } = yield* observe(
    others.length,
    Effect.all([
      workers.serve(unlucky, { locked: true, customers: 1, payment: Duration.millis(300) }),
      workers.cutOff(unlucky, isPaying, isReplaced),
      Effect.andThen(
        isPaying,
        Effect.forEach(others, (worker) => workers.serve(worker, { locked: true, customers: 1, payment }), together)
      )
    ], together)
  )

  const handled = events.find((event) => event._tag === "Handled")
  const refused = events.find((event) => event._tag === "Refused")
  return act(
    sections,
    {
      holds: handled !== undefined,
      text: handled === undefined
        ? `${unlucky} did not hear of a loss.`
        : `${unlucky}'s program ended with OwnershipLost, reason ${handled.reason}; ` +
          "it was caught by its tag, and he queued up again."
    },
    {
      holds: refused !== undefined,
      text: refused === undefined
        ? `Nothing refused ${unlucky}'s late write.`
        : `${unlucky}'s late write of ${refused.wanted}, token ${refused.token}, was refused: ` +
          `the shop had seen ${refused.newest}.`
    },
    exact(others.length, sold, left),
    neverTwoInside(sections),
    tokensGrow(sections)
  )
})

const together = { concurrency: "unbounded", discard: true } as const

const everybody = Effect.fnUntraced(function*(locked: boolean) {
  const workers = yield* Workers
  yield* Effect.forEach(workerNames, (worker) => workers.serve(worker, { locked, customers, payment }), together)
})

/** Puts items on the shelf, lets the workers sell, and gathers what they wrote down and what is left. */
const observe = Effect.fnUntraced(function*<E, R>(items: number, work: Effect.Effect<unknown, E, R>) {
  const shop = yield* Shop
  const history = yield* History
  yield* shop.restock(items)
  yield* history.take
  yield* work
  const events = yield* history.take
  const sold = events.filter((event) => event._tag === "Sold").length
  return { events, sections: sectionsOf(events), sold, left: yield* shop.read() }
})

const act = (sections: ReadonlyArray<Section>, ...findings: ReadonlyArray<Finding>): Act => ({ sections, findings })

const exact = (items: number, sold: number, left: number): Finding => ({
  holds: sold === items && left === 0,
  text: `${sold} sold of ${items}, ${left} left.`
})

const neverTwoInside = (sections: ReadonlyArray<Section>): Finding => {
  const closest = closestHandOver(sections)
  return sections.length > 1 && closest > 0
    ? {
      holds: true,
      text: `Never two inside: ${sections.length} sections, the closest two ${closest.toFixed(2)} ms apart.`
    }
    : { holds: false, text: `Two were inside at once, for ${(-closest).toFixed(2)} ms.` }
}

const tokensGrow = (sections: ReadonlyArray<Section>): Finding => {
  const tokens = sections.map((section) => section.token ?? 0n)
  const [first, ...more] = tokens
  return {
    holds: more.every((token, index) => token > tokens[index]!),
    text: `The fencing tokens grow from grant to grant: #1 is ${first}, #${tokens.length} is ${tokens.at(-1)}.`
  }
}
