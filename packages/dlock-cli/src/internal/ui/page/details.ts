import { type ComponentChildren, h } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import { detailsOf } from "./connection.ts"
import type { Details as Known, Hold, Lock, Pairs } from "./protocol.ts"
import type { Store } from "./store.ts"
import { badgesOf, Left } from "./table.ts"
import { counted, durationOf, kindOf } from "./text.ts"

export interface DetailsProps {
  readonly store: Store
  readonly id: number
  readonly onClose: () => void
  readonly onRevoke: (lock: Lock, hold: Hold) => void
  readonly onBreak: (lock: Lock, hold: Hold) => void
}

/** One lock, read anew each second while it is looked at. */
export const Details = ({ id, onBreak, onClose, onRevoke, store }: DetailsProps) => {
  const [known, setKnown] = useState<Known>()
  const [problem, setProblem] = useState<string>()
  const heading = useRef<HTMLHeadingElement>(null)

  // At once: a key that is pressed next is for the details.
  useLayoutEffect(() => heading.current?.focus(), [id])
  useEffect(() => {
    let isOver = false
    let timer: ReturnType<typeof setTimeout>
    const read = async () => {
      try {
        const found = await detailsOf(id)
        if (isOver) return
        if (found !== undefined) setKnown(found)
        setProblem(found === undefined ? "This lock has been free for long." : undefined)
      } catch (error) {
        if (!isOver) setProblem(String((error as Error).message))
      }
      if (!isOver) timer = setTimeout(() => void read(), 1_000)
    }
    void read()
    return () => {
      isOver = true
      clearTimeout(timer)
    }
  }, [id])

  const lock: Lock | undefined = known?.id === id ? known : store.locks.get(id)
  const now = store.now()
  const canChange = store.about?.isReadOnly === false

  return h(
    "aside",
    {
      class: "card details",
      "aria-labelledby": "details-key",
      onKeyDown: (event: KeyboardEvent) => {
        if (event.key !== "Escape") return
        event.stopPropagation()
        onClose()
      }
    },
    h(
      "header",
      null,
      h(
        "h2",
        { id: "details-key", class: "whole-key mono", tabIndex: -1, ref: heading },
        h("bdi", null, lock?.key ?? "…")
      ),
      h("button", { type: "button", class: "close", onClick: onClose, "aria-label": "Close the details" }, cross())
    ),
    problem !== undefined && h("p", { class: "problem", role: "alert" }, problem),
    lock !== undefined && h(
      "p",
      { class: "muted facts" },
      h("span", null, kindOf(lock)),
      h("span", null, counted(lock.holderCount, "holder")),
      h("span", null, `${lock.queueLength.toLocaleString("en")} waiting`),
      lock.lastToken !== undefined && h("span", null, "last token ", h("span", { class: "mono" }, lock.lastToken))
    ),
    h("h3", null, lock !== undefined && lock.holderCount === 0 ? "Nobody holds it" : "Held by"),
    lock !== undefined && h(
      "ul",
      { class: "holds" },
      lock.holders.map((hold, index) =>
        h(
          "li",
          { key: hold.token },
          h("div", { class: "who" }, h("bdi", { class: "name" }, hold.holder), badgesOf(hold)),
          h(
            "dl",
            null,
            fact("Token", h("span", { class: "mono" }, hold.token)),
            fact("Held for", `${hold.isFromKnown ? "" : "at least "}${durationOf(now - hold.from)}`),
            fact("Time left", h(Left, { hold, now })),
            hold.permits > 1 && fact("Permits", String(hold.permits)),
            pairs(known?.id === id ? known.holderMetadata[index] : undefined)
          ),
          canChange && h(
            "div",
            { class: "actions" },
            h("button", {
              type: "button",
              "aria-label": `Revoke the hold of ${hold.holder}, token ${hold.token}`,
              disabled: hold.isForeign,
              title: hold.isForeign ? "A client of another library cannot be asked to leave" : undefined,
              onClick: () => onRevoke(lock, hold)
            }, "Revoke…"),
            h("button", {
              type: "button",
              class: "quiet danger",
              "aria-label": `Break the hold of ${hold.holder}, token ${hold.token}`,
              onClick: () => onBreak(lock, hold)
            }, "Break…")
          )
        )
      ),
      lock.holderCount > lock.holders.length &&
        h("li", { class: "muted" }, `and ${lock.holderCount - lock.holders.length} more`)
    ),
    lock !== undefined && lock.queueLength > 0 && h("h3", null, "Waiting, in this order"),
    lock !== undefined && h(
      "ol",
      { class: "queue" },
      lock.waiting.map((wait, index) =>
        h(
          "li",
          { key: index },
          h("bdi", { class: "name" }, wait.holder),
          wait.permits > 1 && h("span", { class: "badge" }, `${wait.permits} permits`),
          h("span", { class: "muted since" }, `≥ ${durationOf(now - wait.from)}`),
          known?.id === id && (known.waiterMetadata[index]?.length ?? 0) > 0 &&
            h("dl", null, pairs(known.waiterMetadata[index]))
        )
      )
    ),
    lock !== undefined && lock.queueLength > lock.waiting.length &&
      h("p", { class: "muted" }, `and ${lock.queueLength - lock.waiting.length} more`)
  )
}

const fact = (name: string, value: ComponentChildren) => [
  h("dt", { key: `${name}?` }, name),
  h("dd", { key: name }, value)
]

const pairs = (all: Pairs | undefined) =>
  all?.map(([name, value]) => [
    h("dt", { key: `?${name}` }, h("bdi", null, name)),
    h("dd", { key: `=${name}` }, h("bdi", null, value))
  ])

export const cross = () =>
  h(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    h("path", { d: "M4 4l8 8M12 4l-8 8", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round" })
  )
