import { h, render } from "preact"
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks"
import { arrange, isTrouble, type Order, type Show, sorted } from "./arrange.ts"
import { follow } from "./connection.ts"
import { Details } from "./details.ts"
import { BreakDialog, RevokeDialog, type Target } from "./dialogs.ts"
import { Events, words } from "./events.ts"
import { Lanes } from "./lanes.ts"
import type { Answer, Happening, Hold, Lock } from "./protocol.ts"
import { Store } from "./store.ts"
import { Table } from "./table.ts"
import { durationOf } from "./text.ts"
import { Waits } from "./waits.ts"

const Page = ({ store }: { readonly store: Store }) => {
  const [, draw] = useState(0)
  useEffect(() => store.listen(() => draw((count) => count + 1)), [store])

  const [query, setQuery] = useState("")
  const [show, setShow] = useState<Show>("all")
  const [order, setOrder] = useState<Order>("key")
  const [toggled, setToggled] = useState<ReadonlyMap<string, boolean>>(new Map())
  const [selected, setSelected] = useState<number>()
  const [areHandOversShown, showHandOvers] = useState(true)
  const [dialog, setDialog] = useState<Target & { readonly kind: "revoke" | "break"; readonly nth: number }>()
  const [answer, setAnswer] = useState<{ readonly text: string; readonly isBad: boolean }>()
  const isNarrow = useNarrow()

  const deadlocked = useMemo(
    () => new Set(store.waits.cycles.flatMap((circle) => circle.map(({ id }) => id))),
    [store.waits]
  )
  // A lock that changes keeps its place: only what comes and goes is sorted in.
  const keys = useMemo(() => sorted(store.locks.values()).map(({ id }) => id), [store, store.composition])
  const items = useMemo(
    () => arrange(keys.map((id) => store.locks.get(id)!), { query, show, order, toggled }, deadlocked),
    [keys, store.revision, query, show, order, toggled, deadlocked]
  )
  // The lanes need not follow each of four messages a second.
  const half = Math.floor(store.now() / 500)
  const totals = useMemo(() => totalsOf(store.locks.values(), deadlocked), [store.revision, deadlocked])

  const select = useCallback((id: number) => setSelected(id), [])
  const close = () => {
    setSelected(undefined)
    document.querySelector<HTMLElement>(".table")?.focus()
  }
  const toggle = useCallback(
    (path: string, isOpen: boolean) => setToggled((before) => new Map(before).set(path, isOpen)),
    []
  )
  const dialogs = useRef(0)
  const open = (kind: "revoke" | "break") => (lock: Lock, hold: Hold) =>
    setDialog({ kind, lock, hold, nth: ++dialogs.current })
  const told = (answer: Answer | Error) =>
    setAnswer(
      answer instanceof Error
        ? { text: answer.message, isBad: true }
        : { text: answer.text, isBad: answer.outcome === "notHeld" || answer.outcome === "refused" }
    )
  useEffect(() => {
    if (answer === undefined) return undefined
    const timer = setTimeout(() => setAnswer(undefined), 12_000)
    return () => clearTimeout(timer)
  }, [answer])

  const isEmpty = store.isComplete && store.locks.size === 0
  return h(
    "div",
    { class: `page${store.connection === "live" && store.status.backend !== "away" ? "" : " stale"}` },
    h(Header, { store }),
    h(Trouble, { store }),
    h(
      "main",
      { class: selected === undefined ? "" : "with-details" },
      h(
        "div",
        { class: "column" },
        h(
          "section",
          { class: "card locks", "aria-labelledby": "locks-title" },
          h("h2", { id: "locks-title", class: "hidden" }, "Locks"),
          h(
            "dl",
            { class: "totals" },
            total("locks", totals.locks),
            total("waiting", totals.waiting, totals.waiting > 0 ? "blue" : ""),
            total("in trouble", totals.trouble, totals.trouble > 0 ? "amber" : ""),
            total("lost", store.losses, store.losses > 0 ? "red" : ""),
            total("hand-overs", store.handOvers)
          ),
          h(
            "div",
            { class: "tools", role: "search" },
            h("input", {
              type: "search",
              class: "query",
              placeholder: "Filter by key or holder",
              "aria-label": "Filter by key or holder",
              spellcheck: false,
              value: query,
              onInput: (event: Event) => setQuery((event.target as HTMLInputElement).value),
              onKeyDown: (event: KeyboardEvent) => {
                if (event.key === "Escape") setQuery("")
              }
            }),
            h(
              "fieldset",
              { class: "shows" },
              h("legend", { class: "hidden" }, "Which locks"),
              shows.map(([value, text]) =>
                h(
                  "label",
                  { key: value },
                  h("input", { type: "radio", name: "show", checked: show === value, onChange: () => setShow(value) }),
                  h("span", null, text)
                )
              )
            ),
            h(
              "label",
              { class: "order" },
              h("span", { class: "hidden" }, "Order"),
              h(
                "select",
                {
                  value: order,
                  onChange: (event: Event) => setOrder((event.target as HTMLSelectElement).value as Order)
                },
                orders.map(([value, text]) => h("option", { key: value, value, selected: order === value }, text))
              )
            )
          ),
          !store.isComplete && store.locks.size === 0
            ? h(
              "p",
              { class: "empty tall", role: "status" },
              h("span", { class: "spinner", "aria-hidden": "true" }),
              "Reading the locks…"
            )
            : isEmpty
            ? h(Nothing, { store })
            : items.length === 0
            ? h("p", { class: "empty tall" }, "No lock fits this filter.")
            : h(Table, { store, items, selected, deadlocked, isNarrow, onSelect: select, onToggle: toggle })
        ),
        h(Lanes, { store, revision: half, selected, deadlocked })
      ),
      h(
        "div",
        { class: "column side" },
        selected !== undefined &&
          h(Details, { store, id: selected, onClose: close, onRevoke: open("revoke"), onBreak: open("break") }),
        h(Waits, { waits: store.waits, onSelect: select }),
        h(Events, { store, areHandOversShown, onShowHandOvers: showHandOvers, onSelect: select })
      )
    ),
    h(Footer, { store }),
    dialog !== undefined &&
      h(dialog.kind === "revoke" ? RevokeDialog : BreakDialog, {
        ...dialog,
        // The browser tells that a dialog closed a moment later, when the next one may be open: Esc, Enter.
        key: dialog.nth,
        onClose: () => setDialog((shown) => shown === dialog ? undefined : shown),
        onAnswer: told
      }),
    h(
      "div",
      { class: "toasts", role: "status" },
      answer !== undefined && h("p", { class: `toast${answer.isBad ? " bad" : ""}` }, answer.text)
    ),
    h(
      "div",
      { class: "hidden", role: "log", "aria-live": "polite", "aria-label": "What happens" },
      spoken(store.happenings)
    )
  )
}

const Header = ({ store }: { readonly store: Store }) => {
  const { about } = store
  return h(
    "header",
    { class: "top" },
    h("h1", null, h("img", { src: "icon.svg", alt: "", width: 22, height: 22 }), "dlock"),
    about !== undefined && h(
      "p",
      { class: "where" },
      h("span", { class: "chip" }, about.driver),
      h(
        "span",
        { class: "chip mono", title: "The prefix of the keys" },
        h("bdi", { class: "text" }, `${about.keyPrefix}${about.within}`)
      ),
      about.isReadOnly
        ? h(
          "span",
          { class: "chip quiet", title: "Start `dlock ui --allow-changes` to revoke and break locks" },
          "read-only"
        )
        : h("span", { class: "chip amber" }, "changes allowed")
    ),
    h(
      "p",
      { class: `state ${stateOf(store)[1]}` },
      h("span", { class: "dot", "aria-hidden": "true" }),
      stateOf(store)[0]
    )
  )
}

const stateOf = ({ connection, status }: Store): readonly [text: string, tone: string] =>
  connection === "connecting"
    ? ["connecting", "calm"]
    : connection !== "live"
    ? ["not connected", "red"]
    : status.backend === "away"
    ? ["backend away", "amber"]
    : ["live", "green"]

/** What keeps the page from being up to date. */
const Trouble = ({ store: { connection, status } }: { readonly store: Store }) =>
  connection === "refused"
    ? h(
      "p",
      { class: "banner red", role: "alert" },
      "dlock ui was started again, under another address. Open the one that it has printed."
    )
    : connection === "gone"
    ? h(
      "p",
      { class: "banner red", role: "alert" },
      "dlock ui does not answer: it has ended, or the connection to it is broken. What is below is old. The page tries again."
    )
    : status.backend === "away"
    ? h(
      "p",
      { class: "banner amber", role: "alert" },
      h("strong", null, "The backend does not answer. "),
      "What is below is old. The page tries again. ",
      h("span", { class: "why" }, h("bdi", null, status.why))
    )
    : null

const Nothing = ({ store }: { readonly store: Store }) =>
  h(
    "div",
    { class: "empty tall" },
    h("p", { class: "big" }, "No lock is held, and nobody waits."),
    h(
      "p",
      null,
      "The page looks for keys that begin with ",
      h("code", null, h("bdi", null, `${store.about?.keyPrefix ?? ""}${store.about?.within ?? ""}`)),
      ". If there should be some, compare DLOCK_PREFIX with that of your services."
    )
  )

const Footer = ({ store }: { readonly store: Store }) => {
  const { everyMs, tookMs } = store.status
  return h(
    "footer",
    { class: "bottom" },
    everyMs !== undefined && tookMs !== undefined &&
      `Read every ${durationOf(everyMs)}, in ${Math.round(tookMs)} ms. What is shorter than that may not be seen. `,
    "Use this page to look, and never to decide in a program whether a lock is free."
  )
}

const total = (name: string, count: number, tone = "") =>
  h("div", { class: tone, key: name }, h("dt", null, name), h("dd", null, count.toLocaleString("en")))

const totalsOf = (locks: Iterable<Lock>, deadlocked: ReadonlySet<number>) => {
  const totals = { locks: 0, waiting: 0, trouble: 0 }
  for (const lock of locks) {
    totals.locks++
    totals.waiting += lock.queueLength
    if (isTrouble(lock, deadlocked)) totals.trouble++
  }
  return totals
}

/** What a screen reader says of the events: those that somebody should know of, and of a crowd of them no more than three. */
const spoken = (happenings: ReadonlyArray<Happening>) =>
  happenings.filter(({ kind }) => kind !== "handedOver").slice(0, 3).toReversed()
    .map(({ key, kind, text, version }) =>
      h("p", { key: version }, `${words[kind][0]}${key === undefined ? "" : ` ${key}`}: ${text}`)
    )

const useNarrow = (): boolean => {
  const query = useMemo(() => matchMedia("(max-width: 720px)"), [])
  const [isNarrow, setNarrow] = useState(query.matches)
  useEffect(() => {
    const listen = () => setNarrow(query.matches)
    query.addEventListener("change", listen)
    return () => query.removeEventListener("change", listen)
  }, [query])
  return isNarrow
}

const shows: ReadonlyArray<readonly [Show, string]> = [["all", "All"], ["contended", "Contended"], [
  "trouble",
  "Trouble"
]]

const orders: ReadonlyArray<readonly [Order, string]> = [
  ["key", "By key"],
  ["queue", "Longest queue"],
  ["age", "Held longest"],
  ["left", "Least time left"]
]

const store = new Store()
render(h(Page, { store }), document.getElementById("page")!)
follow(store)
