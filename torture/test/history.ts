import { Checker, type Limits } from "../src/checker.ts"
import type { Fault, Recorded, Rule } from "../src/events.ts"

/** The `ttl` of all locks in these histories, milliseconds. */
export const ttl = 600

export type Line = Recorded

/** A history in short: who, at which moment, did what. */
export const acquired = (at: number, who: string, token: number | undefined, key = "k", age = 0): Line => ({
  t: "acquired",
  id: `${who}:${key}:${at}`,
  key,
  ttl,
  age,
  ask: `${who}:${key}:${at}`,
  asked: at,
  at,
  token: token === undefined ? undefined : `${token}`,
  who,
  arrived: at
})
const moves = (t: "enter" | "step" | "exit") => (at: number, lease: Line, accepted = true): Line => ({
  t,
  id: (lease as { readonly id: string }).id,
  accepted,
  who: lease.who,
  arrived: at
})
export const [enter, step, exit] = [moves("enter"), moves("step"), moves("exit")]
export const lost = (at: number, lease: Line, ago: number | undefined): Line => ({
  t: "lost",
  id: (lease as { readonly id: string }).id,
  at,
  reason: "Unreachable",
  ago,
  who: lease.who,
  arrived: at
})
export const asked = (at: number, who: string, serves?: Line): Line => ({
  t: "asked",
  ask: serves === undefined ? `${who}:${at}` : (serves as { readonly ask: string }).ask,
  key: "k",
  ttl: 5_000,
  at,
  who,
  arrived: at
})
export const lag = (from: number, to: number, who: string): Line => ({ t: "lag", from, to, who, arrived: to })
export const fault = (from: number, to: number, about: Partial<Fault>): ReadonlyArray<Line> => [
  {
    t: "fault",
    n: from,
    kind: "a fault",
    from,
    workers: "all",
    forgets: [],
    hit: true,
    who: "",
    arrived: from,
    ...about
  },
  { t: "healed", n: from, to, who: "", arrived: to }
]

export const checked = (history: ReadonlyArray<Line>, limits: Partial<Limits> = {}): Checker => {
  const checker = new Checker(limits)
  for (const event of history.toSorted((a, b) => a.arrived - b.arrived)) checker.add(event)
  checker.settle(1e9, true)
  return checker
}
export const found = (...history: ReadonlyArray<Line>): ReadonlyArray<Rule> =>
  checked(history).violations.map(({ rule }) => rule)
