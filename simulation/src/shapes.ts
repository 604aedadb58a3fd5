import { reader, writer } from "./lockShape.ts"
import type { Plan, SectionPlan } from "./plan.ts"
import type { Random } from "./random.ts"

/** The capacities in a world of semaphores: all processes agree, or a roll-out is half done. */
const capacities: ReadonlyArray<ReadonlyArray<number>> = [[1], [3], [3], [2, 4], [2, 4]]

const capacitiesOf = (random: Random, processes: number): ReadonlyArray<number> => {
  const all = random.pick(capacities)
  // Each has at least one process, but it is not always the same.
  const first = random.between(0, all.length - 1)
  return Array.from({ length: processes }, (_, index) => all[(first + index) % all.length]!)
}

/**
 * The plan with sections of its kind. Sections of a semaphore need some of the permits that their process knows of.
 * Every third section of a read-write lock is a writer, and half of these let readers in before they end.
 */
export const withShapes = (plan: Plan, random: Random): Plan => {
  const { kind } = plan
  if (kind === "mutex") return plan
  const known = capacitiesOf(random, plan.processes.length)
  const sectionOf = (section: SectionPlan, capacity: number): SectionPlan => {
    if (kind === "semaphore") return { ...section, shape: { kind, permits: random.between(1, capacity), capacity } }
    if (!random.chance(1 / 3)) return { ...section, shape: reader }
    return {
      ...section,
      shape: writer,
      downgradesAfter: random.chance(0.5) ? random.between(1, section.steps) : undefined
    }
  }
  const processes = plan.processes.map((programs, index) =>
    programs.map((sections) => sections.map((section) => sectionOf(section, known[index]!)))
  )
  return { ...plan, processes }
}
