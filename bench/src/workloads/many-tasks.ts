import { sections } from "./sections.ts"

export const manyTasks = sections({
  name: "many-tasks",
  title: "64 tasks on their own keys",
  about: "One process with much to do at once, and no lock that two want: how far one connection and one processor go.",
  processes: 1,
  tasks: 64,
  keys: "own",
  bodyMs: 0,
  warmUpMs: 2_500,
  quickWarmUpMs: 350,
  turns: { count: 8, ms: 400 },
  quickTurns: { count: 3, ms: 200 }
})
