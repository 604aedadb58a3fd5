import { sections } from "./sections.ts"

export const manyTasks = sections({
  name: "many-tasks",
  title: "64 tasks on their own keys",
  about: "One process has much work at once, and no two tasks want the same lock. This measures how far one "
    + "connection and one processor go.",
  processes: 1,
  tasks: 64,
  keys: "own",
  bodyMs: 0,
  warmUpMs: 2_500,
  quickWarmUpMs: 350,
  turns: { count: 8, ms: 400 },
  quickTurns: { count: 3, ms: 200 }
})
