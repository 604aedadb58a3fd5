import { type ComponentChildren, h } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import { type Group, isForEver, type Item, type Leaf } from "./arrange.ts"
import type { Hold, Lock } from "./protocol.ts"
import type { Store } from "./store.ts"
import { counted, kindOf, roughly } from "./text.ts"

export interface TableProps {
  readonly store: Store
  readonly items: ReadonlyArray<Item>
  readonly selected: number | undefined
  readonly deadlocked: ReadonlySet<number>
  readonly isNarrow: boolean
  readonly onSelect: (id: number) => void
  readonly onToggle: (path: string, isOpen: boolean) => void
}

/** The locks. Only the rows in sight are there, so that thousands cost as much as thirty. */
export const Table = (props: TableProps) => {
  const { isNarrow, items, onSelect, onToggle, selected, store } = props
  const view = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  const [height, setHeight] = useState(400)
  const [active, setActive] = useState<string>()
  const rowHeight = isNarrow ? 60 : 36
  const headHeight = isNarrow ? 0 : 31

  useLayoutEffect(() => {
    const element = view.current!
    const observer = new ResizeObserver(() => setHeight(element.clientHeight))
    observer.observe(element)
    return () => observer.disconnect()
  }, [])

  const activeIndex = Math.max(0, items.findIndex((item) => nameOf(item) === active))
  const first = Math.max(0, Math.floor(top / rowHeight) - 4)
  const last = Math.min(items.length, Math.ceil((top + height) / rowHeight) + 4)

  const go = (index: number) => {
    const to = Math.max(0, Math.min(items.length - 1, index))
    setActive(nameOf(items[to]!))
    const element = view.current!
    if (to * rowHeight < element.scrollTop) element.scrollTop = to * rowHeight
    const bottom = (to + 1) * rowHeight - element.clientHeight + headHeight
    if (bottom > element.scrollTop) element.scrollTop = bottom
  }

  const onKeyDown = (event: KeyboardEvent) => {
    const item = items[activeIndex]
    if (item === undefined) return
    const page = Math.max(1, Math.floor(height / rowHeight) - 1)
    const moves: Readonly<Record<string, () => void>> = {
      ArrowDown: () => go(active === undefined ? 0 : activeIndex + 1),
      ArrowUp: () => go(activeIndex - 1),
      PageDown: () => go(activeIndex + page),
      PageUp: () => go(activeIndex - page),
      Home: () => go(0),
      End: () => go(items.length - 1),
      ArrowRight: () => item.type === "group" ? onToggle(item.path, true) : onSelect(item.lock.id),
      ArrowLeft: () => {
        if (item.type === "group" && item.isOpen) return onToggle(item.path, false)
        for (let index = activeIndex; index >= 0; index--) {
          if (items[index]!.depth < item.depth) return go(index)
        }
      },
      Enter: () => item.type === "group" ? onToggle(item.path, !item.isOpen) : onSelect(item.lock.id),
      " ": () => item.type === "group" ? onToggle(item.path, !item.isOpen) : onSelect(item.lock.id)
    }
    const move = moves[event.key]
    if (move === undefined || event.altKey || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    move()
  }

  // The bars and the times move on between messages.
  const [, tick] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 1_000)
    return () => clearInterval(timer)
  }, [])
  const now = store.now()

  const rows = items.slice(first, last).map((item, offset) => {
    const index = first + offset
    const common = {
      id: nameOf(item),
      key: nameOf(item),
      role: "row",
      "aria-rowindex": index + 2,
      "aria-level": item.depth + 1,
      style: { transform: `translateY(${index * rowHeight}px)` }
    }
    const isActive = active === nameOf(item)
    if (item.type === "group") {
      return h("div", {
        ...common,
        class: `row group depth-${Math.min(item.depth, 4)}${isActive ? " active" : ""}`,
        "aria-expanded": item.isOpen,
        onClick: () => {
          setActive(nameOf(item))
          onToggle(item.path, !item.isOpen)
        }
      }, groupCells(item))
    }
    return h("div", {
      ...common,
      class: `row lock depth-${Math.min(item.depth, 4)}${isActive ? " active" : ""}${
        selected === item.lock.id ? " selected" : ""
      }`,
      "aria-selected": selected === item.lock.id,
      onClick: () => {
        setActive(nameOf(item))
        onSelect(item.lock.id)
      }
    }, lockCells(item, now, props.deadlocked.has(item.lock.id)))
  })

  return h(
    "div",
    {
      class: "table",
      role: "treegrid",
      tabIndex: 0,
      "aria-label": "Locks: arrow keys to move, Enter to look at one",
      "aria-activedescendant": active,
      "aria-rowcount": items.length + 1,
      "aria-colcount": 5,
      onKeyDown
    },
    h(
      "div",
      {
        class: "rows",
        role: "presentation",
        ref: view,
        // What scrolls would be a stop of its own for the Tab key.
        tabIndex: -1,
        onScroll: () => setTop(view.current!.scrollTop)
      },
      h(
        "div",
        { role: "rowgroup", class: "head" },
        h(
          "div",
          { role: "row", class: "row", "aria-rowindex": 1 },
          ["Key", "Holder", "Held for", "Time left", "Waiting"].map((title) =>
            h("div", { role: "columnheader", class: "cell", key: title }, title)
          )
        )
      ),
      h("div", { class: "sizer", role: "rowgroup", style: { height: `${items.length * rowHeight}px` } }, rows)
    )
  )
}

const nameOf = (item: Item): string =>
  item.type === "group" ? `group ${item.path}`.replaceAll(/\s/g, "_") : `lock-${item.lock.id}`

const cell = (name: string, ...children: Array<ComponentChildren>) =>
  h("div", { role: "gridcell", class: `cell ${name}`, key: name }, children)

const groupCells = ({ isOpen, locks, path, trouble, waiting }: Group) => [
  h(
    "div",
    { role: "gridcell", class: "cell key", key: "key" },
    h("span", { class: `chevron${isOpen ? " open" : ""}`, "aria-hidden": "true" }),
    h("bdi", { class: "text mono", title: path }, h("span", null, path))
  ),
  h(
    "div",
    { role: "gridcell", class: "cell sum", key: "sum" },
    counted(locks, "lock"),
    waiting > 0 && h("span", { class: "waiting-sum" }, ` · ${waiting.toLocaleString("en")} waiting`),
    trouble > 0 && h("span", { class: "badge amber" }, `${trouble} in trouble`)
  )
]

const lockCells = ({ lock, said }: Leaf, now: number, isDeadlocked: boolean) => {
  const [hold] = lock.holders
  return [
    h(
      "div",
      { role: "gridcell", class: "cell key", key: "key" },
      h("span", { class: `dot ${toneOf(lock, isDeadlocked)}`, "aria-hidden": "true" }),
      h(
        "bdi",
        { class: "text mono", title: lock.key },
        said > 0 && h("span", { class: "said" }, lock.key.slice(0, said)),
        h("span", null, lock.key.slice(said))
      ),
      isDeadlocked && h("span", { class: "badge red" }, "deadlock"),
      lock.kind !== undefined && lock.kind !== "mutex" &&
        h(
          "span",
          { class: "badge" },
          lock.kind === "semaphore" ? `${lock.permitsHeld} of ${lock.capacity}` : kindOf(lock)
        )
    ),
    cell(
      "holder",
      hold === undefined
        ? h("span", { class: "muted" }, "nobody")
        : h("bdi", { class: "text", title: hold.holder }, hold.holder),
      lock.holderCount > 1 && h("span", { class: "more" }, `+${lock.holderCount - 1}`),
      hold !== undefined && badgesOf(hold)
    ),
    cell("age", hold === undefined ? "" : `${hold.isFromKnown ? "" : "≥ "}${roughly(now - hold.from)}`),
    cell("left", hold === undefined ? "" : h(Left, { hold, now })),
    cell(
      "behind",
      lock.queueLength > 0 && h("span", { class: "count" }, lock.queueLength.toLocaleString("en")),
      lock.queueLength > 0 && h("bdi", { class: "text muted" }, lock.waiting[0]?.holder)
    )
  ]
}

const toneOf = (lock: Lock, isDeadlocked: boolean): string =>
  isDeadlocked
    ? "red"
    : lock.holders.some(({ isOverdue }) => isOverdue)
    ? "amber"
    : lock.holders.some(({ isRevoked }) => isRevoked)
    ? "violet"
    : lock.queueLength > 0
    ? "blue"
    : "calm"

export const badgesOf = (hold: Hold) => [
  hold.isRevoked && h("span", { class: "badge violet", key: "revoked" }, "asked to leave"),
  hold.isOverdue && h("span", { class: "badge amber", key: "overdue" }, "not renewed"),
  hold.isForeign && h("span", { class: "badge", key: "foreign" }, isForEver(hold) ? "foreign, no expiry" : "foreign")
]

/** The time that is left, of the longest that was seen. */
export const Left = ({ hold, now }: { readonly hold: Hold; readonly now: number }) => {
  if (hold.expiresAt === undefined) return h("span", { class: "muted" }, hold.isForeign ? "for ever" : "not known")
  const left = Math.max(0, hold.expiresAt - now)
  const share = Math.min(1, left / Math.max(1, hold.full ?? left))
  return h(
    "span",
    { class: "left-bar" },
    h(
      "span",
      { class: `bar${hold.isOverdue ? " amber" : ""}`, "aria-hidden": "true" },
      h("span", { class: "fill", style: { transform: `scaleX(${share.toFixed(3)})` } })
    ),
    h("span", { class: "number" }, left === 0 ? "over" : roughly(left))
  )
}
