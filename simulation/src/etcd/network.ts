import { callBack } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../../../packages/dlock-etcd/src/internal/failure.ts"
import { fromClient, isClosed, silent } from "../../../packages/dlock-etcd/src/internal/failure.ts"
import type { Reply } from "../../../packages/dlock-etcd/src/internal/port.ts"
import { digest } from "../log.ts"
import type { Network as Shared } from "../network.ts"
import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { type EtcdServer, refusal } from "./server.ts"
import { wordsOfAnswer } from "./words.ts"

/** What all connections of a world share. */
export type Network = Shared<EtcdServer>

/** A call as the server executes it; `sentAt` is the caller's clock in microseconds. */
export interface Call<A> {
  readonly words: string
  /** It is not abandoned when the store closes. */
  readonly isKept?: boolean
  readonly execute: (sentAt: number) => A | Error
  /** It is sent, once or twice. */
  readonly sent?: () => void
  /** The caller has the answer to what was sent. */
  readonly heard?: () => void
}

const unavailable = (why: string): Error => new Error(`14 UNAVAILABLE: ${why}`)

/** Runs what comes to the server once it is awake, or says that it is down. */
export const atServer = (network: Network, run: () => void, down: () => void): void => {
  const { awakeAt, timeline, upAt } = network
  if (timeline.now < upAt) down()
  else if (timeline.now < awakeAt) timeline.at(awakeAt + 1, () => atServer(network, run, down))
  else run()
}

/** The calls of one process: each by itself, in no order, within its own time. */
export class Calls {
  onMessage: () => void = () => {}
  private readonly network: Network
  private readonly process: Process
  private readonly callLimit: number
  private readonly random: Random
  private sent = 0
  private stalledUntil = 0
  private readonly pending = new Map<(answer: unknown) => void, { readonly isKept: boolean }>()

  constructor(network: Network, process: Process, callLimit: number) {
    this.network = network
    this.process = process
    this.callLimit = callLimit
    this.random = Random.of(network.seed, 5, process.index)
  }

  /** The client's own second try, as `connection.ts` makes it for a single host: what was unknown before stays unknown. */
  call<A>(call: Call<A>, limit = Infinity): Effect.Effect<Reply<A>, CallFailure> {
    return Effect.gen({ self: this }, function*() {
      const until = this.process.monotonic() / 1_000 + Math.max(50, Math.min(limit, this.callLimit))
      let unknown = false
      for (let tries = 1;; tries++) {
        const left = until - this.process.monotonic() / 1_000
        const exit = yield* Effect.result(this.attempt(Math.max(20, left / (3 - tries)), call))
        if (exit._tag === "Success") return { ...exit.success, doubled: unknown }
        unknown ||= !exit.failure.notDone
        if (exit.failure === isClosed || exit.failure.notDone || tries >= 2) {
          return yield* Effect.fail({ ...exit.failure, notDone: !unknown })
        }
      }
    })
  }

  private attempt<A>(limit: number, call: Call<A>): Effect.Effect<Reply<A>, CallFailure> {
    return Effect.callback<Reply<A>, CallFailure>((resume) => {
      const sentAt = this.process.clock.monotonicTimeNanosUnsafe()
      this.send(limit, call, (answer) =>
        resume(
          answer instanceof Error
            ? Effect.fail(answer === isClosed.cause ? isClosed : fromClient(answer))
            : Effect.succeed({ sentAt, value: answer as A, doubled: false })
        ))
    }).pipe(Effect.timeoutOrElse({ duration: limit + 50, orElse: () => Effect.fail(silent) }))
  }

  private send<A>(limit: number, call: Call<A>, onAnswer: (answer: A | Error) => void): void {
    const { faults, log, timeline } = this.network
    const { process } = this
    const number = this.sent++
    const sentAt = process.monotonic()
    const name = `m${process.index}.${number}`
    const fault = faults.message(process.index, number, timeline.now)
    log.note(
      20,
      number,
      () => `process ${process.index} sends ${name}: ${call.words}${fault === undefined ? "" : `  [${fault.kind}]`}`
    )
    call.sent?.()
    const settle = (answer: unknown): void => {
      if (!this.pending.delete(settle)) return
      stop()
      callBack(() => onAnswer(answer as A | Error))
    }
    const stop = process.timer(limit, () => settle(new Error("4 DEADLINE_EXCEEDED: Deadline exceeded")))
    this.pending.set(settle, { isKept: call.isKept === true })
    const unlessStalled = (after: number, run: () => void): void =>
      void timeline.in(
        after,
        () => timeline.now < this.stalledUntil ? unlessStalled(this.stalledUntil + 1 - timeline.now, run) : run()
      )
    const hear = (answer: unknown, after: number): void => {
      unlessStalled(after, () =>
        process.deliver(() => {
          if (!this.pending.has(settle)) return
          log.note(22, number, () => `process ${process.index} hears the reply to ${name}`)
          this.onMessage()
          if (!(answer instanceof Error)) call.heard?.()
          settle(answer)
        }))
    }
    /** Has the server take it after a time, and does what is to be done with its answer. */
    const take = (after: number, then: (answer: A | Error) => void): void => {
      unlessStalled(after, () =>
        atServer(this.network, () => {
          const answer = call.execute(sentAt)
          log.note(21, digest(String(answer)) + this.network.server.keys.revision, () =>
            `server executes ${name}: ${wordsOfAnswer(answer)}`)
          then(answer)
        }, () =>
          hear(unavailable("No connection established"), this.latency())))
    }
    const reply = (answer: unknown): void => hear(answer, this.latency())
    const latency = this.latency()
    switch (fault?.kind) {
      case undefined:
        take(latency, reply)
        break
      case "request lost":
        if (fault.random.chance(0.5)) hear(unavailable("Connection dropped"), 2 * latency)
        break
      case "reply lost":
        take(latency, () => {})
        break
      case "request late":
        take(latency + fault.delay, reply)
        break
      case "reply late":
        take(latency, (answer) => hear(answer, this.latency() + fault.delay))
        break
      case "executed twice":
        take(latency, () => {})
        take(latency + fault.delay / 8, reply)
        break
      case "executed late":
        take(latency + fault.delay, () => {})
        hear(fault.random.pick([unavailable("Connection dropped"), refusal("request timed out")]), 2 * latency)
        break
      case "error before":
        hear(fault.random.pick([refusal("too many requests"), unavailable("No connection established")]), 2 * latency)
        break
      case "error after":
        take(latency, () => reply(fault.random.pick([unavailable("Connection dropped"), refusal("leader changed")])))
        break
    }
    process.deliver(this.onMessage)
  }

  /** Nothing passes until then, either way. */
  stall(until: number): void {
    this.stalledUntil = Math.max(this.stalledUntil, until)
  }

  /** All that is under way fails. */
  cut(): void {
    const left = Array.from(this.pending.keys())
    this.process.deliver(() => left.forEach((settle) => settle(unavailable("Connection dropped"))))
  }

  /** The store has closed: nobody waits for them any more. */
  abandon(): void {
    for (const [settle, { isKept }] of Array.from(this.pending)) if (!isKept) settle(isClosed.cause)
  }

  private latency(): number {
    return this.random.between(200, 2_500)
  }
}
