import { setTimeout as sleep } from "node:timers/promises"

/** A lock that is no mutex: a semaphore of so many permits, or a read-write lock of which some sections are writes. */
export type SharedLock =
  | { readonly kind: "semaphore"; readonly permits: number }
  | { readonly kind: "readWrite"; readonly writeEvery: number }

/** What is done inside the lock: for `ms` milliseconds, and not even a turn of the event loop where that is 0. */
export interface Body {
  readonly ms: number
  readonly entered: () => void
  readonly left: () => void
}

/** One task: sections on one key, one after the other, for as long as `again` says so. */
export interface Task extends Body {
  readonly key: string
  /** A mutex, unless given. Of a semaphore each section needs one permit. */
  readonly lock?: SharedLock | undefined
  /** Whether the next section of a read-write lock is a write. It is asked once for each. */
  readonly writes: () => boolean
  readonly again: () => boolean
  readonly failed: (error: unknown) => void
}

/** A library in this process, with its own connections. */
export interface Lock {
  /** Runs tasks side by side, in the library's own idiom. A section that fails is told of, and the task goes on. */
  readonly run: (tasks: ReadonlyArray<Task>) => Promise<void>
  /** Waits for the lock, runs the body, releases. */
  readonly section: (key: string, body: () => Promise<void>) => Promise<void>
  /** The body in the same idiom without a lock: what a section's memory is compared with. */
  readonly bare: (body: () => Promise<void>) => Promise<void>
  /** Takes locks to hold them without a program of each, where a library has a form for that; ends with the promise. */
  readonly hold?: (keys: ReadonlyArray<string>, until: Promise<void>, held: () => void) => Promise<void>
  readonly close: () => Promise<void>
}

/** A library over promises, from how it does one section. */
export const promised = (
  section: (key: string, body: () => Promise<void>, lock?: SharedLock) => Promise<void>,
  close: () => Promise<void>
): Lock => {
  const loop = async (task: Task): Promise<void> => {
    const body = async () => {
      task.entered()
      if (task.ms > 0) await sleep(task.ms)
      task.left()
    }
    while (task.again()) {
      try {
        await section(task.key, body, task.lock)
      } catch (error) {
        task.failed(error)
        await sleep(failurePause)
      }
    }
  }
  return {
    run: async (tasks) => void await Promise.all(tasks.map(loop)),
    section,
    bare: (body) => body(),
    close
  }
}

/** A library that fails at once would otherwise fill the run with its failures. */
export const failurePause = 50

/** For those that cannot wait: asks until it is true, every 10 ms with jitter, as a careful user would write it. */
export const poll = async (ask: () => Promise<boolean>): Promise<void> => {
  while (!await ask()) await sleep(5 + Math.random() * 10)
}
