import { type ComponentChildren, h } from "preact"
import { useLayoutEffect, useRef, useState } from "preact/hooks"
import { breakLock, revoke } from "./connection.ts"
import { cross } from "./details.ts"
import type { Answer, Hold, Lock } from "./protocol.ts"

export interface Target {
  readonly lock: Lock
  readonly hold: Hold
}

interface DialogProps extends Target {
  readonly onClose: () => void
  readonly onAnswer: (answer: Answer | Error) => void
}

/** Asks a holder to leave. The token is the one that was seen, so that a later holder is never harmed. */
export const RevokeDialog = (props: DialogProps) => {
  const { hold } = props
  const [grace, setGrace] = useState("0")
  const [why, setWhy] = useState("")
  return h(
    Dialog,
    {
      ...props,
      title: "Revoke this hold",
      action: "Revoke",
      isReady: /^\d{1,3}$/.test(grace) && Number(grace) <= 600,
      act: () => revoke({ id: props.lock.id, token: hold.token, graceMs: Number(grace) * 1_000, why })
    },
    h(
      "p",
      null,
      "The holder is asked to leave, and is interrupted when the time below is over. If it does not hear, its " +
        "lock is renewed no more and ends by itself. Until then nobody else is let in."
    ),
    h(
      "label",
      null,
      "Time to finish, in seconds",
      h("input", {
        type: "number",
        min: 0,
        max: 600,
        step: 1,
        value: grace,
        autofocus: true,
        onInput: (event: Event) => setGrace((event.target as HTMLInputElement).value)
      })
    ),
    h(
      "label",
      null,
      "Why, for the holder’s log",
      h("input", {
        type: "text",
        maxLength: 500,
        value: why,
        placeholder: "optional",
        onInput: (event: Event) => setWhy((event.target as HTMLInputElement).value)
      })
    )
  )
}

/** Deletes a hold, which lets the next one in at once. */
export const BreakDialog = (props: DialogProps) => {
  const [typed, setTyped] = useState("")
  return h(
    Dialog,
    {
      ...props,
      title: "Break this lock: two may run",
      action: "Break the lock",
      isDangerous: true,
      isReady: typed === props.lock.key,
      act: () => breakLock({ id: props.lock.id, token: props.hold.token, confirmation: typed })
    },
    h(
      "p",
      null,
      "The hold is deleted and the next in the queue is let in at once, ",
      h("strong", null, "although its holder may still be at work"),
      ". Only fencing tokens protect what both of them change. Revoke it instead, unless its holder is a client of another " +
        "library or nothing can go wrong when two are in."
    ),
    h(
      "label",
      null,
      "Type the key to confirm",
      h("input", {
        type: "text",
        class: "mono",
        value: typed,
        autofocus: true,
        autocomplete: "off",
        spellcheck: false,
        onInput: (event: Event) => setTyped((event.target as HTMLInputElement).value)
      })
    )
  )
}

interface FrameProps extends DialogProps {
  readonly title: string
  readonly action: string
  readonly isReady: boolean
  readonly isDangerous?: boolean
  readonly act: () => Promise<Answer>
  readonly children?: ComponentChildren
}

/** The browser's own modal dialog: it keeps the focus inside, closes on Esc, and gives the focus back. */
const Dialog = (props: FrameProps) => {
  const { act, action, children, hold, isReady, lock, onAnswer, onClose, title } = props
  const element = useRef<HTMLDialogElement>(null)
  const [isBusy, setBusy] = useState(false)

  useLayoutEffect(() => {
    element.current!.showModal()
    element.current!.querySelector<HTMLElement>("input")?.focus()
  }, [])

  const submit = async (event: Event) => {
    event.preventDefault()
    if (!isReady || isBusy) return
    setBusy(true)
    try {
      onAnswer(await act())
    } catch (error) {
      onAnswer(error as Error)
    }
    element.current?.close()
  }

  return h(
    "dialog",
    { ref: element, class: props.isDangerous === true ? "danger" : "", "aria-labelledby": "dialog-title", onClose },
    h(
      "form",
      { method: "dialog", onSubmit: (event: Event) => void submit(event) },
      h(
        "header",
        null,
        h("h2", { id: "dialog-title" }, title),
        h("button", {
          type: "button",
          class: "close",
          "aria-label": "Cancel",
          onClick: () => element.current?.close()
        }, cross())
      ),
      h(
        "dl",
        null,
        h("dt", null, "Key"),
        h("dd", { class: "mono clip" }, h("bdi", null, lock.key)),
        h("dt", null, "Holder"),
        h("dd", { class: "clip" }, h("bdi", null, hold.holder)),
        h("dt", null, "Token"),
        h("dd", { class: "mono" }, hold.token)
      ),
      children,
      h(
        "footer",
        null,
        h("button", { type: "button", onClick: () => element.current?.close() }, "Cancel"),
        h("button", {
          type: "submit",
          class: props.isDangerous === true ? "primary danger" : "primary",
          disabled: !isReady || isBusy
        }, isBusy ? "Asking…" : action)
      )
    )
  )
}
