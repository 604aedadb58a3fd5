import { h } from "preact"
import type { Happening, HappeningKind } from "./protocol.ts"
import type { Store } from "./store.ts"
import { timeOf } from "./text.ts"

export const words: Readonly<Record<HappeningKind, readonly [title: string, tone: string]>> = {
  lost: ["Lost", "red"],
  deadlock: ["Deadlock", "red"],
  broken: ["Broken", "red"],
  overdue: ["Not renewed", "amber"],
  away: ["Backend away", "amber"],
  revoking: ["Revocation", "violet"],
  revoked: ["Revoked", "violet"],
  back: ["Backend back", "calm"],
  handedOver: ["Handed over", "blue"]
}

export interface EventsProps {
  readonly store: Store
  readonly areHandOversShown: boolean
  readonly onShowHandOvers: (areShown: boolean) => void
  readonly onSelect: (id: number) => void
}

export const Events = ({ areHandOversShown, onSelect, onShowHandOvers, store }: EventsProps) => {
  const wanted = store.happenings.filter(({ kind }) => areHandOversShown || kind !== "handedOver").slice(0, mostShown)
  return h(
    "section",
    { class: "card events", "aria-labelledby": "events-title" },
    h(
      "header",
      null,
      h("h2", { id: "events-title" }, "Events"),
      h(
        "label",
        { class: "check" },
        h("input", {
          type: "checkbox",
          checked: areHandOversShown,
          onChange: (event: Event) => onShowHandOvers((event.target as HTMLInputElement).checked)
        }),
        "hand-overs"
      )
    ),
    wanted.length === 0
      ? h("p", { class: "empty" }, "Nothing has happened since the page was opened: no loss, no revocation.")
      : h(
        "ol",
        { class: "happenings", tabIndex: 0, "aria-label": "Events, the newest first" },
        wanted.map((happening) =>
          h(
            "li",
            { key: happening.version },
            h("time", null, timeOf(happening.at)),
            h("span", { class: `dot ${words[happening.kind][1]}`, "aria-hidden": "true" }),
            h(
              "div",
              { class: "what" },
              h(
                "div",
                { class: "title" },
                h("span", { class: `kind ${words[happening.kind][1]}` }, words[happening.kind][0]),
                keyOf(happening, onSelect)
              ),
              h("div", { class: "said" }, h("bdi", null, happening.text))
            )
          )
        )
      )
  )
}

const keyOf = ({ id, key }: Happening, onSelect: (id: number) => void) =>
  id !== undefined && key !== undefined &&
  h(
    "button",
    { type: "button", class: "link mono", title: key, onClick: () => onSelect(id) },
    h("bdi", { class: "text" }, key)
  )

const mostShown = 60
