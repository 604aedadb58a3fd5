import { sections } from "./sections.ts"

/** Empty bodies: nothing but handing over. */
export const hotProcesses = sections({
  name: "hot-processes",
  title: "4 processes × 4 tasks on a hot key, empty bodies",
  about: "The lock does nothing but move between processes.",
  processes: 4,
  tasks: 4,
  keys: "hot",
  bodyMs: 0,
  warmUpMs: 1_000,
  quickWarmUpMs: 0,
  turns: { count: 2, ms: 1_200 },
  quickTurns: { count: 1, ms: 500 },
  least: 100
})

/** The shape of a lock in service. */
export const hotProcesses5ms = sections({
  name: "hot-processes-5ms",
  title: "4 processes × 4 tasks on a hot key, bodies of 5 ms",
  about: "This is how a contended lock is used in a service. The fair share of waiting is 16 bodies.",
  processes: 4,
  tasks: 4,
  keys: "hot",
  bodyMs: 5,
  warmUpMs: 1_000,
  quickWarmUpMs: 0,
  turns: { count: 1, ms: 4_000 },
  quickTurns: { count: 1, ms: 1_200 },
  least: 100
})
