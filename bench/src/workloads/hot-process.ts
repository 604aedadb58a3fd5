import { sections } from "./sections.ts"

export const hotProcess = sections({
  name: "hot-process",
  title: "16 tasks on a hot key in one process",
  about: "All tasks want the same lock, and release it at once.",
  processes: 1,
  tasks: 16,
  keys: "hot",
  bodyMs: 0,
  warmUpMs: 800,
  quickWarmUpMs: 0,
  turns: { count: 3, ms: 700 },
  quickTurns: { count: 1, ms: 500 }
})
