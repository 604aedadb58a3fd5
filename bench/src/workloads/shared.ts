import { sections } from "./sections.ts"

/** At most so many at once, over all processes. */
export const semaphore = sections({
  name: "semaphore",
  title: "4 processes × 4 tasks on a semaphore of 4, bodies of 5 ms",
  about: "Each task needs one of four permits: ours by `DistributedSemaphore`, redis-semaphore's by `Semaphore`, and "
    + "effect-distributed-lock's by its own `DistributedSemaphore`. The fair share of waiting is 4 bodies. "
    + "– means that a library has no semaphore.",
  processes: 4,
  tasks: 4,
  keys: "hot",
  lock: { kind: "semaphore", permits: 4 },
  bodyMs: 5,
  warmUpMs: 1_000,
  quickWarmUpMs: 0,
  turns: { count: 1, ms: 4_000 },
  quickTurns: { count: 1, ms: 1_200 },
  least: 100
})

/** Many read, few write. */
export const readWrite = sections({
  name: "read-write",
  title: "4 processes × 4 tasks on a read-write lock, 90 % readers, bodies of 5 ms",
  about:
    "Every tenth section of a task is a write. A waiting writer stops later readers, so the sections come in batches "
    + "of readers with a writer between them. – means that a library has no read-write lock.",
  processes: 4,
  tasks: 4,
  keys: "hot",
  lock: { kind: "readWrite", writeEvery: 10 },
  bodyMs: 5,
  warmUpMs: 1_000,
  quickWarmUpMs: 0,
  turns: { count: 1, ms: 4_000 },
  quickTurns: { count: 1, ms: 1_200 },
  least: 100
})
