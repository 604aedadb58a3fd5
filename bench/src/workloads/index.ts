import { held } from "./held.ts"
import { hotProcess } from "./hot-process.ts"
import { hotProcesses, hotProcesses5ms } from "./hot-processes.ts"
import { manyTasks } from "./many-tasks.ts"
import { oneTask } from "./one-task.ts"
import { readWrite, semaphore } from "./shared.ts"
import { takeOverAfterKill } from "./take-over.ts"
import { waiters } from "./waiters.ts"
import type { Workload } from "./workload.ts"

export const workloads: ReadonlyArray<Workload> = [
  oneTask,
  manyTasks,
  hotProcess,
  hotProcesses,
  hotProcesses5ms,
  semaphore,
  readWrite,
  waiters,
  held,
  takeOverAfterKill
]
