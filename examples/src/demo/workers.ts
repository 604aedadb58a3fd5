import { Context, type Effect, Schema } from "effect"

export const workerNames = ["Ada", "Ben", "Cleo", "Dan"]

/** What a worker is told to do: serve so many customers, with the lock or without it. */
export const Order = Schema.Struct({
  locked: Schema.Boolean,
  customers: Schema.Int,
  payment: Schema.DurationFromMillis
})
export type Order = typeof Order.Type

/** A worker failed, or has gone. */
export class WorkerFailed extends Schema.TaggedError<WorkerFailed>("examples/WorkerFailed")("WorkerFailed", {
  worker: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `${this.worker} cannot go on: ${this.cause instanceof Error ? this.cause.message : String(this.cause)}`
  }
}

/** The workers of the shop, whatever they are made of. */
export class Workers extends Context.Service<Workers, {
  /** What the workers are, and how one of them is cut off, in words. */
  readonly described: string
  readonly fault: string
  /** Has a worker carry out an order, and waits until it has. */
  readonly serve: (worker: string, order: Order) => Effect.Effect<void, WorkerFailed>
  /** Cuts a worker off from its lock between two events. Nobody tells it. */
  readonly cutOff: (
    worker: string,
    from: Effect.Effect<unknown>,
    until: Effect.Effect<unknown>
  ) => Effect.Effect<void, WorkerFailed>
}>()("examples/Workers") {}
