/** A record of the last run of a job. */
interface Run {
  readonly slot: bigint | undefined
  readonly countedAt: number | undefined
  readonly id: string
  readonly startedAt: number
  readonly endedAt: number | undefined
  readonly outcome: string
  readonly label: string
}

export interface RunArgs {
  readonly step: string
  readonly kind: string
  /** The slot, or the milliseconds of the interval. */
  readonly amount: bigint
  readonly id: string
  readonly isCounted: boolean
  readonly outcome: string
  readonly elapsed: number
  readonly label: string
}

/** The records of runs, as the script `run` keeps them. Worlds are too short for one to expire. */
export class Runs {
  private readonly last = new Map<string, Run>()

  clear(): void {
    this.last.clear()
  }

  run(
    lock: string,
    { amount, elapsed, id, isCounted, kind, label, outcome, step }: RunArgs,
    isHeld: boolean,
    now: number
  ): string | ReadonlyArray<string | number> {
    const last = this.last.get(lock)
    const isMine = id !== "" && last?.id === id
    const isDone = !(isMine && step === "begin") && (kind === "s"
      ? last?.slot !== undefined && last.slot >= amount
      : kind === "i" && last?.countedAt !== undefined && last.countedAt + Number(amount) > now)
    const answer = [isDone ? "done" : "due", String(now), last === undefined ? 0 : textOf(last)]
    if (step === "find") return answer
    if (!isHeld) return "notHeld"
    if (step === "begin" && (isDone || isMine || !isCounted)) return answer
    if (step === "end" && isMine && last?.outcome !== "-") return "recorded"
    this.last.set(lock, {
      slot: isCounted && kind === "s" ? amount : last?.slot,
      countedAt: isCounted && kind === "i" ? now : last?.countedAt,
      id,
      startedAt: isMine ? last!.startedAt : now - elapsed,
      endedAt: step === "end" ? now : undefined,
      outcome: step === "end" ? outcome : "-",
      label
    })
    return step === "end" ? "recorded" : answer
  }
}

const textOf = ({ countedAt, endedAt, id, label, outcome, slot, startedAt }: Run): string =>
  ["1", slot ?? "-", countedAt ?? "-", id, startedAt, endedAt ?? "-", outcome, label].join("|")
