import * as Os from "node:os"
import { Worker } from "node:worker_threads"
import * as Tally from "./tally.ts"
import type { Share } from "./worker.ts"

/** Lives many seeds on all cores but at most four, with a line of progress now and then. */
export const campaign = async (
  what: Pick<Share, "backend" | "extra" | "rules" | "within">,
  from: number,
  seeds: number,
  say: (line: string) => void
): Promise<Tally.Tally> => {
  const { backend } = what
  const tally = Tally.empty()
  const started = performance.now()
  const threads = Math.min(4, Os.availableParallelism(), seeds)
  const progress = setInterval(() => {
    const seconds = ((performance.now() - started) / 1_000).toFixed(0)
    say(`${backend}: ${tally.seeds} of ${seeds} seeds, ${tally.broken.length} violations, ${seconds} s`)
  }, 5_000)
  const share = (nth: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const workerData: Share = { ...what, from: from + nth, to: from + seeds, step: threads }
      const worker = new Worker(new URL("./worker.ts", import.meta.url), { workerData })
      worker.on("message", (part: Tally.Tally) => {
        Tally.merge(tally, part)
        for (const seed of part.broken) say(`${backend}: seed ${seed} breaks a promise`)
      })
      worker.on("error", reject)
      worker.on("exit", () => resolve())
    })
  try {
    await Promise.all(Array.from({ length: threads }, (_, nth) => share(nth)))
  } finally {
    clearInterval(progress)
  }
  tally.broken.sort((a, b) => a - b)
  return tally
}
