import type { IWatchRequest, IWatchResponse } from "etcd3"
import type { WatchStream } from "../../../packages/dlock-etcd/src/internal/client/port.ts"
import type { Process } from "../process.ts"
import type { Random } from "../random.ts"
import { atMember, type Host, type Network } from "./network.ts"
import type { Watcher } from "./watching.ts"

export interface Listeners {
  readonly onResponse: (response: IWatchResponse) => void
  readonly onEnd: () => void
}

/** One stream of watches, in order in both directions. It may end, or be silent until that is noticed. */
export class Stream implements Watcher, WatchStream {
  readonly watches: Watcher["watches"] = new Map()
  named = 0
  readonly beginning: Watcher["beginning"] = new Set()
  private readonly network: Network
  private readonly process: Process
  private readonly listeners: Listeners
  private readonly random: Random
  private readonly count: () => number
  readonly member: number
  private readonly tokenUntil: number
  private requestsAt = 0
  private responsesAt = 0
  private silent = false
  private over = false

  /** It is opened with the host's auth token of that time, and its watches are requested with that token. */
  constructor(
    network: Network,
    process: Process,
    listeners: Listeners,
    random: Random,
    count: () => number,
    host: Host
  ) {
    this.member = host.member
    this.tokenUntil = (network.flaws.streamsKeepToken === true ? host.firstToken : host.token)?.until ?? Infinity
    this.network = network
    this.process = process
    this.listeners = listeners
    this.random = random
    this.count = count
    network.server.watching.watchers.add(this)
  }

  readonly refusal = (): string | undefined => {
    const { refusals, timeline, tokens } = this.network
    if (timeline.now >= this.tokenUntil) return tokens?.refusal.cancelReason
    return refusals.saidBy(this.member, "watch", this.random)?.cancelReason
  }

  readonly send = (request: IWatchRequest): void => {
    const { timeline } = this.network
    this.requestsAt = Math.max(this.requestsAt + 1, timeline.now + this.random.between(200, 2_500))
    timeline.at(this.requestsAt, () => {
      if (this.silent) return
      atMember(this.network, this.member, () => {
        if (this.network.server.watching.watchers.has(this)) this.network.server.watching.request(this, request)
      }, () => this.end())
    })
  }

  readonly tell = (response: object): void => {
    const { faults, log, timeline } = this.network
    const number = this.count()
    const fault = faults.notification(this.process.index, number, timeline.now)
    log.note(
      30,
      number,
      () =>
        `server tells p${this.process.index}.${number}: ${JSON.stringify(response)}${
          fault === undefined ? "" : `  [${fault.kind}]`
        }`
    )
    // A stream loses no single event: after a loss all that follows is lost too.
    if (fault?.kind === "notification lost") this.goSilent(fault.delay)
    if (this.silent) return
    const delay = fault?.kind === "notification late" ? fault.delay : 0
    this.responsesAt = Math.max(this.responsesAt + 1, timeline.now + this.random.between(200, 2_500) + delay)
    for (let times = fault?.kind === "notification twice" ? 2 : 1; times > 0; times--) {
      timeline.at(this.responsesAt, () => {
        if (!this.over) this.process.deliver(() => this.over || this.listeners.onResponse(response as IWatchResponse))
      })
    }
  }

  /** Nothing passes any more, which the connection's own pings notice in the end. */
  goSilent(micros: number): void {
    if (this.silent) return
    this.silent = true
    this.network.timeline.in(micros, () => this.end())
  }

  readonly end = (): void => {
    if (this.over) return
    this.network.server.watching.watchers.delete(this)
    this.network.timeline.in(this.random.between(200, 2_500), () =>
      this.process.deliver(() => {
        if (this.over) return
        this.over = true
        this.listeners.onEnd()
      }))
  }

  readonly close = (): void => {
    this.over = true
    this.network.server.watching.watchers.delete(this)
  }
}
