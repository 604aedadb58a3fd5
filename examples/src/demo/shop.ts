import { Context, Effect, Layer, Schema } from "effect"

/** A visit under a token that is older than one which the shop has seen: its worker has lost the lock. */
export class StaleToken extends Schema.TaggedError<StaleToken>("examples/StaleToken")("StaleToken", {
  token: Schema.BigIntFromString,
  newest: Schema.BigIntFromString
}) {}

/** The shop could not be reached. */
export class ShopUnreachable extends Schema.TaggedError<ShopUnreachable>("examples/ShopUnreachable")(
  "ShopUnreachable",
  { cause: Schema.Defect() }
) {
  override get message(): string {
    return `The shop cannot be reached: ${this.cause instanceof Error ? this.cause.message : String(this.cause)}`
  }
}

/**
 * One number that everybody changes: how many pieces of item 42 are left.
 *
 * The shop defends itself against workers that have lost their lock and do not know it yet: it remembers the newest fencing
 * token that it has seen, and refuses older ones. Reads count as well as writes: a worker that reads is about to write, and
 * from then on nothing older may come in between.
 */
export class Shop extends Context.Service<Shop, {
  readonly restock: (items: number) => Effect.Effect<void, ShopUnreachable>
  readonly read: (token?: bigint) => Effect.Effect<number, StaleToken | ShopUnreachable>
  readonly write: (left: number, token?: bigint) => Effect.Effect<void, StaleToken | ShopUnreachable>
}>()("examples/Shop") {
  /** In the memory of this process. */
  static readonly layerMemory = Layer.sync(Shop, () => {
    let left = 0
    let newest = 0n

    const visit = <A>(token: bigint | undefined, act: () => A) =>
      Effect.suspend(() => {
        if (token !== undefined && token < newest) return Effect.fail(new StaleToken({ token, newest }))
        newest = token ?? newest
        return Effect.succeed(act())
      })

    return Shop.of({
      restock: (items) =>
        Effect.sync(() => {
          left = items
          newest = 0n
        }),
      read: (token) => visit(token, () => left),
      write: (items, token) =>
        visit(token, () => {
          left = items
        })
    })
  })
}
