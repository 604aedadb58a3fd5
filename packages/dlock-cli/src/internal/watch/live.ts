/** The live table. */
import { Locker } from "effect-dlock/Locker"
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { shown } from "../shown.ts"
import { style } from "../text/style.ts"
import * as Controls from "./controls.ts"
import { LockTable } from "./lockTable.ts"
import * as Screen from "./screen.ts"
import type { Sight } from "./source.ts"
import { draw, rowsFor, type Size, type View } from "./view.ts"

export interface LiveOptions<E, R> {
  readonly sights: Stream.Stream<Sight, E, R>
  readonly where: string
  /** The lock that is open from the start. */
  readonly selected: string | undefined
}

/** Shows the table until somebody ends it. */
export const live = <E, R>({ selected, sights, where }: LiveOptions<E, R>) =>
  Effect.gen(function*() {
    const paint = yield* style
    const terminal = yield* Screen.take
    const table = new LockTable()
    let controls: Controls.Controls = { ...Controls.initial, selected, isOpen: selected !== undefined }
    let keys: ReadonlyArray<string> = []
    let details: LockInfo | undefined
    let [seenAt, problem]: [View["seenAt"], View["problem"]] = [undefined, undefined]
    let size: Size = { columns: yield* terminal.columns, rows: yield* terminal.rows }
    const sizes = yield* terminal.size
    const inputs = yield* terminal.readInput
    const watching = yield* FiberHandle.make<void>()

    const redraw = Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      if (size.columns === 0 || size.rows === 0) return
      // The first pass over very many locks takes a while, and a full screen is better than nothing.
      if (!table.isComplete && keys.length < enoughToShow) keys = table.keys(controls)
      const lines = draw({ table, controls, keys, details, where, seenAt, problem }, size, paint, now)
      yield* Effect.ignore(terminal.display(Screen.frame(lines)))
    })

    const see = (sight: Sight) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        switch (sight._tag) {
          case "Seen":
            return table.see(sight.info, now)
          case "Complete":
            table.complete()
            ;[seenAt, problem] = [now, undefined]
            // What a pass found is sorted once: it is drawn much more often.
            keys = table.keys(controls)
            return
          case "Failed":
            problem = shown(sight.error.message)
        }
      })

    /** Only the lock that is open is watched at each of its changes. */
    const watchSelected = Effect.suspend(() => {
      details = undefined
      const { isOpen, selected } = controls
      if (!isOpen || selected === undefined) return FiberHandle.clear(watching)
      const watched = Stream.runForEach(Locker.watchKey(selected), (info) =>
        Effect.andThen(
          Effect.map(Clock.currentTimeMillis, (now) => {
            details = info
            table.see(info, now)
          }),
          redraw
        ))
      return Effect.asVoid(FiberHandle.run(watching, Effect.ignore(watched)))
    })

    const onInput = Effect.gen(function*() {
      while (true) {
        const pressed = yield* Queue.take(inputs)
        const next = Controls.press(controls, pressed, keys, rowsFor(size, controls.isOpen, keys.length))
        if (next === undefined) return
        const isOther = next.selected !== controls.selected || next.isOpen !== controls.isOpen
        controls = next
        keys = table.keys(controls)
        if (isOther) yield* watchSelected
        yield* redraw
      }
    })

    const onResize = Effect.forever(Effect.flatMap(Queue.take(sizes), (next) => {
      size = next
      return redraw
    }))

    yield* watchSelected
    yield* redraw
    yield* Effect.raceAllFirst([
      Effect.catch(onInput, () => Effect.void),
      Effect.andThen(Effect.catch(onResize, () => Effect.void), Effect.never),
      Stream.runForEach(sights, see),
      Effect.forever(Effect.andThen(Effect.sleep(betweenFrames), redraw))
    ])
  }).pipe(Effect.scoped)

/** More rows than a screen has. */
const enoughToShow = 500

/** Milliseconds: the bars move, and nobody reads faster. */
const betweenFrames = 250
