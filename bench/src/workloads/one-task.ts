import { sections } from "./sections.ts"

export const oneTask = sections({
  name: "one-task",
  title: "One task on its own key",
  about: "No other task wants the lock. This measures what it costs to have a lock at all.",
  processes: 1,
  tasks: 1,
  keys: "own",
  bodyMs: 0,
  warmUpMs: 2_500,
  quickWarmUpMs: 350,
  turns: { count: 8, ms: 400 },
  quickTurns: { count: 3, ms: 200 }
})
