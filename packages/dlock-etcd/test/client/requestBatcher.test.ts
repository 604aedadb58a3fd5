import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, FiberSet } from "effect"
import { TestClock } from "effect/testing"
import type { IRequestOp, ITxnRequest, ITxnResponse } from "etcd3"
import { type CallFailure, fromClient, silentFailure } from "../../src/internal/client/failure.ts"
import type { Port, Reply } from "../../src/internal/client/port.ts"
import { RequestBatcher, type Submission } from "../../src/internal/client/requestBatcher.ts"
import type { Urgency } from "../../src/internal/protocol/operation.ts"
import { plainTelemetry } from "../claim.ts"

type Answer = Deferred.Deferred<Reply<ITxnResponse>, CallFailure>

/** A transaction that was sent: the names of its members, and an effect that answers it. */
interface Sent {
  readonly names: ReadonlyArray<string>
  readonly limit: number | undefined
  readonly answer: Effect.Effect<unknown>
  readonly fail: (failure: CallFailure) => Effect.Effect<unknown>
}

const nameOf = ({ success }: ITxnRequest): string => String(success?.[0]?.request_delete_range?.key)

/** A batcher over a server that answers when the test says so. */
const setting = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const sent: Array<Sent> = []
  let isAway = false
  const txn = (request: ITxnRequest, limit?: number) =>
    Effect.suspend(() => {
      const within = (request.success ?? []).map((one) => (one as { readonly request_txn?: ITxnRequest }).request_txn)
      const members = within.flatMap((one) => one ?? [])
      const names = members.length === 0 ? [nameOf(request)] : members.map(nameOf)
      const answered: Answer = Deferred.makeUnsafe()
      const responses = members.map((one) => ({ response_txn: { succeeded: true, responses: [nameOf(one)] } }))
      const value = { header: { revision: "7" }, succeeded: true, responses: members.length === 0 ? names : responses }
      sent.push({
        names,
        limit,
        answer: Deferred.succeed(answered, { sentAt: 0n, doubled: false, value: value as never }),
        fail: (failure) => Deferred.fail(answered, failure)
      })
      return Deferred.await(answered)
    })
  const port = { telemetry: plainTelemetry, longest: 2_000, isAway: (): boolean => isAway, txn } as unknown as Port
  const batcher = new RequestBatcher(port, () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000, fork)
  const ask = (urgency: Urgency, name: string, more: Partial<Submission> = {}) => {
    const operation: Submission = {
      urgency,
      request: { success: [{ request_delete_range: { key: Buffer.from(name) } } as IRequestOp] },
      claim: name,
      key: name,
      ...more
    }
    return Effect.forkChild(Effect.exit(batcher.run(operation)), { startImmediately: true })
  }
  return { ask, batcher, sent, names: () => sent.map(({ names }) => names), goAway: () => void (isAway = true) }
})

/** Two transactions are pending, so that the next operations wait until one has its answer. */
const busy = Effect.gen(function*() {
  const all = yield* setting
  yield* all.ask("look", "first")
  yield* all.ask("look", "second")
  const [{ answer }] = all.sent.splice(0, 2) as [Sent, Sent]
  return { ...all, answerFirst: Effect.andThen(answer, turns) }
})

/** Lets all fibers run that can. */
const turns = Effect.gen(function*() {
  for (let turn = 0; turn < 10; turn++) yield* Effect.yieldNow
})

const refusal = fromClient(new Error("7 PERMISSION_DENIED: etcdserver: permission denied"))

describe("an operation", () => {
  it.effect("goes at once where nothing is under way, two at a time, and the rest together", () =>
    Effect.gen(function*() {
      const { ask, names, sent } = yield* setting
      const asked = yield* Effect.forEach(["a", "b", "c", "d", "e"], (name) => ask("look", name))
      assert.deepStrictEqual(names(), [["a"], ["b"]])
      yield* sent[0]!.answer
      yield* Fiber.await(asked[0]!)
      yield* turns
      assert.deepStrictEqual(names()[2], ["c", "d", "e"])
      yield* sent[2]!.answer
      const { value } = yield* Effect.flatten(Fiber.join(asked[3]!))
      assert.deepStrictEqual(
        [value.responses, value.header.revision],
        [["d"] as never, "7"],
        "its own part of the answer"
      )
    }).pipe(Effect.scoped))

  it.effect("leaves before it looks, and looks before it enters", () =>
    Effect.gen(function*() {
      const { answerFirst, ask, names } = yield* busy
      yield* ask("enter", "e")
      yield* ask("look", "l")
      yield* ask("withdraw", "d")
      yield* answerFirst
      assert.deepStrictEqual(names()[0], ["d", "l", "e"])
    }).pipe(Effect.scoped))

  it.effect("holds one of a claim and one that enters a queue, and none that asks for an empty one which another leaves", () =>
    Effect.gen(function*() {
      const { answerFirst, ask, names } = yield* busy
      yield* ask("withdraw", "d", { claim: "x", key: "k" })
      yield* ask("enter", "again", { claim: "x", key: "other" })
      yield* ask("enter", "try", { key: "k", needsEmpty: true })
      yield* ask("enter", "e", { key: "k" })
      yield* ask("enter", "f", { key: "k" })
      yield* ask("enter", "g", { key: "l" })
      yield* answerFirst
      assert.deepStrictEqual(names()[0], ["d", "e", "g"])
    }).pipe(Effect.scoped))

  it.effect("has those who leave a queue leave it in their order, one answer after the other", () =>
    Effect.gen(function*() {
      const { ask, names, sent } = yield* setting
      yield* ask("withdraw", "a", { key: "k" })
      yield* ask("withdraw", "b", { key: "k" })
      yield* ask("withdraw", "c", { key: "l" })
      assert.deepStrictEqual(names(), [["a"], ["c"]])
      yield* sent[0]!.answer
      yield* turns
      assert.deepStrictEqual(names()[2], ["b"])
    }).pipe(Effect.scoped))

  it.effect("goes one by one where it was refused together, so that one's refusal fails no stranger", () =>
    Effect.gen(function*() {
      const { answerFirst, ask, names, sent } = yield* busy
      const [good, bad] = [yield* ask("withdraw", "good"), yield* ask("withdraw", "bad")]
      yield* answerFirst
      assert.deepStrictEqual(names()[0], ["good", "bad"])
      yield* sent[0]!.fail(refusal)
      yield* turns
      assert.deepStrictEqual(names()[1], ["good"])
      yield* sent[1]!.answer
      yield* turns
      assert.deepStrictEqual(names()[2], ["bad"])
      yield* sent[2]!.fail(refusal)
      assert.strictEqual((yield* Fiber.join(good))._tag, "Success")
      assert.strictEqual((yield* Fiber.join(bad))._tag, "Failure")
    }).pipe(Effect.scoped))

  it.effect("never goes where its caller has gone before, and its end is told", () =>
    Effect.gen(function*() {
      const { answerFirst, ask, names } = yield* busy
      const told: Array<string> = []
      const gone = yield* ask("enter", "gone", { onUnsent: () => void told.push("gone") })
      yield* ask("enter", "stays")
      yield* Fiber.interrupt(gone)
      yield* answerFirst
      assert.deepStrictEqual(names()[0], ["stays"])
      const late = yield* ask("enter", "late", { onUnsent: () => void told.push("late") })
      yield* Fiber.interrupt(late)
      assert.deepStrictEqual(told, ["gone", "late"])
    }).pipe(Effect.scoped))

  it.effect("goes at once however many before it have gone before their turn", () =>
    Effect.gen(function*() {
      const { answerFirst, ask, names } = yield* busy
      const many = Array.from({ length: 1_000 }, (_, index) => `e${index}`)
      const crowd = yield* Effect.forEach(many, (name) => ask("enter", name))
      yield* Effect.forEach(crowd, Fiber.interrupt, { concurrency: "unbounded" })
      yield* ask("enter", "late")
      yield* answerFirst
      assert.deepStrictEqual(names(), [["late"]])
    }).pipe(Effect.scoped))

  it.effect("tells what became of it when its caller has gone meanwhile", () =>
    Effect.gen(function*() {
      const { ask, sent } = yield* setting
      const told: Array<string> = []
      const fiber = yield* ask("enter", "e", { onLate: ({ _tag }) => void told.push(_tag) })
      yield* turns
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(told, [])
      yield* sent[0]!.answer
      yield* turns
      assert.deepStrictEqual(told, ["Success"])
    }).pipe(Effect.scoped))

  it.effect("has its time from its sending on, and what hangs holds nobody up", () =>
    Effect.gen(function*() {
      const { ask, names, sent } = yield* busy
      yield* ask("withdraw", "short", { limit: 300 })
      yield* ask("withdraw", "long", { limit: 5_000 })
      assert.deepStrictEqual(names(), [])
      yield* TestClock.adjust("250 millis")
      assert.deepStrictEqual(names()[0], ["short", "long"])
      assert.strictEqual(sent[0]!.limit, 300)
      yield* TestClock.adjust("300 millis")
      yield* sent[0]!.fail(silentFailure)
      yield* turns
      assert.deepStrictEqual([names()[1], sent[1]!.limit], [["long"], 1_700], "who has time left is sent once more")
    }).pipe(Effect.scoped))

  it.effect("waits one by one for a server that is away, and is over with the store", () =>
    Effect.gen(function*() {
      const { answerFirst, ask, goAway, names, batcher } = yield* busy
      const waiting = [yield* ask("enter", "a"), yield* ask("enter", "b")]
      goAway()
      yield* answerFirst
      assert.deepStrictEqual(names(), [["a"], ["b"]])
      assert.isTrue(waiting.every((fiber) => fiber.pollUnsafe() === undefined))
      batcher.close()
      assert.strictEqual((yield* Fiber.join(yield* ask("enter", "c")))._tag, "Failure")
    }).pipe(Effect.scoped))

  it.effect("has a patient operation wait a millisecond for others to go with, and not for ever where that fails", () =>
    Effect.gen(function*() {
      const { ask, names, sent } = yield* setting
      const patient = { folder: "k", isPatient: true }
      yield* ask("withdraw", "a", patient)
      const b = yield* ask("withdraw", "b", patient)
      assert.deepStrictEqual(names(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(names(), [["a", "b"]])
      yield* sent[0]!.fail(silentFailure)
      yield* turns
      yield* TestClock.adjust("300 millis")
      assert.deepStrictEqual(names()[1], ["a", "b"])
      yield* sent[1]!.answer
      yield* Effect.flatten(Fiber.join(b))
      yield* ask("withdraw", "c", patient)
      yield* ask("withdraw", "d", { key: "k" })
      assert.deepStrictEqual(names()[2], ["c", "d"], "with the first that is not")
    }).pipe(Effect.scoped))

  it.effect("waits for what hangs a quarter of a second, however long a timer runs already", () =>
    Effect.gen(function*() {
      const { ask, names } = yield* setting
      yield* ask("withdraw", "patient", { key: "k", isPatient: true })
      yield* TestClock.adjust("5 millis")
      yield* ask("withdraw", "next", { key: "k" })
      yield* TestClock.adjust("250 millis")
      assert.deepStrictEqual(names(), [["patient"], ["next"]])
    }).pipe(Effect.scoped))

  it.effect("sends an operation that could not go with others of its queue beside them, where those were sent", () =>
    Effect.gen(function*() {
      const { ask, names, sent } = yield* setting
      for (let index = 0; index < 20; index++) yield* ask("enter", `k${index}`, { key: "k" })
      yield* ask("enter", "other", { key: "other" })
      yield* ask("withdraw", "l", { key: "left" })
      assert.strictEqual(names().length, 16)
      assert.deepStrictEqual(new Set(names().map(({ length }) => length)), new Set([1]))
      yield* sent[5]!.answer
      yield* turns
      assert.deepStrictEqual(names()[16], ["k16"])
      yield* sent[0]!.answer
      yield* turns
      assert.deepStrictEqual(names()[17], ["l", "k17", "other"], "what leaves goes as it would without them")
    }).pipe(Effect.scoped))

  it.effect("looks at few of thousands that wait for what may go beside others", () =>
    Effect.gen(function*() {
      const { ask, names, batcher } = yield* setting
      let looked = 0
      const operation = (name: string): Submission => ({
        urgency: "enter",
        request: {},
        claim: name,
        get key() {
          looked++
          return name
        }
      })
      yield* ask("look", "first")
      yield* ask("look", "second")
      const waiting = (batcher as unknown as { readonly lanes: { readonly enter: Array<unknown> } }).lanes.enter
      for (let index = 0; index < 5_000; index++) waiting.push(operation(`k${index}`))
      looked = 0
      yield* ask("enter", "late")
      assert.isBelow(looked, 1_000)
      assert.strictEqual(names().length, 2)
      waiting.length = 0
    }).pipe(Effect.scoped))

  it.effect("goes together as before where the server finds too large what goes alone", () =>
    Effect.gen(function*() {
      const { ask, names, sent } = yield* setting
      yield* ask("look", "first")
      yield* ask("withdraw", "large", { isAlone: true })
      yield* ask("withdraw", "b")
      yield* ask("withdraw", "another", { isAlone: true })
      const c = ["c", "d"].map((name) => ask("withdraw", name))
      yield* Effect.all(c)
      assert.deepStrictEqual(names(), [["first"], ["large"]])
      yield* sent[1]!.fail(fromClient(new Error("3 INVALID_ARGUMENT: etcdserver: too many operations in txn request")))
      yield* turns
      assert.deepStrictEqual(names()[2], ["b", "c", "d"])
      yield* sent[2]!.answer
      yield* turns
      assert.deepStrictEqual(names()[3], ["another"])
    }).pipe(Effect.scoped))
})
