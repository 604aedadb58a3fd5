import { run, type Settings } from "./world.ts"

/** The smallest part found of a world that breaks the same promise. */
export interface Shrunk {
  readonly faults: ReadonlyArray<string>
  readonly sections: ReadonlyArray<number>
  readonly runs: number
}

/**
 * Removes faults and sections while the same promise is still broken: first halves, then smaller parts, then one at a
 * time.
 */
export const shrink = (settings: Settings, mostRuns = 600): Shrunk => {
  const first = run(settings)
  const rule = first.violation?.rule
  let runs = 1
  const breaks = (faults: ReadonlyArray<string>, sections: ReadonlyArray<number>): boolean => {
    runs++
    const only = new Set(faults)
    return run({ ...settings, only, sections: new Set(sections) }).violation?.rule === rule
  }
  const least = <A>(list: ReadonlyArray<A>, stillBreaks: (list: ReadonlyArray<A>) => boolean): ReadonlyArray<A> => {
    let kept = list
    for (
      let size = Math.ceil(kept.length / 2);
      size >= 1 && kept.length > 0;
      size = size === 1 ? 0 : Math.ceil(size / 2)
    ) {
      for (let from = 0; from < kept.length && runs < mostRuns;) {
        const fewer = [...kept.slice(0, from), ...kept.slice(from + size)]
        if (stillBreaks(fewer)) kept = fewer
        else from += size
      }
    }
    return kept
  }
  const all = Array.from(first.sections)
  let faults: ReadonlyArray<string> = first.injected.map(({ name }) => name)
  if (!breaks(faults, all)) return { faults, sections: all, runs }
  faults = least(faults, (fewer) => breaks(fewer, all))
  const sections = least(all, (fewer) => breaks(faults, fewer))
  faults = least(faults, (fewer) => breaks(fewer, sections))
  return { faults, sections, runs }
}
