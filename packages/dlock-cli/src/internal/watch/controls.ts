/** What the keys do. */
import * as Option from "effect/Option"
import type * as Terminal from "effect/Terminal"
import { type Sort, sorts, type Wanted } from "./lockTable.ts"

export interface Controls extends Wanted {
  /** Whether the filter is being typed. */
  readonly isTyping: boolean
  readonly selected: string | undefined
  /** Whether the selected lock is shown with its queue. */
  readonly isOpen: boolean
}

export const initial: Controls = {
  sort: "key",
  filter: "",
  only: "all",
  isTyping: false,
  selected: undefined,
  isOpen: false
}

/** What a key does. `keys`: those that are shown, in their order. `undefined`: the end. */
export const press = (
  controls: Controls,
  { input, key }: Terminal.UserInput,
  keys: ReadonlyArray<string>,
  pageSize: number
): Controls | undefined => {
  if (key.ctrl && (key.name === "c" || key.name === "d")) return undefined
  if (controls.isTyping) return type(controls, { input, key })
  const move = (by: number) => ({ ...controls, selected: moved(controls.selected, keys, by) })
  switch (key.name) {
    case "q":
      return undefined
    case "up":
    case "k":
      return move(-1)
    case "down":
    case "j":
      return move(1)
    case "pageup":
      return move(-pageSize)
    case "pagedown":
    case "space":
      return move(pageSize)
    case "home":
    case "g":
      return { ...controls, selected: keys[0] }
    case "end":
      return { ...controls, selected: keys.at(-1) }
    case "s":
      return { ...controls, sort: next(controls.sort) }
    case "h":
      return { ...controls, only: controls.only === "held" ? "all" : "held" }
    case "w":
      return { ...controls, only: controls.only === "waiting" ? "all" : "waiting" }
    case "return":
    case "enter":
      return { ...controls, selected: controls.selected ?? keys[0], isOpen: !controls.isOpen }
    case "escape":
      return controls.isOpen ? { ...controls, isOpen: false } : { ...controls, filter: "", selected: undefined }
  }
  return Option.getOrUndefined(input) === "/" ? { ...controls, isTyping: true } : controls
}

/** While the filter is typed. */
const type = (controls: Controls, { input, key }: Terminal.UserInput): Controls => {
  switch (key.name) {
    case "return":
    case "enter":
      return { ...controls, isTyping: false }
    case "escape":
      return { ...controls, isTyping: false, filter: "" }
    case "backspace":
      return { ...controls, filter: Array.from(controls.filter).slice(0, -1).join("") }
  }
  const text = Option.getOrElse(input, () => "")
  return key.ctrl || key.meta || /^[\p{C}]*$/u.test(text) ? controls : { ...controls, filter: controls.filter + text }
}

const moved = (selected: string | undefined, keys: ReadonlyArray<string>, by: number): string | undefined => {
  const at = selected === undefined ? -1 : keys.indexOf(selected)
  if (at === -1) return by > 0 ? keys[0] : keys.at(-1)
  return keys[Math.min(keys.length - 1, Math.max(0, at + by))]
}

const next = (sort: Sort): Sort => sorts[(sorts.indexOf(sort) + 1) % sorts.length]!
