import { mix } from "./random.ts"
import type { Timeline } from "./timeline.ts"

/** What happened, as a hash that is the same for the same world, and as text if somebody wants to read it. */
export class Log {
  hash = 0
  readonly lines: Array<string> | undefined
  private readonly timeline: Timeline

  constructor(timeline: Timeline, recorded: boolean) {
    this.timeline = timeline
    this.lines = recorded ? [] : undefined
  }

  /** `code` and `detail` go into the hash. The text is only made if it is kept. */
  note(code: number, detail: number, words: () => string): void {
    this.hash = mix(mix(mix(this.hash, this.timeline.now >>> 0), code), detail >>> 0)
    if (this.lines === undefined) return
    this.lines.push(`${(this.timeline.now / 1_000).toFixed(3).padStart(10)} ms  ${words()}`)
  }
}

/** The hash of a text, for `detail`. */
export const digest = (text: string): number => {
  let hash = 0
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return hash >>> 0
}
