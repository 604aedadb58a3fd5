import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { millis } from "../timeline.ts"
import type { Network } from "./network.ts"
import type { Listener } from "./server.ts"

/**
 * A process's subscribed connection. It may break, or be silent while both sides consider it alive; messages that are
 * published meanwhile are lost.
 */
export class Inbox implements Listener {
  readonly name: string
  readonly listeners: Array<(message: string) => void> = []
  onReconnect: () => void = () => {}
  private readonly network: Network
  private readonly process: Process
  private readonly operationTimeout: number
  private readonly random: Random
  private generation = 0
  private up = true
  private silent = false
  private closed = false
  private heard = 0
  private messagesAt = 0
  private attempts = 0
  private refusedUntil = 0

  constructor(network: Network, process: Process, operationTimeout: number) {
    this.network = network
    this.process = process
    this.operationTimeout = operationTimeout
    this.name = `inbox-${process.index}`
    this.random = Random.of(network.seed, 6, process.index)
    network.server.subscribe(this.name, this)
  }

  hear(message: string): void {
    const { faults, serverLog, log, timeline } = this.network
    const number = this.heard++
    const fault = faults.notification(this.process.index, number, timeline.now)
    log.note(
      30,
      number,
      () =>
        `server pushes p${this.process.index}.${number}: ${message}${fault === undefined ? "" : `  [${fault.kind}]`}`
    )
    // A late or second copy may come when its claim has ended.
    const about = /^g:([^:]*):/.exec(message)?.[1]
    if (fault !== undefined && about !== undefined) serverLog.recordSent(about)
    if (this.silent || fault?.kind === "notification lost") return
    const times = fault?.kind === "notification twice" ? 2 : 1
    for (let time = 0; time < times; time++) {
      const after = this.random.between(100, 1_500) +
        (fault?.kind === "notification late" || time > 0 ? fault!.delay : 0)
      // A second copy looks as if somebody else had sent it: anybody may publish.
      if (time === 0) this.messagesAt = Math.max(this.messagesAt + 1, timeline.now + after)
      const { generation } = this
      timeline.at(time === 0 ? this.messagesAt : timeline.now + after, () => {
        if (generation !== this.generation) return
        this.process.deliver(() => this.listeners.forEach((listener) => listener(message)))
      })
    }
  }

  /** Nothing passes, and nobody notices. */
  goSilent(): void {
    this.silent = true
  }

  /** A silent connection is noticed sooner or later. */
  heal(): void {
    if (this.silent) this.breakDown()
  }

  /** Whether a ping is answered. If not, the connection is replaced. */
  probe(done: () => void): () => void {
    if (!this.up) {
      done()
      return () => {}
    }
    const { timeline } = this.network
    const stop = this.process.timer(this.operationTimeout, () => {
      this.breakDown()
      done()
    })
    const ask = (): void => {
      if (this.silent || !this.up) return
      if (timeline.now < this.network.awakeAt) return void timeline.at(this.network.awakeAt + 1, ask)
      this.process.deliver(() => {
        stop()
        done()
      })
    }
    timeline.in(this.random.between(300, 2_000), ask)
    return stop
  }

  /** Until then the server accepts no new one. */
  breakDown(refusedUntil = 0): void {
    if (this.closed) return
    this.refusedUntil = Math.max(this.refusedUntil, refusedUntil)
    this.network.server.unsubscribe(this.name, this)
    this.generation++
    this.up = false
    this.silent = false
    this.connect()
  }

  private connect(): void {
    const { timeline } = this.network
    const { generation } = this
    const pause = Math.min(20 * 2 ** Math.min(this.attempts++, 10), 500)
    timeline.in(millis(pause) + this.random.between(300, 3_000), () => {
      if (generation !== this.generation || this.closed) return
      if (timeline.now < Math.max(this.network.upAt, this.network.awakeAt, this.refusedUntil)) return this.connect()
      this.network.server.subscribe(this.name, this)
      this.up = true
      this.attempts = 0
      timeline.in(this.random.between(100, 1_500), () => {
        if (generation === this.generation) this.process.deliver(() => this.onReconnect())
      })
    })
  }

  close(): void {
    this.closed = true
    this.generation++
    this.network.server.unsubscribe(this.name, this)
  }
}
