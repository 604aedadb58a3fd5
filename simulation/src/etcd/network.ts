import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Failover from "../../../packages/dlock-etcd/src/internal/client/failover.ts"
import type { CallFailure } from "../../../packages/dlock-etcd/src/internal/client/failure.ts"
import {
  closedFailure,
  fromClient,
  isAboutToken,
  silentFailure
} from "../../../packages/dlock-etcd/src/internal/client/failure.ts"
import type { Reply } from "../../../packages/dlock-etcd/src/internal/client/port.ts"
import { digest } from "../log.ts"
import type { Network as Shared } from "../network.ts"
import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { millis } from "../timeline.ts"
import type { CallKind, Refusal, Refusals } from "./refusals.ts"
import type { EtcdFlaws, EtcdServer } from "./server.ts"
import { traceOfAnswer } from "./trace.ts"

/** What all connections of a world share. */
export interface Network extends Shared<EtcdServer> {
  readonly refusals: Refusals
  readonly flaws: EtcdFlaws
  readonly members: number
  /** Undefined without authentication. */
  readonly tokens: Tokens | undefined
}

/** For how many microseconds an auth token is valid, and how the server refuses an expired one. */
export interface Tokens {
  readonly life: number
  readonly refusal: Refusal
}

/** One member as a process calls it, with its own auth token. */
export interface Host {
  readonly member: number
  token: Token | undefined
  /** Its first token. */
  firstToken: Token | undefined
  /** Calls that wait for a new token. */
  asking: Array<(failure: Error | undefined) => void> | undefined
}

interface Token {
  readonly until: number
}

/** A call as the server executes it; `sentAt` is the caller's clock in microseconds. */
export interface Call<A> {
  readonly words: string
  readonly kind: CallKind
  /** Whether it goes on when the store closes. */
  readonly isKept?: boolean
  readonly execute: (sentAt: number) => A | Error
  /** Called when it is sent, once or twice. */
  readonly onSent?: () => void
  /** Called when the caller has the answer. */
  readonly onAnswer?: () => void
  /** Called when the caller knows that it has not been executed. */
  readonly onRefusal?: () => void
  /** Called when a host is asked; to one host it may be sent twice. */
  readonly onStart?: () => void
  /** Called when the caller knows whether the host has executed it, with the milliseconds that took. */
  readonly onOutcome?: (took: number) => void
}

const unavailable = (why: string): Error => new Error(`14 UNAVAILABLE: ${why}`)

/** The error of a call that has not been executed and will not be. */
class NotDone extends Error {}

const unsent = new NotDone("14 UNAVAILABLE: No connection established")

/** Runs a request at a member as soon as the member is awake, or reports that it is down. */
export const atMember = (network: Network, member: number, run: () => void, down: () => void): void => {
  const { refusals, timeline, upAt } = network
  const awakeAt = Math.max(network.awakeAt, refusals.silentUntil(member))
  if (timeline.now < upAt) down()
  else if (timeline.now < awakeAt) timeline.at(awakeAt + 1, () => atMember(network, member, run, down))
  else run()
}

/** The calls of one process: each by itself, in no order, with its own time limit. */
export class Calls {
  onMessage: () => void = () => {}
  readonly failover: Failover.Failover<Host>
  readonly telemetry: StoreTelemetry
  private readonly network: Network
  private readonly process: Process
  private readonly random: Random
  private sent = 0
  private stalledUntil = 0
  private readonly pending = new Set<(answer: unknown) => void>()
  private readonly attempts = new Set<(failure: CallFailure) => void>()

  constructor(
    network: Network,
    process: Process,
    operationTimeout: number,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    telemetry: StoreTelemetry
  ) {
    this.telemetry = telemetry
    const { flaws, members, seed, server } = network
    this.network = network
    this.process = process
    this.random = Random.of(seed, 5, process.index)
    // Each process tries them in another order.
    const hosts = Array.from({ length: members }, (_, nth): Host => ({
      member: (nth + process.index) % members,
      token: undefined,
      firstToken: undefined,
      asking: undefined
    }))
    const look: Call<unknown> = { words: "look for a host", kind: "nothing", execute: () => server.txn({}) }
    this.failover = Failover.make({
      hosts: flaws.asksFirstOnly === true ? hosts.slice(0, 1) : hosts,
      telemetry,
      clock: process.clock,
      fork,
      operationTimeout,
      probe: (host, limit) => this.attempt(host, limit, look)
    })
  }

  call<A>(call: Call<A>, options?: Failover.CallOptions): Effect.Effect<Reply<A>, CallFailure> {
    return this.failover.call((host, limit) => this.attempt(host, limit, call), options)
  }

  private attempt<A>(host: Host, limit: number, call: Call<A>): Effect.Effect<Reply<A>, CallFailure> {
    return Effect.callback<Reply<A>, CallFailure>((resume) => {
      const sentAt = this.process.clock.monotonicTimeNanosUnsafe()
      const fail = (failure: CallFailure) => {
        this.attempts.delete(fail)
        this.telemetry.callBack(() => resume(Effect.fail(failure)))
      }
      if (call.isKept !== true) this.attempts.add(fail)
      const began = this.process.monotonic()
      let waits = true
      call.onStart?.()
      this.withToken(host, limit, call, (answer) => {
        const isKnown = !(answer instanceof Error) || answer instanceof NotDone
        if (waits && isKnown) call.onOutcome?.((this.process.monotonic() - began) / 1_000)
        if (answer instanceof Error) return fail(fromClient(answer))
        this.attempts.delete(fail)
        resume(Effect.succeed({ sentAt, value: answer as A, doubled: false }))
      })
      return Effect.sync(() => {
        waits = false
        this.attempts.delete(fail)
      })
    }).pipe(Effect.timeoutOrElse({ duration: limit + 50, orElse: () => Effect.fail(silentFailure) }))
  }

  /** The same as in `host.ts`, which uses promises: the simulation cannot wait for those. */
  private withToken<A>(host: Host, limit: number, call: Call<A>, onAnswer: (answer: A | Error) => void): void {
    const { flaws, tokens } = this.network
    if (tokens === undefined) return this.send(host, limit, call, onAnswer)
    const until = this.process.monotonic() + millis(limit)
    const send = (onAnswer: (answer: A | Error) => void) =>
      this.send(host, Math.max(1, (until - this.process.monotonic()) / 1_000), call, onAnswer)
    const orFail = (run: () => void) => (failure: Error | undefined) =>
      failure === undefined ? run() : onAnswer(failure)
    const first = () => {
      const used = host.token
      send((answer) => {
        if (!(answer instanceof Error) || !isAboutToken(answer) || flaws.keepsToken === true) return onAnswer(answer)
        if (host.token === used) this.renewToken(host, tokens, orFail(() => send(onAnswer)))
        else send(onAnswer)
      })
    }
    if (host.token === undefined) this.renewToken(host, tokens, orFail(first))
    else first()
  }

  private renewToken(host: Host, tokens: Tokens, done: (failure: Error | undefined) => void): void {
    if (host.asking !== undefined) return void host.asking.push(done)
    const all = [done]
    host.asking = all
    const { timeline } = this.network
    const ask: Call<Token> = {
      words: `authenticate at member ${host.member}`,
      kind: "authenticate",
      execute: () => ({ until: timeline.now + tokens.life })
    }
    this.send(host, authLimit, ask, (answer) => {
      host.asking = undefined
      if (!(answer instanceof Error)) {
        host.token = answer
        host.firstToken ??= answer
      }
      for (const one of all) this.telemetry.callBack(() => one(answer instanceof Error ? answer : undefined))
    })
  }

  private send<A>(host: Host, limit: number, call: Call<A>, onAnswer: (answer: A | Error) => void): void {
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
    call.onSent?.()
    const settle = (answer: unknown): void => {
      if (!this.pending.delete(settle)) return
      stop()
      this.telemetry.callBack(() => onAnswer(answer as A | Error))
    }
    const stop = process.timer(limit, () => settle(new Error("4 DEADLINE_EXCEEDED: Deadline exceeded")))
    this.pending.add(settle)
    const chances = Random.of(this.network.seed, 9, process.index, number)
    const used = host.token
    let isDone = false
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
          if (!(answer instanceof Error)) call.onAnswer?.()
          else if (answer instanceof NotDone) call.onRefusal?.()
          settle(answer)
        }))
    }
    /** Delivers it to the server after a delay, and handles its answer. */
    const take = (after: number, then: (answer: A | Error) => void): void => {
      unlessStalled(after, () =>
        atMember(this.network, host.member, () => {
          const answer = execute()
          log.note(21, digest(String(answer)) + this.network.server.keys.revision, () =>
            `server executes ${name}: ${traceOfAnswer(answer)}`)
          then(answer)
        }, () =>
          hear(isDone ? unavailable("Connection dropped") : unsent, this.latency())))
    }
    const execute = (): A | Error => {
      const { refusals, tokens } = this.network
      const isOld = used !== undefined && timeline.now >= used.until && tokens?.refusal.of.has(call.kind) === true
      const refusal = isOld ? tokens.refusal : refusals.saidBy(host.member, call.kind, chances)
      // The second copy does not report again what the first has done.
      if (refusal !== undefined && isDone) return unavailable("Connection dropped")
      if (refusal === undefined || refusal.mayBeDone === true && chances.chance(0.5)) {
        isDone = true
        const answer = call.execute(sentAt)
        if (refusal === undefined) return answer
      }
      return refusal.mayBeDone === true ? new Error(refusal.text) : new NotDone(refusal.text)
    }
    const reply = (answer: unknown): void => hear(answer, this.latency())
    const latency = this.latency() + (call.kind === "authenticate" ? overPassword : 0)
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
        hear(fault.random.pick([unavailable("Connection dropped"), unavailable(timedOut)]), 2 * latency)
        break
      case "error before":
        hear(fault.random.pick([new NotDone(tooMany), unsent]), 2 * latency)
        break
      case "error after":
        take(latency, () => reply(fault.random.pick([unavailable("Connection dropped"), unavailable(leaderChanged)])))
        break
    }
    process.deliver(this.onMessage)
  }

  /** Until then nothing passes in either direction. */
  stall(until: number): void {
    this.stalledUntil = Math.max(this.stalledUntil, until)
  }

  /** All calls in flight fail. */
  cut(): void {
    const left = Array.from(this.pending)
    this.process.deliver(() => left.forEach((settle) => settle(unavailable("Connection dropped"))))
  }

  /** The store has closed: nobody waits for these calls any more. */
  abandon(): void {
    this.failover.abandon()
    for (const fail of Array.from(this.attempts)) fail(closedFailure)
  }

  private latency(): number {
    return this.random.between(200, 2_500)
  }
}

/** Milliseconds. */
const authLimit = 2_000

/** Microseconds that a server needs to check a password. */
const overPassword = 75_000

const timedOut = "etcdserver: request timed out"
const leaderChanged = "etcdserver: leader changed"
const tooMany = "8 RESOURCE_EXHAUSTED: etcdserver: too many requests"
