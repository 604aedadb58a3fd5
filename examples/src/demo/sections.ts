import type { Event } from "./journal.ts"

/** One stay of one worker, as its events tell of it. Times are milliseconds since the first event. */
export interface Section {
  readonly worker: string
  /** Absent where nobody waited. */
  readonly askedAt: number | undefined
  readonly enteredAt: number
  /** When the worker was out, or had to be: the end of its lease, if that came first. */
  endedAt: number
  /** When it stopped acting. */
  leftAt: number
  readonly token: bigint | undefined
  /** The stock that it read, if there was any. */
  left: number | undefined
  outcome: "sold" | "sold out" | "refused" | undefined
  lost: string | undefined
  refusedAt: number | undefined
}

/** Puts the events of all workers, in the order of their times, together to sections, in the order of entering. */
export const sectionsOf = (events: ReadonlyArray<Event>): ReadonlyArray<Section> => {
  const sections: Array<Section> = []
  const asked = new Map<string, number>()
  const inside = new Map<string, Section>()
  const origin = events[0]?.at ?? 0
  for (const event of events) {
    const at = event.at - origin
    const section = inside.get(event.worker)
    switch (event._tag) {
      case "Asked":
        asked.set(event.worker, at)
        continue
      case "Entered": {
        const entered: Section = {
          worker: event.worker,
          askedAt: asked.get(event.worker),
          enteredAt: at,
          endedAt: Infinity,
          leftAt: Infinity,
          token: event.token,
          left: undefined,
          outcome: undefined,
          lost: undefined,
          refusedAt: undefined
        }
        asked.delete(event.worker)
        inside.set(event.worker, entered)
        sections.push(entered)
        continue
      }
    }
    if (section === undefined) continue
    switch (event._tag) {
      case "Paying":
        section.left = event.left
        break
      case "Sold":
        section.outcome = "sold"
        break
      case "SoldOut":
        section.outcome = "sold out"
        break
      case "Refused":
        section.outcome = "refused"
        section.refusedAt = at
        break
      case "Lost":
        section.lost = event.reason
        section.endedAt = Math.min(section.endedAt, event.endedAt - origin)
        break
      case "Left":
        section.leftAt = at
        section.endedAt = Math.min(section.endedAt, at)
        inside.delete(event.worker)
    }
  }
  return sections
}

/** How near two workers came to each other: the shortest time between an end and the next beginning. Below 0, both were inside. */
export const closestHandOver = (sections: ReadonlyArray<Section>): number => {
  let closest = Infinity
  let freeAt = -Infinity
  for (const section of sections) {
    closest = Math.min(closest, section.enteredAt - freeAt)
    freeAt = Math.max(freeAt, section.endedAt)
  }
  return closest
}
