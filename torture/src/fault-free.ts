import { type Backend } from "./backends.ts"
import { eventually } from "./environments/environment.ts"
import { startEnvironment } from "./environments/index.ts"
import { now } from "./events.ts"
import { startRecorder } from "./recorder.ts"
import type { State } from "./resource.ts"
import { settingsOf } from "./settings.ts"
import { startWorkers } from "./workers.ts"

export interface Quiet {
  readonly backend: Backend
  readonly seconds: number
  readonly sections: number
  readonly state: State
  /** Bytes after a collection, at the beginning, the middle and the end: the median over the workers. */
  readonly heap: ReadonlyArray<number>
  readonly flat: boolean
}

const workerCount = 4

/** Sections without faults, as fast as may be. Nothing may be wrong with them, and nothing may pile up. */
export const faultFree = async (
  backend: Backend,
  sections: number,
  seed: number,
  progress: (line: string) => void
): Promise<Quiet> => {
  const environment = await startEnvironment(backend, new Set())
  const settings = settingsOf(backend, "ours", environment.ttl, new Set(), 0)
  const recorder = await startRecorder(settings.checker)
  try {
    const workers = await startWorkers(environment, recorder, {
      count: workerCount,
      assignment: {
        ...settings.assignment,
        subject: "ours",
        ttl: 30_000,
        fibers: 24,
        cold: 16,
        sections: Math.ceil(sections / workerCount)
      },
      seed,
      proxied: false
    })
    try {
      const startedAt = now()
      const finished = Promise.all(
        workers.all.map((worker) => worker.process().waitFor((one) => "finished" in one, 3_600_000))
      )
      const ticker = setInterval(() => {
        void recorder.state().then((state) =>
          progress(
            `${
              ((now() - startedAt) / 1_000).toFixed(0).padStart(5)
            } s  ${state.sections} sections, ${state.found} violations`
          )
        )
      }, 5_000)
      await finished.finally(() => clearInterval(ticker))
      const seconds = (now() - startedAt) / 1_000
      const samples = workers.all.map((worker) =>
        worker.process().messages.flatMap((one) => "heap" in one ? [one.heap] : [])
      )
      await workers.finish(settings.patience)
      await eventually(async () => (await environment.orphans()).length === 0, settings.patience)
      for (const what of (await environment.orphans()).slice(0, 10)) recorder.tell({ t: "orphan", what })
      const state = await recorder.settle()
      const heap = [0.15, 0.5, 1].map((share) => median(samples.map((of) => of[Math.ceil(share * of.length) - 1] ?? 0)))
      // What the machine compiles and caches comes at the beginning.
      const flat = heap[2]! <= 1.25 * heap[1]! + 2 * 2 ** 20
      return { backend, seconds, sections: state.sections, state, heap, flat }
    } finally {
      await workers.stop()
    }
  } finally {
    await recorder.stop(false)
    await environment.stop()
  }
}

const median = (numbers: ReadonlyArray<number>): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0
