import type { Checker } from "./checker.ts"
import type { Section } from "./section.ts"
import type { Timeline } from "./timeline.ts"

/** Knows which runs of jobs count, and reports a run that must not be. */
export class Jobs {
  private readonly counted = new Map<string, bigint>()
  private readonly checker: Checker
  private readonly timeline: Timeline
  private lostAt = -1

  constructor(checker: Checker, timeline: Timeline) {
    this.checker = checker
    this.timeline = timeline
  }

  /** The server has lost its records. */
  forget(): void {
    this.counted.clear()
    this.lostAt = this.timeline.now
  }

  recordBegin(section: Section): void {
    const { job } = section.plan
    if (job === undefined) return
    const counted = this.counted.get(nameOf(section))
    if (counted !== undefined && counted >= job.slot) {
      this.checker.report("S15", `${section.title} runs the job for slot ${job.slot}, and ${counted} counts`)
    }
    if (job.counts === "start") this.count(section)
  }

  /** The caller was told that its run has succeeded and counts. */
  recordSuccess(section: Section): void {
    if (section.plan.job?.counts === "success") this.count(section)
  }

  private count(section: Section): void {
    // What was recorded before the loss is forgotten, although the caller hears of it only now.
    if (section.askedAt <= this.lostAt) return
    const name = nameOf(section)
    const { slot } = section.plan.job!
    this.counted.set(name, slot > (this.counted.get(name) ?? -1n) ? slot : this.counted.get(name)!)
  }
}

const nameOf = ({ lock, plan: { job } }: Section): string =>
  `${lock} ${job!.within === undefined ? "slots" : "interval"}`
