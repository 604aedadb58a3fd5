import type { Call } from "../../../packages/dlock-redis/src/internal/protocol/index.ts"
import { digest } from "../log.ts"
import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { millis } from "../timeline.ts"
import { Answer, type Network, refusals } from "./network.ts"
import * as Wire from "./wire.ts"

/** A request without a reply so far. */
interface Pending {
  readonly settle: (reply: Wire.Raw) => void
  readonly stopTimer: () => void
}

/**
 * A process's connection for commands, as the store's own client keeps it: requests and replies in order, no request
 * sent again, a time limit on each reply, and a new connection when the old one breaks. Requests that were sent on the
 * old one may still be executed, late, after requests on the new one.
 */
export class Connection {
  ready = true
  onReconnect: () => void = () => {}
  /** Whether its connection has broken. */
  onClose: () => void = () => {}
  /** Called at each message, before or after it is handled: a program may be interrupted there. */
  onMessage: () => void = () => {}
  private readonly network: Network
  private readonly process: Process
  private readonly operationTimeout: number
  /** The number in the names of its messages: the index of its process, or a number above all of those. */
  private readonly line: number
  private readonly random: Random
  private generation = 0
  private sent = 0
  private closed = false
  private requestsAt = 0
  private repliesAt = 0
  private stalledUntil = 0
  private refusedUntil = 0
  private deniedUntil = 0
  private attempts = 0
  private readonly pending = new Set<Pending>()
  /**
   * When the call began whose reply is handled now: a script that the server does not know is sent again in the same
   * call.
   */
  private beganAt: number | undefined

  constructor(network: Network, process: Process, operationTimeout: number, line = process.index) {
    this.network = network
    this.process = process
    this.operationTimeout = operationTimeout
    this.line = line
    this.random = Random.of(network.seed, 5, line)
  }

  /** With `replicas` the reply is a pair with the number of replicas that confirmed the write. */
  send(
    command: "evalsha" | "eval",
    program: string,
    { args, keys }: Call,
    replicas?: Replicas
  ): Promise<unknown> {
    const { faults, log, timeline } = this.network
    const { process } = this
    const number = this.sent++
    const sentAt = process.monotonic()
    const fault = faults.message(this.line, number, timeline.now)
    const answer = new Answer()
    const pending: Pending = {
      settle: (reply) => {
        if (!this.pending.delete(pending)) return
        pending.stopTimer()
        answer.settle(reply)
      },
      stopTimer: this.operationTimeout === Infinity
        ? () => {}
        : process.timer(this.operationTimeout, () => pending.settle(new Error("Command timed out")))
    }
    this.pending.add(pending)
    log.note(
      20,
      number,
      () =>
        `process ${process.index} sends m${this.line}.${number}: ${nameOf(program)} ${args.join(" ")}${
          fault === undefined ? "" : `  [${fault.kind}]`
        }`
    )
    const { generation } = this
    const beganAt = this.beganAt ?? sentAt
    const request = Wire.decode(Wire.scripts.get(program)!.name, keys, args)
    const delivery = { command, request, program, keys, args, sentAt, beganAt, number, pending, generation, replicas }
    for (const { id, ttl } of Wire.claimsIn(request)) this.network.serverLog.recordSent(id, ttl)
    const latency = this.latency()
    switch (fault?.kind) {
      case undefined:
        this.arrive(delivery, latency)
        break
      case "request late":
        this.arrive(delivery, latency + fault.delay)
        break
      case "reply late":
        this.arrive(delivery, latency, { replyAfter: fault.delay })
        break
      case "executed twice":
        this.arrive(delivery, latency, { silent: true })
        this.arrive(delivery, latency + fault.delay / 8)
        break
      case "request lost":
        this.breakDown(latency, fault.random)
        break
      case "reply lost":
        this.arrive(delivery, latency, { silent: true })
        this.breakDown(2 * latency, fault.random)
        break
      case "executed late":
        // It lies in a buffer of the old connection, so its order with the new one is not defined.
        timeline.in(latency + fault.delay, () => this.whenAwake(() => this.execute(delivery, { silent: true })))
        this.breakDown(latency, fault.random)
        break
      case "error before":
        this.arrive(delivery, latency, { error: fault.random.pick(refusals) })
        break
      case "error after":
        this.arrive(delivery, latency, { errorAfter: "ERR user_script:1: something went wrong" })
        break
    }
    process.deliver(this.onMessage)
    return answer as unknown as Promise<unknown>
  }

  /**
   * Until then the server refuses the process: it accepts no new connection in place of this one, or refuses all
   * requests on it. The simulation has no handshakes: a connection whose handshake fails does not exist.
   */
  refuse(until: number, greeting: boolean, random: Random): void {
    if (!greeting) {
      this.deniedUntil = Math.max(this.deniedUntil, until)
      return
    }
    this.refusedUntil = Math.max(this.refusedUntil, until)
    this.breakDown(0, random)
  }

  isOf(process: number): boolean {
    return this.process.index === process
  }

  /** Until then nothing passes in either direction. Nothing is lost. */
  stall(until: number): void {
    this.requestsAt = Math.max(this.requestsAt, until)
    this.repliesAt = Math.max(this.repliesAt, until)
    this.stalledUntil = Math.max(this.stalledUntil, until)
  }

  /** Delivers it after all that was sent before it. */
  private arrive(delivery: Delivery, after: number, how: How = {}): void {
    const { timeline } = this.network
    this.requestsAt = Math.max(this.requestsAt + 1, timeline.now + after)
    timeline.at(this.requestsAt, () =>
      this.whenAwake(() => {
        if (delivery.generation === this.generation || this.buffered.has(delivery.generation)) {
          this.execute(delivery, how)
        }
      }))
  }

  /** Broken connections whose requests in flight were still delivered. */
  private readonly buffered = new Set<number>()

  private whenAwake(run: () => void): void {
    const { awakeAt, timeline } = this.network
    if (timeline.now >= awakeAt) run()
    else timeline.at(awakeAt + 1, () => this.whenAwake(run))
  }

  private execute(delivery: Delivery, how: How): void {
    const { serverLog, log, server, timeline } = this.network
    const { args, command, keys, number, program, request, sentAt } = delivery
    const denied = timeline.now < this.deniedUntil ? denial : undefined
    const why = denied ?? how.error
    const refused = why === undefined ? undefined : Wire.error(why)
    const done = refused ?? server.execute(command, program, keys, args)
    log.note(
      21,
      digest(String(done)),
      () => `server executes m${this.line}.${number}: ${done instanceof Error ? done.message : JSON.stringify(done)}`
    )
    const confirmations = Wire.confirmations(request, done)
    for (const [id, ms] of confirmations) serverLog.confirmUntil(id, sentAt + millis(ms))
    if (how.silent === true || delivery.generation !== this.generation) return
    const answered = how.errorAfter === undefined || done instanceof Error ? done : Wire.error(how.errorAfter)
    if (delivery.replicas !== undefined && !(answered instanceof Error)) {
      return this.waitForReplicas(delivery.replicas, delivery, answered, how)
    }
    this.reply(delivery, answered, how.replyAfter ?? 0)
  }

  /** Meanwhile nothing else is handled on this connection. */
  private waitForReplicas(
    { count, limit }: Replicas,
    delivery: Delivery,
    written: Wire.Raw,
    { replyAfter = 0 }: How
  ): void {
    const { faults, timeline } = this.network
    const fault = faults.replicas(this.line, delivery.number, timeline.now)
    const after = fault === undefined
      ? this.latency()
      : fault.kind === "replica late"
      ? fault.random.spread(2_000, millis(2 * limit))
      : Infinity
    const waits = Math.min(after, millis(limit))
    this.requestsAt = Math.max(this.requestsAt, timeline.now + waits)
    this.reply(delivery, [written, after > waits ? 0 : count], waits + replyAfter)
  }

  private reply(delivery: Delivery, reply: Wire.Raw, after: number): void {
    const { log, timeline } = this.network
    const { number } = delivery
    this.repliesAt = Math.max(this.repliesAt + 1, timeline.now + this.latency() + after)
    timeline.at(this.repliesAt, () => {
      if (delivery.generation !== this.generation) return
      this.process.deliver(() => {
        if (!this.pending.has(delivery.pending)) return
        log.note(22, number, () => `process ${this.process.index} hears the reply to m${this.line}.${number}`)
        this.onMessage()
        this.tellLedger(reply, delivery)
        this.beganAt = delivery.beganAt
        delivery.pending.settle(reply)
        this.beganAt = undefined
        if (reply instanceof Error && reply.message.startsWith("READONLY")) this.breakDown(0, this.random)
      })
    })
  }

  /** A confirmation that came in time must count. */
  private tellLedger(reply: Wire.Raw, { beganAt, request, sentAt }: Delivery): void {
    const { serverLog } = this.network
    // After any other error than a refusal the script may have run.
    if (reply instanceof Error && reply.message.startsWith("ERR")) return
    const took = (this.process.monotonic() - sentAt) / 1_000
    for (const { id } of Wire.claimsIn(request)) serverLog.recordAnswer(id, took)
    if (reply instanceof Error) return
    if (request.name === "release") serverLog.recordWithdrawal(request.args.id)
    if (request.name !== "renew") return
    const patience = Math.min(...request.claims.map(({ args }) => args.ttl)) / 8
    if (this.process.monotonic() - beganAt > millis(patience) - 2_000) return
    for (const [id, ms] of Wire.confirmations(request, reply)) serverLog.recordConfirmation(id, sentAt + millis(ms))
  }

  private latency(): number {
    return this.random.between(100, 1_500)
  }

  /** The connection breaks in a moment. Requests in flight may be delivered or not; no reply comes. */
  breakDown(after: number, random: Random): void {
    const { timeline } = this.network
    const { generation } = this
    const delivered = random.chance(0.5)
    const settlesAtOnce = random.chance(0.5)
    timeline.in(after, () => {
      if (generation !== this.generation || this.closed) return
      if (delivered) this.buffered.add(generation)
      this.generation++
      this.requestsAt = this.repliesAt = 0
      this.ready = false
      this.network.log.note(23, this.process.index, () => `the connection of process ${this.process.index} breaks`)
      // One major version of the client fails requests without a reply, the other leaves them to their time limits.
      if (settlesAtOnce) this.failPending()
      this.process.deliver(() => this.onClose())
      this.connect()
    })
  }

  private failPending(): void {
    for (const pending of Array.from(this.pending)) {
      this.process.deliver(() => pending.settle(new Error("Connection is closed.")))
    }
  }

  private connect(): void {
    const { timeline } = this.network
    const { generation } = this
    const pause = Math.min(20 * 2 ** Math.min(this.attempts++, 10), 500)
    timeline.in(millis(pause) + this.latency(), () => {
      if (generation !== this.generation || this.closed) return
      if (timeline.now < Math.max(this.network.upAt, this.network.awakeAt, this.stalledUntil, this.refusedUntil)) {
        return this.connect()
      }
      this.process.deliver(() => {
        if (generation !== this.generation || this.closed) return
        this.attempts = 0
        this.ready = true
        this.network.log.note(24, this.process.index, () => `process ${this.process.index} is connected again`)
        this.onReconnect()
      })
    })
  }

  close(): void {
    this.closed = true
    this.ready = false
    this.buffered.add(this.generation)
    this.generation++
    this.failPending()
  }
}

interface Delivery {
  readonly command: "evalsha" | "eval"
  readonly program: string
  readonly request: Wire.Request
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<string>
  readonly sentAt: number
  readonly beganAt: number
  readonly number: number
  readonly pending: Pending
  readonly generation: number
  readonly replicas: Replicas | undefined
}

/** How many replicas must confirm a write, and how many milliseconds to wait for them. */
export interface Replicas {
  readonly count: number
  readonly limit: number
}

interface How {
  readonly silent?: boolean
  readonly replyAfter?: number
  readonly error?: string
  readonly errorAfter?: string
}

const denial = "NOPERM User default has no permissions to run the 'evalsha' command"

const nameOf = (program: string): string => Wire.scripts.get(program)?.name ?? "?"
