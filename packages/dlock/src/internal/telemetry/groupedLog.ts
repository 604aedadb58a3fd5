import * as Effect from "effect/Effect"
import type { Time } from "../scheduling/time.ts"
import type { Log } from "./log.ts"

/** A line about one key. */
interface Line {
  readonly key: string
  readonly message: string
  /** Whether what it says is over, so that it need not be told any more. */
  readonly isOver?: boolean
}

/**
 * Logs warnings about keys. Those within 1 second share a line, because a backend that goes away ends all locks of a
 * process, each at its own deadline.
 */
export class GroupedLog {
  private untold: Array<Line> = []
  private telling = false
  private readonly log: Log
  private readonly time: Time
  private readonly fork: (effect: Effect.Effect<void>) => unknown
  /** The words before the other keys. */
  private readonly also: string

  constructor(log: Log, time: Time, fork: (effect: Effect.Effect<void>) => unknown, also: string) {
    this.log = log
    this.time = time
    this.fork = fork
    this.also = also
  }

  add(line: Line): void {
    this.untold.push(line)
    if (this.telling) return
    this.telling = true
    this.fork(Effect.andThen(Effect.yieldNow, this.tell))
  }

  /** Logs the lines that are not logged yet. */
  flush(): void {
    const [first, ...others] = this.untold.filter(({ isOver }) => isOver !== true)
    this.untold = []
    if (first === undefined) return
    const keys = others.slice(0, 4).map(({ key }) => JSON.stringify(key)).join(", ")
    const more = others.length > 4 ? ` and ${others.length - 4} others` : ""
    this.log.warn(others.length === 0 ? first.message : `${first.message}; ${this.also}: ${keys}${more}`, {
      key: first.key
    })
  }

  private readonly tell: Effect.Effect<void> = Effect.suspend(() => {
    if (this.untold.length === 0) {
      this.telling = false
      return Effect.void
    }
    this.flush()
    return Effect.andThen(this.time.sleep(pause), this.tell)
  })
}

const pause = 1_000
